//! Noticing an `io_submit` that blocked, with a clock cheap enough to be read at each: coarse (milliseconds), 3 ns.

use crate::sys::clock::{Tick, coarse};
use std::sync::atomic::{AtomicU64, Ordering};

/// A submission that takes longer is reported: milliseconds.
const SLOW: u64 = 100;
/// But not more often than this: a program that blocks once may block all the time.
const QUIET: u64 = 1000;

/// Milliseconds, of the coarse clock, at the last report.
static LAST_REPORT: AtomicU64 = AtomicU64::new(0);

/// The time at which a submission begins.
pub(super) fn now() -> Tick {
    coarse()
}

/// Tells the operator of an `io_submit` that blocked: `head` is descriptor and opcode of the first request it was given.
pub(super) fn report_if_slow(started: Tick, head: Option<(u32, u16)>) {
    let now = coarse();
    // Most calls begin and end in the same tick.
    if now != started {
        report(
            now.millis(),
            now.millis().saturating_sub(started.millis()),
            head,
        );
    }
}

#[cold]
fn report(now: u64, took: u64, head: Option<(u32, u16)>) {
    if took >= SLOW && is_time_to_report(now) {
        let (fd, opcode) = head.unwrap_or_default();
        log::warn!(
            "io_submit blocked for {took} ms (first of its requests: descriptor {fd}, opcode {opcode}); the kernel does \
             buffered I/O and writes that extend a file inside the call: open with O_DIRECT and preallocate"
        );
    }
}

fn is_time_to_report(now: u64) -> bool {
    let last = LAST_REPORT.load(Ordering::Relaxed);
    let due = last == 0 || now.saturating_sub(last) >= QUIET;
    // Relaxed: only the number matters, and of two reporters at once the exchange lets one through.
    due && LAST_REPORT
        .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
        .is_ok()
}
