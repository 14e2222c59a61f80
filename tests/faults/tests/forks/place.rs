//! Where the fork happens.

use std::sync::Arc;

use kiocb::buf::IoBuf;
use kiocb::op::Write;

use crate::deed::{end, is_forked};
use crate::ledger::in_child;
use crate::world::{Loose, World, fork_here, forking_handle, world};

/// Whose user code forks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Callback,
    Waker,
    Destructor,
    Logger,
}

/// Records with callbacks that are there together, so that some are behind the one that forks.
const BATCH: std::ops::Range<u8> = 0..6;
/// What a callback says when it panics so that the logger forks.
pub(crate) const WANTED: &str = "this callback panics, and the logger forks";
/// What the callback that forks has submitted before: it is plugged.
const PLUGGED: std::ops::Range<u8> = 6..9;
/// The record whose buffer's destructor forks.
const ABANDONED: u8 = 41;

impl Place {
    /// Submits what will fork when it is reaped, and more behind it.
    pub(crate) fn lay(self, world: &World, loose: &mut Loose) {
        match self {
            Place::Callback => lay_batch(world, |id| {
                world.ledger.call(id);
                if id == BATCH.start {
                    plug_some();
                    fork_here();
                }
            }),
            Place::Logger => lay_batch(world, |id| {
                world.ledger.call(id);
                assert!(id != BATCH.start, "{WANTED}");
            }),
            Place::Waker => {
                let (handle, bell) = forking_handle(world.aio());
                loose.handles.push(handle);
                loose.bells.push(bell);
                lay_batch(world, |id| world.ledger.call(id));
            }
            Place::Destructor => lay_abandoned(world, loose),
        }
    }
}

fn lay_batch(world: &World, call: impl Fn(u8) + Send + Clone + 'static) {
    for id in BATCH {
        let call = call.clone();
        let request = world.record(id).init_callback(move |_| call(id));
        if in_child() {
            // Forked by the callback of the one before, inside its `submit`.
            end(|| is_forked(request.submit().unwrap_err().error()));
        }
        world.ledger.owe(id);
        request.submit().unwrap();
    }
}

fn plug_some() {
    let world = world();
    for id in PLUGGED.filter(|_| world.plugs) {
        world.ledger.owe(id);
        let request = world
            .record(id)
            .init_callback(move |_| world.ledger.call(id));
        request.submit().unwrap();
    }
}

/// Behind a request that has the last slot, one whose handle is dropped.
fn lay_abandoned(world: &World, loose: &mut Loose) {
    let (reader, bell) = std::io::pipe().unwrap();
    let blocker = world
        .aio()
        .alloc()
        .init_poll(reader, kiocb::PollFlags::IN)
        .start();
    loose.handles.push(blocker.unwrap());
    loose.bells.push(bell);
    let file = Arc::clone(&world.file);
    let request = world
        .aio()
        .alloc()
        .init_rw(file, Write, Forking([ABANDONED]), 0);
    world.ledger.accept(ABANDONED);
    drop(request.start().unwrap());
    lay_batch(world, |id| world.ledger.call(id));
}

/// A buffer that forks when it is dropped.
struct Forking([u8; 1]);

// SAFETY: passed on to a type that keeps the promise; the buffer is in memory of its own as the static below.
unsafe impl IoBuf for Forking {
    fn buf_ptr(&self) -> *const u8 {
        static BYTES: [u8; 1] = [ABANDONED];
        BYTES.as_ptr()
    }

    fn buf_len(&self) -> usize {
        self.0.len()
    }
}

impl Drop for Forking {
    fn drop(&mut self) {
        fork_here();
    }
}

/// Forks when the crate says that a callback has panicked.
#[derive(Debug)]
pub(crate) struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().contains("a callback panicked") {
            fork_here();
        }
    }

    fn flush(&self) {}
}
