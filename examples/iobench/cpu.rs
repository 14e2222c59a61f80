//! The processor time that this process has used.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// User and system time of all threads, living and gone, in nanoseconds.
pub(crate) fn nanos() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("RUSAGE_SELF is always there");
    of(usage.user_time()) + of(usage.system_time())
}

fn of(time: TimeVal) -> f64 {
    time.tv_sec() as f64 * 1e9 + time.tv_usec() as f64 * 1e3
}
