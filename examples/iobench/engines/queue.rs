//! kiocb for a program with a loop of its own that asks what is done: a context for each thread, a queue
//! whose tags are the slots, no closures and no other thread.

use std::fs::File;
use std::io;
use std::sync::Arc;

use kiocb::op::{Mixed, Read, Write};
use kiocb::{Aio, AlignedBuf, Iocb, Queue};

use super::{count_syscalls, manual_contexts, on_threads};
use crate::job::Job;
use crate::slot::Slot;

/// Reads and writes in one type, as a program with both would have them.
type Request = Mixed<Arc<File>, AlignedBuf>;

pub(crate) fn run(job: &Arc<Job>) -> io::Result<()> {
    let contexts = manual_contexts(job)?;
    count_syscalls(job, contexts.clone());
    on_threads(job.threads, |index| drive(job, &contexts[index], index))
}

fn drive(job: &Arc<Job>, aio: &Aio, index: usize) -> io::Result<()> {
    let queue = aio.queue();
    for slot in job.slots(index) {
        push(
            job,
            aio,
            &queue,
            Box::new(slot),
            Arc::clone(&job.file),
            job.buffer(),
        )?;
    }
    while !queue.is_empty() {
        for (mut slot, done) in queue.wait(1, None)? {
            let buffer = done.buf.one().expect("each request has one buffer");
            slot.end(done.result, &buffer);
            if slot.goes_on() {
                push(job, aio, &queue, slot, done.file, buffer)?;
            }
        }
    }
    Ok(())
}

fn push(
    job: &Job,
    aio: &Aio,
    queue: &Queue<Box<Slot>, Request>,
    mut slot: Box<Slot>,
    file: Arc<File>,
    mut buffer: AlignedBuf,
) -> io::Result<()> {
    let offset = slot.begin(&mut buffer);
    let blank: Iocb = aio.alloc();
    let request = if job.rw.writes() {
        blank.init_rw(file, Write, buffer, offset).mixed()
    } else {
        blank.init_rw(file, Read, buffer, offset).mixed()
    };
    Ok(queue.push(request, slot)?)
}
