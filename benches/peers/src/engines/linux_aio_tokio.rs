//! linux-aio-tokio: kernel AIO under tokio. A runtime of one thread and a context without locks for each loop
//! (its `local_aio_context`), a task for each request in flight. Its buffers are its own, locked in memory.

use std::fs::OpenOptions;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use linux_aio_tokio::{
    AioOpenOptionsExt, File, LocalAioContextHandle, LockedBuf, ReadFlags, local_aio_context,
};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};

use super::{on_threads, path};
use crate::job::Job;
use crate::slot::Slot;

pub(super) fn run(job: &Arc<Job>) -> io::Result<()> {
    on_threads(job.threads, |index| {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, drive_all(job, index))
    })
}

async fn drive_all(job: &Arc<Job>, index: usize) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true);
    let file = Rc::new(options.aio_open(path(job), false).await?);
    let (_context, handle, background) =
        local_aio_context(job.depth, true).map_err(io::Error::other)?;
    let reaper = spawn_local(background);
    let tasks: Vec<_> = job
        .slots(index)
        .map(|slot| {
            let (file, handle) = (Rc::clone(&file), handle.clone());
            let bytes = job.bs;
            spawn_local(async move { drive(&file, &handle, slot, bytes).await })
        })
        .collect();
    for task in tasks {
        task.await.map_err(io::Error::other)??;
    }
    reaper.abort(); // its `close` may wait for ever, and nothing is in flight any more
    Ok(())
}

async fn drive(
    file: &File,
    handle: &LocalAioContextHandle,
    mut slot: Slot,
    bytes: usize,
) -> io::Result<()> {
    let mut buffer = LockedBuf::with_size(bytes).map_err(io::Error::other)?;
    while slot.goes_on() {
        let offset = slot.begin(buffer.as_mut());
        let read = file.read_at(
            handle,
            offset,
            &mut buffer,
            bytes as u64,
            ReadFlags::empty(),
        );
        let result = read.await.map_err(io::Error::other);
        let result = result.and_then(|bytes| usize::try_from(bytes).map_err(io::Error::other));
        slot.end(result, buffer.as_ref());
    }
    Ok(())
}
