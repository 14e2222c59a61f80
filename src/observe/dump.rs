//! What is outstanding at one moment.

use crate::stats::Stats;
use crate::sys::{
    IOCB_CMD_FDSYNC, IOCB_CMD_FSYNC, IOCB_CMD_POLL, IOCB_CMD_PREAD, IOCB_CMD_PREADV,
    IOCB_CMD_PWRITE, IOCB_CMD_PWRITEV,
};
use std::fmt;
use std::time::Duration;

/// What is outstanding in an [`Aio`](crate::Aio) at one moment, from [`Aio::dump`](crate::Aio::dump): the
/// observed requests, oldest first. Printed with `{}`, it has a line of figures and a line for each.
#[derive(Clone, Debug)]
#[must_use = "a dump is to be read"]
pub struct Dump {
    name: String,
    stats: Stats,
    every: u32,
    requests: Vec<RequestState>,
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// Accepted, and neither queued nor passed to `io_submit` yet: a callback has submitted it, and it leaves
    /// with others when the round of callbacks is over.
    Gathered,
    /// In user space, until a slot of the kernel is free.
    Queued,
    /// Passed to `io_submit`, which may not have returned yet; and from there until its event is taken.
    Kernel,
    /// Between two submissions: the rest of a short transfer, or what would have blocked and is left to the
    /// helper thread.
    Resuming,
    /// Complete: its callback, or the drop of its buffer and file where no one waits for it any more, is due.
    Deferred,
    /// Its callback runs, or its buffer and file are being dropped.
    Callback,
}

/// One outstanding request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestState {
    /// The time since the request was accepted.
    pub age: Duration,
    /// Where it is.
    pub place: Place,
    /// For how long it has been there. For what is gathered or queued: since it was accepted, or came back
    /// from the kernel.
    pub there: Duration,
    /// Whether its handle was dropped, so that no one waits for its result.
    pub abandoned: bool,
    /// The number of the file's descriptor when it was submitted. The program may have closed it since.
    pub fd: i32,
    /// What it does: one of the `IOCB_CMD_*` in [`sys`](crate::sys).
    pub opcode: u16,
    /// Where in the file, in bytes; 0 for what has no offset. After a short transfer that goes on: where it
    /// began.
    pub offset: u64,
    /// How many bytes; of a vectored transfer, how many buffers; 0 for syncs and waits for readiness.
    pub length: u64,
    /// Which of the context's shards has it, from 0. Beyond the last shard: a small context of a thread that
    /// waits ([`AioBuilder::depth`](crate::AioBuilder::depth)).
    pub shard: usize,
}

impl Dump {
    pub(crate) fn new(
        name: String,
        stats: Stats,
        every: u32,
        mut requests: Vec<RequestState>,
    ) -> Dump {
        requests.sort_by_key(|request| std::cmp::Reverse(request.age));
        Dump {
            name,
            stats,
            every,
            requests,
        }
    }

    /// The observed requests that are outstanding, oldest first.
    pub fn requests(&self) -> &[RequestState] {
        &self.requests
    }

    /// The one that was accepted first.
    pub fn oldest(&self) -> Option<&RequestState> {
        self.requests.first()
    }

    /// The counters at about the same moment.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Place::Gathered => "gathered",
            Place::Queued => "queued",
            Place::Kernel => "in the kernel",
            Place::Resuming => "between two submissions",
            Place::Deferred => "complete, its callback is due",
            Place::Callback => "in its callback",
        })
    }
}

impl RequestState {
    /// The name of [`opcode`](RequestState::opcode): `pread`, `pwrite`, `preadv`, `pwritev`, `fsync`, `fdsync`
    /// or `poll`.
    pub fn operation(&self) -> &'static str {
        match self.opcode {
            IOCB_CMD_PREAD => "pread",
            IOCB_CMD_PWRITE => "pwrite",
            IOCB_CMD_PREADV => "preadv",
            IOCB_CMD_PWRITEV => "pwritev",
            IOCB_CMD_FSYNC => "fsync",
            IOCB_CMD_FDSYNC => "fdsync",
            IOCB_CMD_POLL => "poll",
            _ => "unknown",
        }
    }
}

/// One line: `12.345678 s old, in the kernel for 12.345001 s: pread fd 7, 4096 at 81920`.
impl fmt::Display for RequestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (age, there) = (self.age.as_secs_f64(), self.there.as_secs_f64());
        let (place, operation, fd) = (self.place, self.operation(), self.fd);
        write!(
            f,
            "{age:.6} s old, {place} for {there:.6} s: {operation} fd {fd}"
        )?;
        if self.length > 0 {
            write!(f, ", {} at {}", self.length, self.offset)?;
        }
        if self.abandoned {
            f.write_str(", abandoned")?;
        }
        Ok(())
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats {
            in_flight,
            queued,
            depth,
            ..
        } = self.stats;
        let (name, count) = (&self.name, self.requests.len());
        write!(
            f,
            "{name}: {in_flight} in flight, {queued} queued, depth {depth}; "
        )?;
        match self.every {
            0 if count == 0 => return f.write_str("no requests are observed"),
            0 => write!(f, "{count} observed before that was turned off")?,
            1 => write!(f, "{count} observed")?,
            every => write!(f, "{count} observed, of every {every} one")?,
        }
        self.requests
            .iter()
            .try_for_each(|request| write!(f, "\n  {request}"))
    }
}
