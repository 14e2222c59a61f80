//! Counters of an `Aio`.

use std::ops::Add;

/// What an [`Aio`](crate::Aio) has done and has to do, from [`Aio::stats`](crate::Aio::stats).
///
/// `accepted` is `completed + in_flight + queued`. The figures are gathered one after the other while work
/// goes on, so they belong to about one moment, and to exactly one when the `Aio` is silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests for which `submit`, `wait` or `start` took responsibility.
    pub accepted: u64,
    /// Requests whose result was delivered: the callback has returned (or panicked), the waiter or future can
    /// see it.
    pub completed: u64,
    /// Requests that the kernel has, finished ones that it has not been asked about, and those whose callback
    /// has not returned.
    pub in_flight: u64,
    /// Requests that wait in user space for a slot of the kernel.
    pub queued: u64,
    /// How many requests may be in flight: what was asked for, or less if the machine's quota did not allow
    /// it.
    pub depth: u64,
    /// Requests that were accepted, queued, and then refused by the kernel: they completed with its errno.
    pub refused_late: u64,
    /// Callbacks, wakers and destructors that panicked.
    pub panics: u64,
    /// Calls of `io_submit`.
    pub submits: u64,
    /// Calls of `io_getevents` that slept or might have.
    pub waits: u64,
}

impl Add for Stats {
    type Output = Stats;

    /// The sums: what several contexts have done together.
    fn add(self, other: Stats) -> Stats {
        Stats {
            accepted: self.accepted + other.accepted,
            completed: self.completed + other.completed,
            in_flight: self.in_flight + other.in_flight,
            queued: self.queued + other.queued,
            depth: self.depth + other.depth,
            refused_late: self.refused_late + other.refused_late,
            panics: self.panics + other.panics,
            submits: self.submits + other.submits,
            waits: self.waits + other.waits,
        }
    }
}
