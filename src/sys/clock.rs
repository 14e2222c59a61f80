//! The coarse monotonic clock: the vDSO's copy of the last timer tick, without a system call.

#[cfg(not(all(test, any(loom, shuttle))))]
use super::syscall::clock_coarse;

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
#[cfg(not(all(test, any(loom, shuttle))))]
#[inline]
pub(crate) fn coarse() -> Tick {
    let now = clock_coarse();
    Tick {
        seconds: now.tv_sec,
        nanos: now.tv_nsec,
    }
}

/// A simulation has one clock.
#[cfg(all(test, shuttle))]
pub(crate) fn coarse() -> Tick {
    let now = crate::sync::clock();
    Tick {
        seconds: now.as_secs().cast_signed(),
        nanos: now.subsec_nanos().into(),
    }
}

/// In a model it stands still: how long this machine takes for a step must not choose another step.
#[cfg(all(test, loom))]
pub(crate) fn coarse() -> Tick {
    Tick {
        seconds: 1,
        nanos: 0,
    }
}
