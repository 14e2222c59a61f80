//! Everything at once on real files, for as long as you like: all ways to submit and to wait, on several threads,
//! every byte checked.
//!
//! A round makes a context, lets the threads use it for some seconds, ends it, and then looks at the sums: each
//! request ended once, the counters balance, each page of each file has the bytes that were written last, and
//! memory, descriptors, threads and contexts are back at what they were. While nothing completes for some
//! seconds, it prints what the context says of each request. `.ci/soak` runs it on several file systems, on a
//! loop device and on a file server that delays, reorders and fails.

#![allow(
    clippy::cast_possible_truncation,
    reason = "choices among few, and milliseconds"
)]

mod borrowed;
mod callbacks;
mod contexts;
mod groups;
#[path = "../iobench/interrupt.rs"]
#[allow(dead_code, reason = "the other example uses all of it")]
mod interrupt;
mod ledger;
mod options;
mod process;
#[path = "../iobench/rng.rs"]
mod rng;
mod round;
mod store;
mod streams;
mod syncs;
#[path = "../iobench/units.rs"]
#[allow(dead_code, reason = "as above")]
mod units;
mod waits;
mod watch;
mod worker;

use ledger::Ledger;
use options::Options;
use process::Process;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use store::Stores;
use watch::Watch;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    match run() {
        Ok(true) => {
            interrupt::pass_on();
            ExitCode::SUCCESS
        }
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether all was well.
fn run() -> Result<bool> {
    let Some(options) = Options::from_args()? else {
        return Ok(true);
    };
    interrupt::watch()?;
    let ledger = Arc::new(Ledger::default());
    let mut stores = Stores::open(&options)?;
    let watch = Watch::start(&options, &ledger);
    let end = Instant::now() + options.time;
    let mut process = Process::new();
    let mut rounds = 0;
    while Instant::now() < end && !interrupt::came() && ledger.is_well() {
        round::run(&options, rounds, end, &mut stores, &ledger, &watch)?;
        process.check(&ledger);
        rounds += 1;
    }
    watch.end();
    drop(stores);
    println!("{}", ledger.report(&options, rounds, &process));
    Ok(ledger.is_well())
}
