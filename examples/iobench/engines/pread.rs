//! The synchronous way to have many requests in flight: a thread for each.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use kiocb::AlignedBuf;

use super::{on_threads, spawn};
use crate::job::{Job, Phase};
use crate::slot::Slot;

pub(crate) fn run(job: &Arc<Job>) -> io::Result<()> {
    on_threads(job.threads, |index| {
        std::thread::scope(|scope| {
            let mut threads = job.slots(index).map(|slot| {
                let buffer = job.buffer();
                spawn(scope, move || drive(job, slot, buffer))
            });
            let spawned = threads.try_for_each(|thread| thread.map(drop));
            if spawned.is_err() {
                job.enter(Phase::Stop); // for those that are there already
            }
            spawned
        })
    })
}

fn drive(job: &Job, mut slot: Slot, mut buffer: AlignedBuf) {
    while slot.goes_on() {
        let offset = slot.begin(&mut buffer);
        let result = transfer(job, &job.file, &mut buffer, offset);
        slot.count_syscall();
        slot.end(result, &buffer);
    }
}

fn transfer(job: &Job, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    if job.rw.writes() {
        file.write_at(buffer, offset)
    } else {
        file.read_at(buffer, offset)
    }
}
