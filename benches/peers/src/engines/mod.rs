//! The ways to read a file, one per module: kiocb's are iobench's own files, and so are the yardstick and the
//! threads with `pread`; the peers' are here.

use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::job::Job;
use contexts::{count_syscalls, manual_contexts};
use threads::{on_threads, spawn};

mod aligned;
mod compio;
mod io_uring;
mod linux_aio_tokio;
mod one_context;
mod tokio_fs;
mod tokio_uring;
mod vmm_sys_util;

#[path = "../../../../examples/iobench/engines/batch.rs"]
mod batch;
#[path = "../../../../examples/iobench/engines/callback.rs"]
mod callback;
#[path = "../../../../examples/iobench/engines/contexts.rs"]
mod contexts;
#[path = "../../../../examples/iobench/engines/flight.rs"]
mod flight;
#[path = "../../../../examples/iobench/engines/future.rs"]
mod future;
#[path = "../../../../examples/iobench/engines/manual.rs"]
mod manual;
#[path = "../../../../examples/iobench/engines/pread.rs"]
mod pread;
#[path = "../../../../examples/iobench/engines/raw.rs"]
mod raw;
#[path = "../../../../examples/iobench/engines/threads.rs"]
mod threads;
#[path = "../../../../examples/iobench/engines/wait.rs"]
mod wait;

/// One way to read a file.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    pub(crate) whose: Whose,
    /// Which groups it is tried with, of those that `Groups` names.
    pub(crate) groups: Groups,
    /// Whether a loop keeps one request in flight.
    pub(crate) one_at_a_time: bool,
    /// Keeps requests in flight until the job enters `Phase::Stop`; returns when the last one is back.
    pub(crate) run: fn(&Arc<Job>) -> io::Result<()>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Whose {
    Ours,
    Yardstick,
    Peer,
}

/// How many submissions leave together: what an engine's user can choose.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Groups {
    /// The engine's own affair.
    Own,
    /// Each of these, and all that are ready.
    Each(&'static [usize]),
    /// An eighth of the depth, and all that are ready.
    Eighth,
}

/// In the order of the record.
pub(crate) const ENGINES: &[Engine] = &[
    engine("raw", Whose::Yardstick, raw::run).grouped(Groups::Each(&[1, 2, 4, 8, 16, 32])),
    engine("callback", Whose::Ours, callback::on_its_thread),
    engine("anywhere", Whose::Ours, callback::anywhere),
    engine("manual", Whose::Ours, manual::run),
    engine("future", Whose::Ours, future::together),
    engine("await", Whose::Ours, future::one_by_one),
    engine("batch", Whose::Ours, batch::run),
    engine("wait", Whose::Ours, wait::run).one_at_a_time(),
    engine("read_at", Whose::Ours, one_context::read_at).one_at_a_time(),
    engine("batch on one context", Whose::Ours, one_context::batches),
    engine("io-uring", Whose::Peer, io_uring::run).grouped(Groups::Eighth),
    engine("tokio-uring", Whose::Peer, tokio_uring::run),
    engine("compio", Whose::Peer, compio::run),
    engine("linux-aio-tokio", Whose::Peer, linux_aio_tokio::run),
    engine("vmm-sys-util", Whose::Peer, vmm_sys_util::run).grouped(Groups::Eighth),
    engine("tokio::fs", Whose::Peer, tokio_fs::run),
    engine("pread", Whose::Peer, pread::run),
];

const fn engine(name: &'static str, whose: Whose, run: fn(&Arc<Job>) -> io::Result<()>) -> Engine {
    Engine {
        name,
        whose,
        groups: Groups::Own,
        one_at_a_time: false,
        run,
    }
}

impl Engine {
    const fn grouped(self, groups: Groups) -> Engine {
        Engine { groups, ..self }
    }

    const fn one_at_a_time(self) -> Engine {
        Engine {
            one_at_a_time: true,
            ..self
        }
    }

    pub(crate) fn named(name: &str) -> Option<&'static Engine> {
        ENGINES.iter().find(|engine| engine.name == name)
    }

    /// The groups to try at a depth; `None` is all that are ready.
    pub(crate) fn groups(&self, depth: usize) -> Vec<Option<usize>> {
        let smaller = match self.groups {
            Groups::Own => vec![],
            Groups::Each(groups) => groups.to_vec(),
            Groups::Eighth => vec![depth / 8],
        };
        let smaller = smaller
            .into_iter()
            .filter(|group| (1..depth).contains(group));
        smaller.map(Some).chain([None]).collect()
    }
}

/// For peers that open files themselves: the job's file, by the name that /proc has for it.
fn path(job: &Job) -> PathBuf {
    format!("/proc/self/fd/{}", job.file.as_raw_fd()).into()
}

/// For peers that open files with flags of the caller's: those that the job's file has.
fn open_flags(job: &Job) -> i32 {
    let flags = fcntl(&*job.file, FcntlArg::F_GETFL).unwrap_or(0);
    (OFlag::from_bits_truncate(flags) & OFlag::O_DIRECT).bits()
}
