//! compio, with its io_uring driver: a runtime for each loop, a task for each request in flight. The driver's
//! flags are those that its documentation recommends for one thread; nothing is registered.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use compio::buf::BufResult;
use compio::driver::ProactorBuilder;
use compio::fs::{File, OpenOptions};
use compio::io::AsyncReadAt;
use compio::runtime::{Runtime, RuntimeBuilder};

use super::aligned::Aligned;
use super::{on_threads, open_flags, path};
use crate::job::Job;
use crate::slot::Slot;

pub(super) fn run(job: &Arc<Job>) -> io::Result<()> {
    on_threads(job.threads, |index| {
        runtime(job)?.block_on(drive_all(job, index))
    })
}

fn runtime(job: &Job) -> io::Result<Runtime> {
    let mut driver = ProactorBuilder::new();
    driver
        .capacity(u32::try_from(job.depth.next_power_of_two()).map_err(io::Error::other)?)
        .single_issuer(true)
        .coop_taskrun(true)
        .defer_taskrun(true);
    RuntimeBuilder::new().with_proactor(driver).build()
}

async fn drive_all(job: &Arc<Job>, index: usize) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(open_flags(job));
    let file = Rc::new(file.open(path(job)).await?);
    let tasks: Vec<_> = job
        .slots(index)
        .map(|slot| {
            let (file, buffer) = (Rc::clone(&file), Aligned(job.buffer()));
            compio::runtime::spawn(async move { drive(&file, slot, buffer).await })
        })
        .collect();
    for task in tasks {
        task.await
            .map_err(|_| io::Error::other("a task panicked"))?;
    }
    Ok(())
}

async fn drive(file: &File, mut slot: Slot, mut buffer: Aligned) {
    while slot.goes_on() {
        let offset = slot.begin(&mut buffer.0);
        let BufResult(result, back) = file.read_at(buffer, offset).await;
        buffer = back;
        slot.end(result, &buffer.0);
    }
}
