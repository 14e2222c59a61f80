//! The contexts of kiocb's engines.

use std::io;

use kiocb::{Aio, Dispatch};

use crate::job::Job;

/// For loops that reap for themselves: a context for each, without a thread of its own.
pub(super) fn manual_contexts(job: &Job) -> io::Result<Vec<Aio>> {
    let depth = u32::try_from(job.depth).map_err(io::Error::other)?;
    let builder = Aio::builder().depth(depth).dispatch(Dispatch::Manual);
    (0..job.threads).map(|_| builder.clone().build()).collect()
}

/// For kiocb's engines: the contexts count their own system calls.
pub(super) fn count_syscalls(job: &Job, contexts: impl IntoIterator<Item = Aio>) {
    let contexts: Vec<Aio> = contexts.into_iter().collect();
    job.count_syscalls_by(move || {
        let stats = contexts.iter().map(Aio::stats);
        stats.map(|stats| stats.submits + stats.waits).sum()
    });
}
