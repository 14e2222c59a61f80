//! A clock cheap enough for every `io_submit`: coarse (milliseconds), 3 ns to read, and exact enough to notice a submission that blocked.

use nix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A submission that takes longer is reported.
const SLOW: Duration = Duration::from_millis(100);
/// But not more often than this: a program that blocks once may block all the time.
const QUIET: Duration = Duration::from_secs(1);

/// Milliseconds, of the coarse clock, at the last report.
static LAST_REPORT: AtomicU64 = AtomicU64::new(0);

/// The time since some fixed point, in steps of some milliseconds.
pub(super) fn coarse() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from)
}

/// Tells the operator of an `io_submit` that blocked: `head` is descriptor and opcode of the first request it was given.
pub(super) fn report_if_slow(started: Duration, head: Option<(u32, u16)>) {
    let now = coarse();
    let took = now.saturating_sub(started);
    if took >= SLOW && is_time_to_report(now) {
        let (fd, opcode) = head.unwrap_or_default();
        log::warn!(
            "io_submit blocked for {} ms (first of its requests: descriptor {fd}, opcode {opcode}); the kernel does \
             buffered I/O and writes that extend a file inside the call: open with O_DIRECT and preallocate",
            took.as_millis()
        );
    }
}

fn is_time_to_report(now: Duration) -> bool {
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let last = LAST_REPORT.load(Ordering::Relaxed);
    // Relaxed: only the number matters, and of two reporters at once the exchange lets one through.
    let due = last == 0 || now.saturating_sub(last) >= QUIET.as_millis() as u64;
    due && LAST_REPORT
        .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
        .is_ok()
}
