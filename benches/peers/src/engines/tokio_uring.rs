//! tokio-uring: a runtime for each loop, a task for each request in flight.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::aligned::Aligned;
use super::on_threads;
use crate::job::Job;
use crate::slot::Slot;
use tokio_uring::fs::File;

pub(super) fn run(job: &Arc<Job>) -> io::Result<()> {
    on_threads(job.threads, |index| {
        let entries = u32::try_from(job.depth.next_power_of_two()).map_err(io::Error::other)?;
        let own = job.file.try_clone()?;
        tokio_uring::builder()
            .entries(entries)
            .start(drive_all(job, index, own))
    })
}

async fn drive_all(job: &Arc<Job>, index: usize, own: std::fs::File) -> io::Result<()> {
    let file = Rc::new(File::from_std(own));
    let tasks: Vec<_> = job
        .slots(index)
        .map(|slot| {
            let (file, buffer) = (Rc::clone(&file), Aligned(job.buffer()));
            tokio_uring::spawn(async move { drive(&file, slot, buffer).await })
        })
        .collect();
    for task in tasks {
        task.await.map_err(io::Error::other)?;
    }
    Ok(())
}

async fn drive(file: &File, mut slot: Slot, mut buffer: Aligned) {
    while slot.goes_on() {
        let offset = slot.begin(&mut buffer.0);
        let (result, back) = file.read_at(buffer, offset).await;
        buffer = back;
        slot.end(result, &buffer.0);
    }
}
