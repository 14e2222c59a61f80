//! kiocb over borrowed memory: `read_many_into` and `write_many_into` carry out a round of requests into
//! frames that stay where they are.

use std::io;
use std::sync::Arc;

use kiocb::{Aio, AlignedBuf};

use super::{count_syscalls, on_threads};
use crate::job::Job;
use crate::slot::Slot;

pub(crate) fn run(job: &Arc<Job>) -> io::Result<()> {
    let depth = u32::try_from(job.depth).map_err(io::Error::other)?;
    let aio = Aio::builder().depth(depth).shards(job.threads).build()?;
    count_syscalls(job, [aio.clone()]);
    on_threads(job.threads, |index| {
        drive(job, &aio, index);
        Ok(())
    })
}

fn drive(job: &Arc<Job>, aio: &Aio, index: usize) {
    let mut slots: Vec<Slot> = job.slots(index).collect();
    let mut frames: Vec<AlignedBuf> = slots.iter().map(|_| job.buffer()).collect();
    let mut results = Vec::with_capacity(slots.len());
    while slots[0].goes_on() {
        transfer(job, aio, &mut slots, &mut frames, &mut results);
        for ((slot, frame), result) in slots.iter_mut().zip(&frames).zip(results.drain(..)) {
            slot.end(result, frame);
        }
    }
}

fn transfer(
    job: &Job,
    aio: &Aio,
    slots: &mut [Slot],
    frames: &mut [AlignedBuf],
    results: &mut Vec<io::Result<usize>>,
) {
    let pieces = slots.iter_mut().zip(frames);
    let pieces = pieces.map(|(slot, frame)| {
        let offset = slot.begin(frame);
        (&mut frame[..], offset)
    });
    if job.rw.writes() {
        let pieces = pieces.map(|(frame, offset)| (&*frame, offset));
        aio.write_many_into(&job.file, pieces, results);
    } else {
        aio.read_many_into(&job.file, pieces, results);
    }
}
