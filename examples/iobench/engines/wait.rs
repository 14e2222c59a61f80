//! kiocb for a thread that wants one block now: `wait()` submits, reaps and returns on the calling thread.

use std::fs::File;
use std::io;
use std::sync::Arc;

use kiocb::op::{Read, Write};
use kiocb::{Aio, AlignedBuf, Completion};

use super::{count_syscalls, on_threads};
use crate::job::Job;

pub(crate) fn run(job: &Arc<Job>) -> io::Result<()> {
    let aio = Aio::builder().shards(job.threads).build()?;
    count_syscalls(job, [aio.clone()]);
    on_threads(job.threads, |index| drive(job, &aio, index))
}

fn drive(job: &Arc<Job>, aio: &Aio, index: usize) -> io::Result<()> {
    for mut slot in job.slots(index) {
        let (mut file, mut buffer) = (Arc::clone(&job.file), job.buffer());
        while slot.goes_on() {
            let offset = slot.begin(&mut buffer);
            let done = transfer(aio, job.rw.writes(), file, buffer, offset)?;
            slot.end(done.result, &done.buf);
            (file, buffer) = (done.file, done.buf);
        }
    }
    Ok(())
}

fn transfer(
    aio: &Aio,
    writes: bool,
    file: Arc<File>,
    buffer: AlignedBuf,
    offset: u64,
) -> io::Result<Completion<Arc<File>, AlignedBuf>> {
    let request = aio.alloc();
    Ok(if writes {
        request.init_rw(file, Write, buffer, offset).wait()?
    } else {
        request.init_rw(file, Read, buffer, offset).wait()?
    })
}
