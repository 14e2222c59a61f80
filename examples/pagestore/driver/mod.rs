//! The ways to run the engine, behind one seam: a driver carries out what the engine asks ([`Io`](crate::io::Io)),
//! and lets clients go on when their answers come.
//!
//! A [`Client`] is what a program has to do, one transaction after the other. So the same clients run as threads
//! that block (`threads`), in callbacks on the completion thread (`callbacks`), and in a loop of one thread
//! (`per_core`).

mod callbacks;
mod per_core;
mod threads;

use crate::Result;
use crate::engine::Engine;
use crate::store::Store;
use crate::tx::{Body, Reply};

/// One transaction at a time.
pub(crate) trait Client: Send {
    /// The next transaction, after the answer to the one before; `None` ends it.
    fn next(&mut self, answer: Option<Reply>) -> Option<Body>;
}

pub(crate) type Clients = Vec<Box<dyn Client>>;

/// Runs clients on a store until each has ended, and then makes a last checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Driver {
    Callbacks,
    PerCore,
    Threads,
}

pub(crate) const DRIVERS: [(&str, Driver); 3] = [
    ("callbacks", Driver::Callbacks),
    ("per-core", Driver::PerCore),
    ("threads", Driver::Threads),
];

/// What a run did to the files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) page_reads: u64,
    pub(crate) batches: u64,
}

impl Driver {
    pub(crate) fn name(self) -> &'static str {
        let named = DRIVERS.iter().find(|(_, driver)| *driver == self);
        named.expect("it is in the table").0
    }

    pub(crate) fn run(self, store: Store, clients: Clients) -> Result<Counts> {
        match self {
            Driver::Callbacks => callbacks::run(store, clients),
            Driver::PerCore => per_core::run(store, clients),
            Driver::Threads => threads::run(store, clients),
        }
    }
}

/// What came of a run.
fn outcome(engine: &Engine) -> Result<Counts> {
    if let Some(failure) = engine.failure() {
        return Err(failure.into());
    }
    let (page_reads, batches) = engine.counts();
    Ok(Counts {
        page_reads,
        batches,
    })
}
