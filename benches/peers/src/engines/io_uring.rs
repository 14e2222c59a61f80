//! The crate io-uring, a thin layer over the kernel's rings: one ring for each loop, with the two flags that
//! the kernel's documentation recommends for a ring that one thread uses. As the yardstick, it takes all
//! completions, makes each ready again, and submits in the same call in which it waits; with a group also in
//! between. Nothing is registered.
#![allow(unsafe_code, reason = "pushing entries that name memory")]

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::{IoUring, opcode, squeue, types};
use kiocb::AlignedBuf;

use super::on_threads;
use crate::job::Job;
use crate::slot::Slot;

pub(super) fn run(job: &Arc<Job>) -> io::Result<()> {
    on_threads(job.threads, |index| Loop::new(job, index)?.drive())
}

/// `ring` comes first: it is dropped first, when nothing is in flight any more (`drive`).
struct Loop {
    ring: IoUring,
    fd: types::Fd,
    requests: Vec<(Slot, AlignedBuf)>,
    ready: usize,
    in_flight: usize,
    group: usize,
}

impl Loop {
    fn new(job: &Arc<Job>, index: usize) -> io::Result<Loop> {
        let entries = u32::try_from(job.depth).map_err(io::Error::other)?;
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun();
        let slots = job.slots(index).map(|slot| (slot, job.buffer()));
        Ok(Loop {
            ring: builder.build(entries)?,
            fd: types::Fd(job.file.as_raw_fd()),
            requests: slots.collect(),
            ready: 0,
            in_flight: 0,
            group: job.group.unwrap_or(usize::MAX),
        })
    }

    fn drive(mut self) -> io::Result<()> {
        (0..self.requests.len()).for_each(|number| self.make_ready(number));
        let mut done = Vec::with_capacity(self.requests.len());
        while self.ready + self.in_flight > 0 {
            self.submit(1)?;
            let taken = self.ring.completion();
            done.extend(taken.map(|event| (event.user_data(), event.result())));
            self.in_flight -= done.len();
            for (number, result) in done.drain(..) {
                self.complete(usize::try_from(number).expect("a number of ours"), result)?;
            }
        }
        Ok(())
    }

    fn submit(&mut self, wait_for: usize) -> io::Result<()> {
        self.ring.submit_and_wait(wait_for)?;
        self.in_flight += std::mem::take(&mut self.ready);
        Ok(())
    }

    fn complete(&mut self, number: usize, result: i32) -> io::Result<()> {
        let (slot, buffer) = &mut self.requests[number];
        slot.end(outcome(result), buffer);
        if slot.goes_on() {
            self.make_ready(number);
        }
        if self.ready >= self.group {
            self.submit(0)?;
        }
        Ok(())
    }

    fn make_ready(&mut self, number: usize) {
        let (slot, buffer) = &mut self.requests[number];
        let offset = slot.begin(buffer);
        let length = u32::try_from(buffer.len()).expect("a block");
        let read = opcode::Read::new(self.fd, buffer.as_mut_ptr(), length).offset(offset);
        self.push(&read.build().user_data(number as u64));
        self.ready += 1;
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the buffer lives until `drive` has taken its completion, and the file longer. The queue has
        // room for as many entries as there are requests.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("a place for each request");
    }
}

/// Bytes, or a negated errno.
fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}
