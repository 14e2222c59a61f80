//! vmm-sys-util's `aio`: the system calls as methods. One context for each loop, which submits all that is
//! ready and then waits for one completion and takes all that are there; with a group it submits in between,
//! too. It has no way to read the ring in user space.
#![allow(
    unsafe_code,
    reason = "its `submit` takes references to what the kernel then owns; they are made for the call"
)]

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use kiocb::AlignedBuf;
use vmm_sys_util::aio::{IOCB_CMD_PREAD, IoContext, IoControlBlock, IoEvent};

use super::on_threads;
use crate::job::Job;
use crate::slot::Slot;

pub(super) fn run(job: &Arc<Job>) -> io::Result<()> {
    on_threads(job.threads, |index| Loop::new(job, index)?.drive())
}

/// `context` comes first: it is dropped first, and its `io_destroy` waits for what uses the buffers.
struct Loop {
    context: IoContext,
    iocbs: Vec<IoControlBlock>,
    requests: Vec<(Slot, AlignedBuf)>,
    /// Those to be submitted next.
    ready: Vec<*mut IoControlBlock>,
    events: Vec<IoEvent>,
    in_flight: usize,
    group: usize,
}

impl Loop {
    fn new(job: &Arc<Job>, index: usize) -> io::Result<Loop> {
        let depth = u32::try_from(job.depth).map_err(io::Error::other)?;
        let mut requests: Vec<_> = job.slots(index).map(|slot| (slot, job.buffer())).collect();
        let iocbs = requests.iter_mut().enumerate();
        let iocbs = iocbs.map(|(number, (_, buffer))| prepare(job, number, buffer));
        Ok(Loop {
            context: IoContext::new(depth)?,
            iocbs: iocbs.collect(),
            requests,
            ready: Vec::with_capacity(job.depth),
            events: vec![IoEvent::default(); job.depth],
            in_flight: 0,
            group: job.group.unwrap_or(usize::MAX),
        })
    }

    fn drive(mut self) -> io::Result<()> {
        (0..self.requests.len()).for_each(|number| self.make_ready(number));
        while self.submit()? > 0 {
            let count = self.wait()?;
            self.in_flight -= count;
            for index in 0..count {
                self.complete(index)?;
            }
        }
        Ok(())
    }

    fn make_ready(&mut self, number: usize) {
        let (slot, buffer) = &mut self.requests[number];
        let offset = slot.begin(buffer);
        self.iocbs[number].aio_offset = offset.cast_signed();
        let address = self.iocbs.as_mut_ptr().wrapping_add(number);
        self.ready.push(address);
    }

    /// How many are now in flight.
    fn submit(&mut self) -> io::Result<usize> {
        let mut taken = 0;
        while taken < self.ready.len() {
            let left = &self.ready[taken..];
            // SAFETY: each address is that of another element of `iocbs`, of which nothing else holds a
            // reference; a slice of such addresses has the layout of a slice of references.
            let left = unsafe { std::slice::from_raw_parts(left.as_ptr().cast(), left.len()) };
            taken += self.context.submit(left)?;
        }
        self.ready.clear();
        self.in_flight += taken;
        Ok(self.in_flight)
    }

    fn wait(&mut self) -> io::Result<usize> {
        loop {
            match self.context.get_events(1, &mut self.events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn complete(&mut self, index: usize) -> io::Result<()> {
        let event = self.events[index];
        let number = usize::try_from(event.data).expect("a number of ours");
        let (slot, buffer) = &mut self.requests[number];
        slot.end(outcome(event.res), buffer);
        if slot.goes_on() {
            self.make_ready(number);
        }
        if self.ready.len() >= self.group {
            self.submit()?;
        }
        Ok(())
    }
}

fn prepare(job: &Job, number: usize, buffer: &mut [u8]) -> IoControlBlock {
    IoControlBlock {
        aio_data: number as u64,
        aio_lio_opcode: u16::try_from(IOCB_CMD_PREAD).expect("0"),
        aio_fildes: u32::try_from(job.file.as_raw_fd()).expect("open descriptors are not negative"),
        aio_buf: buffer.as_mut_ptr() as u64,
        aio_nbytes: buffer.len() as u64,
        ..IoControlBlock::default()
    }
}

/// An event's `res`: bytes, or a negated errno.
fn outcome(res: i64) -> io::Result<usize> {
    usize::try_from(res)
        .map_err(|_| io::Error::from_raw_os_error(i32::try_from(-res).unwrap_or(i32::MAX)))
}
