//! Counters of an `Aio`.

use std::iter::Sum;
use std::ops::{Add, Sub};

/// What an [`Aio`](crate::Aio) has done and has to do, from [`Aio::stats`](crate::Aio::stats).
///
/// `accepted` is `completed + in_flight + queued`. The figures are read one after the other while work goes
/// on. They belong to about one moment, and to exactly one while nothing is outstanding.
///
/// Two snapshots can be subtracted, and those of several contexts added:
///
/// ```
/// use kiocb::op::Read;
/// use kiocb::{Aio, Dispatch, Stats};
///
/// # fn main() -> std::io::Result<()> {
/// let aio = Aio::builder().dispatch(Dispatch::Manual).build()?;
/// let before = aio.stats();
/// let zeroes = std::fs::File::open("/dev/zero")?;
/// let (count, ..) = aio.alloc().init_rw(zeroes, Read, vec![1; 512], 0).wait()?.ok()?;
/// assert_eq!(count, 512);
/// assert_eq!((aio.stats() - before).completed, 1);
/// let both: Stats = [before, aio.stats()].iter().sum();
/// assert_eq!(both.completed, before.completed + aio.stats().completed);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "the figures are all that this does"]
pub struct Stats {
    /// Requests for which `submit`, `wait` or `start` took responsibility.
    pub accepted: u64,
    /// Requests whose result was delivered: the callback has returned (or panicked), the waiter or future can
    /// see it.
    pub completed: u64,
    /// Requests that the kernel has, those whose event has not been taken, and those whose callback has not
    /// returned.
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
    /// Calls of `io_submit` that took 100 milliseconds or more: the kernel carried out a request inside the
    /// call, or waited for the device.
    pub blocked: u64,
    /// How long those took together, in milliseconds.
    pub blocked_millis: u64,
    /// The most requests that have waited at once in user space for a slot; with shards, in one of them. The
    /// sum of several contexts has the largest, and a difference that of the later snapshot.
    pub longest_backlog: u64,
    /// Calls of `io_getevents` that slept or might have.
    pub waits: u64,
    /// Answers of the kernel that claimed more bytes than it was asked for, and were cut down. This one is of
    /// the whole process, so a sum of several contexts has it once. A healthy kernel gives none.
    pub excesses: u64,
}

impl Stats {
    /// Each figure of the one with the same figure of the other.
    fn combine(self, other: Stats, figure: impl Fn(u64, u64) -> u64) -> Stats {
        Stats {
            accepted: figure(self.accepted, other.accepted),
            completed: figure(self.completed, other.completed),
            in_flight: figure(self.in_flight, other.in_flight),
            queued: figure(self.queued, other.queued),
            depth: figure(self.depth, other.depth),
            refused_late: figure(self.refused_late, other.refused_late),
            panics: figure(self.panics, other.panics),
            submits: figure(self.submits, other.submits),
            blocked: figure(self.blocked, other.blocked),
            blocked_millis: figure(self.blocked_millis, other.blocked_millis),
            longest_backlog: self.longest_backlog,
            waits: figure(self.waits, other.waits),
            excesses: figure(self.excesses, other.excesses),
        }
    }
}

impl Add for Stats {
    type Output = Stats;

    /// The sums: what several contexts have done together.
    fn add(self, other: Stats) -> Stats {
        Stats {
            excesses: self.excesses.max(other.excesses),
            longest_backlog: self.longest_backlog.max(other.longest_backlog),
            ..self.combine(other, |one, other| one + other)
        }
    }
}

impl Sub for Stats {
    type Output = Stats;

    /// The differences: what was done between an earlier snapshot, on the right, and a later one. Where a
    /// figure has become less (`in_flight`, `queued`) the difference is 0.
    fn sub(self, earlier: Stats) -> Stats {
        self.combine(earlier, u64::saturating_sub)
    }
}

impl Sum for Stats {
    fn sum<I: Iterator<Item = Stats>>(all: I) -> Stats {
        all.fold(Stats::default(), Add::add)
    }
}

impl<'a> Sum<&'a Stats> for Stats {
    fn sum<I: Iterator<Item = &'a Stats>>(all: I) -> Stats {
        all.copied().sum()
    }
}
