//! `tokio::fs`, or rather what it does inside: a thread of the blocking pool for each read. Its own `File`
//! reads into a buffer that is not aligned, which O_DIRECT refuses; its documentation sends programs that want
//! more to `spawn_blocking` with a file of the standard library.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use kiocb::AlignedBuf;
use tokio::runtime::Builder;
use tokio::task::{JoinSet, spawn_blocking};

use crate::job::Job;
use crate::slot::Slot;

pub(super) fn run(job: &Arc<Job>) -> io::Result<()> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(job.threads)
        .max_blocking_threads(job.threads * job.depth)
        .build()?;
    runtime.block_on(drive_all(job))
}

async fn drive_all(job: &Arc<Job>) -> io::Result<()> {
    let mut tasks = JoinSet::new();
    for index in 0..job.threads {
        for slot in job.slots(index) {
            tasks.spawn(drive(Arc::clone(job), slot, job.buffer()));
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    Ok(())
}

async fn drive(job: Arc<Job>, mut slot: Slot, mut buffer: AlignedBuf) -> io::Result<()> {
    while slot.goes_on() {
        let offset = slot.begin(&mut buffer);
        let file = Arc::clone(&job.file);
        let read = spawn_blocking(move || {
            let result = file.read_at(&mut buffer, offset);
            (result, buffer)
        });
        let (result, back) = read.await.map_err(io::Error::other)?;
        buffer = back;
        slot.end(result, &buffer);
    }
    Ok(())
}
