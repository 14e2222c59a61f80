//! kiocb as it is meant to be used under load: each request's callback submits the next one, on the
//! completion thread, or (`anywhere`) on whichever thread finds the event.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;

use kiocb::{Aio, Dispatch};

use super::{count_syscalls, flight, on_threads};
use crate::job::Job;

pub(crate) fn on_its_thread(job: &Arc<Job>) -> io::Result<()> {
    run(job, Dispatch::Thread)
}

pub(crate) fn anywhere(job: &Arc<Job>) -> io::Result<()> {
    run(job, Dispatch::Anywhere)
}

fn run(job: &Arc<Job>, dispatch: Dispatch) -> io::Result<()> {
    let depth = u32::try_from(job.depth).map_err(io::Error::other)?;
    let builder = Aio::builder().depth(depth).shards(job.threads);
    let aio = builder.dispatch(dispatch).build()?;
    count_syscalls(job, [aio.clone()]);
    let (landed, all_landed) = channel();
    on_threads(job.threads, |index| {
        flight::launch_all(job, &aio, index, &landed)
    })?;
    drop(landed);
    // Comes back with an error, there being no sender left: that is what is waited for.
    let _ = all_landed.recv();
    flight::outcome()
}
