//! kiocb for a program with a loop of its own: a context for each thread, whose callbacks run inside `poll`,
//! and no other thread.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;

use kiocb::Aio;

use super::{count_syscalls, flight, manual_contexts, on_threads};
use crate::job::{Job, Phase};

pub(crate) fn run(job: &Arc<Job>) -> io::Result<()> {
    let contexts = manual_contexts(job)?;
    count_syscalls(job, contexts.clone());
    on_threads(job.threads, |index| drive(job, &contexts[index], index))?;
    flight::outcome()
}

fn drive(job: &Arc<Job>, aio: &Aio, index: usize) -> io::Result<()> {
    flight::launch_all(job, aio, index, &channel().0)?; // nobody waits for the landings but this loop
    // Nothing is delivered when nothing is in flight: then all callbacks met an error.
    while !job.is(Phase::Stop) && aio.poll(1, usize::MAX, None)? > 0 {}
    aio.drain()
}
