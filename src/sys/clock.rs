//! The coarse monotonic clock: the vDSO's copy of the last timer tick, without a system call.
#![allow(unsafe_code, reason = "passes an address to clock_gettime")]

/// A moment, exact to some milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tick {
    seconds: i64,
    nanos: i64,
}

impl Tick {
    /// Milliseconds since some fixed point.
    pub(crate) fn millis(self) -> u64 {
        self.seconds.unsigned_abs() * 1000 + self.nanos.unsigned_abs() / 1_000_000
    }
}

/// Now. Where there is no such clock it stands still.
#[inline]
pub(crate) fn coarse() -> Tick {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a timespec of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    Tick {
        seconds: now.tv_sec,
        nanos: now.tv_nsec,
    }
}
