//! Noticing an `io_submit` that blocked, by a clock that is cheap enough to be read at each call: coarse
//! (milliseconds), 3 ns.

use crate::sys::clock::{Tick, coarse};
use crate::user_code;
use std::sync::atomic::{AtomicU64, Ordering};

/// A submission that takes longer is reported: milliseconds.
const SLOW: u64 = 100;
/// A round of callbacks that takes longer is slow: milliseconds, two ticks of the slowest clock (100 Hz).
const LONG: u64 = 20;
/// The shortest time between two reports, in milliseconds: a program that blocks once may block all the time.
const QUIET: u64 = 1000;

/// Milliseconds, of the coarse clock, at the last report.
static LAST_REPORT: AtomicU64 = AtomicU64::new(0);

/// The time at which a submission begins.
#[inline]
pub(super) fn now() -> Tick {
    coarse()
}

/// Whether callbacks that began then have taken too long: more than a tick, which may pass at any moment.
pub(super) fn is_long_since(began: Tick) -> bool {
    let now = coarse();
    now != began && now.millis().saturating_sub(began.millis()) >= LONG
}

/// What is logged about a submission.
#[derive(Debug)]
pub(super) enum Trouble {
    /// `io_submit` blocked; `head` is descriptor and opcode of the first request it was given.
    Blocked {
        millis: u64,
        head: Option<(u32, u16)>,
    },
    /// Every try returned EAGAIN, with nothing in flight.
    Stalled,
}

/// Returns how many milliseconds have passed, if they are too many.
#[inline]
pub(super) fn slow_since(started: Tick) -> Option<u64> {
    let now = coarse();
    if now == started {
        return None; // the same tick, as a rule
    }
    let took = now.millis().saturating_sub(started.millis());
    (took >= SLOW).then_some(took)
}

/// Logs it, but reports of blocking not too often.
#[cold]
pub(super) fn report(name: &str, trouble: &Trouble) {
    match trouble {
        Trouble::Stalled => user_code::error(format_args!(
            "{name}: io_submit returns EAGAIN again and again with nothing in flight: the kernel has no memory for requests"
        )),
        Trouble::Blocked { millis, head } if is_time_to_report(coarse().millis()) => {
            let (fd, opcode) = head.unwrap_or_default();
            user_code::warn(format_args!(
                "{name}: io_submit blocked for {millis} ms (first of its requests: descriptor {fd}, opcode {opcode}); the kernel does \
                 buffered I/O and writes that extend a file inside the call: open with O_DIRECT and preallocate"
            ));
        }
        Trouble::Blocked { .. } => {}
    }
}

fn is_time_to_report(now: u64) -> bool {
    // Relaxed: only the number matters, and of two threads at once the exchange lets one report.
    let last = LAST_REPORT.load(Ordering::Relaxed);
    let due = last == 0 || now.saturating_sub(last) >= QUIET;
    due && LAST_REPORT
        .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocking_is_reported_once_in_a_second() {
        let began = u64::MAX / 2; // later than any true report
        let times = [0, 1, QUIET - 1, QUIET, QUIET + 1, 2 * QUIET];
        let due = times.map(|time| is_time_to_report(began + time));
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
