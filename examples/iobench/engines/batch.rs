//! kiocb for work that comes in batches: all requests of a round leave in one system call, then each is
//! waited for.

use std::fs::File;
use std::io;
use std::sync::Arc;

use kiocb::op::{Operation, Read, Rw, Write};
use kiocb::{Aio, AlignedBuf, Pending};

use super::{count_syscalls, on_threads};
use crate::job::Job;
use crate::slot::Slot;

pub(crate) fn run(job: &Arc<Job>) -> io::Result<()> {
    let depth = u32::try_from(job.depth).map_err(io::Error::other)?;
    let aio = Aio::builder().depth(depth).shards(job.threads).build()?;
    run_on(aio, job)
}

/// All threads on the contexts of `aio`.
pub(crate) fn run_on(aio: Aio, job: &Arc<Job>) -> io::Result<()> {
    count_syscalls(job, [aio.clone()]);
    on_threads(job.threads, |index| {
        if job.rw.writes() {
            Round::new(job, Write, index).drive(&aio);
        } else {
            Round::new(job, Read, index).drive(&aio);
        }
        Ok(())
    })
}

/// A request on its way: file and buffer come back with it.
type Flying<O> = Pending<Rw<Arc<File>, O, AlignedBuf>>;

/// The requests of a loop: at rest, or on their way.
struct Round<O: Operation<AlignedBuf>> {
    op: O,
    at_rest: Vec<(Slot, Arc<File>, AlignedBuf)>,
    on_their_way: Vec<(Slot, Flying<O>)>,
}

impl<O: Operation<AlignedBuf>> Round<O> {
    fn new(job: &Arc<Job>, op: O, index: usize) -> Self {
        let at_rest = job
            .slots(index)
            .map(|slot| (slot, Arc::clone(&job.file), job.buffer()));
        Round {
            op,
            at_rest: at_rest.collect(),
            on_their_way: Vec::with_capacity(job.depth),
        }
    }

    fn drive(mut self, aio: &Aio) {
        while self.at_rest[0].0.goes_on() {
            self.submit(aio);
            self.wait();
        }
    }

    fn submit(&mut self, aio: &Aio) {
        let mut batch = aio.batch();
        for (mut slot, file, mut buffer) in self.at_rest.drain(..) {
            let offset = slot.begin(&mut buffer);
            let pending = batch.push(aio.alloc().init_rw(file, self.op, buffer, offset));
            self.on_their_way.push((slot, pending));
        }
        let refused = batch.submit();
        debug_assert!(refused.is_empty()); // a handle's refusal is its result
    }

    fn wait(&mut self) {
        for (mut slot, pending) in self.on_their_way.drain(..) {
            let done = pending.wait();
            slot.end(done.result, &done.buf);
            self.at_rest.push((slot, done.file, done.buf));
        }
    }
}
