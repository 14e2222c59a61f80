//! The yardstick: what kernel AIO costs with nothing around it.
//!
//! One context and one thread per loop: submit what is ready in one `io_submit`, read the completion ring in
//! user space, sleep in `io_getevents` only when it is empty, make each completed request ready again. What
//! is ready leaves when all completions are seen to, or before, when `--group` of them have come together.
#![allow(
    unsafe_code,
    reason = "the system calls and the ring shared with the kernel, by hand"
)]

use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kiocb::AlignedBuf;
use kiocb::sys::{self, aio_context_t, io_event, iocb};

use super::on_threads;
use crate::job::{Job, Meter};
use crate::slot::Slot;

pub(crate) fn run(job: &Arc<Job>) -> io::Result<()> {
    on_threads(job.threads, |index| Loop::new(job, index)?.drive())
}

/// A closed loop of `depth` requests. `context` comes first: it is dropped first, and its `io_destroy` waits
/// for the requests that use the buffers below it.
struct Loop {
    context: Context,
    /// Request number i is `iocbs[i]` and `requests[i]`, and i is its `aio_data`.
    iocbs: Vec<iocb>,
    requests: Vec<Request>,
    /// The numbers of those to be submitted next, and, while submitting, their addresses.
    ready: Vec<usize>,
    addresses: Vec<*mut iocb>,
    events: Vec<io_event>,
    in_flight: usize,
    group: usize,
}

struct Request {
    buffer: AlignedBuf,
    slot: Slot,
}

impl Loop {
    fn new(job: &Arc<Job>, index: usize) -> io::Result<Loop> {
        let context = Context::new(job.depth, job.meter())?;
        let mut requests: Vec<_> = job
            .slots(index)
            .map(|slot| Request {
                buffer: job.buffer(),
                slot,
            })
            .collect();
        let iocbs = requests
            .iter_mut()
            .enumerate()
            .map(|(number, request)| prepare(job, number as u64, &mut request.buffer));
        Ok(Loop {
            context,
            iocbs: iocbs.collect(),
            requests,
            ready: Vec::with_capacity(job.depth),
            addresses: Vec::with_capacity(job.depth),
            events: Vec::with_capacity(job.depth),
            in_flight: 0,
            group: job.group.unwrap_or(usize::MAX),
        })
    }

    fn drive(mut self) -> io::Result<()> {
        (0..self.requests.len()).for_each(|number| self.make_ready(number));
        while self.submit()? > 0 {
            self.context.reap(&mut self.events, self.requests.len())?;
            self.complete()?;
        }
        Ok(())
    }

    fn make_ready(&mut self, number: usize) {
        let request = &mut self.requests[number];
        self.iocbs[number].aio_offset = request.slot.begin(&mut request.buffer) as i64;
        self.ready.push(number);
    }

    /// Submits what is ready; how many are now in flight.
    fn submit(&mut self) -> io::Result<usize> {
        let first = self.iocbs.as_mut_ptr();
        self.addresses.extend(
            self.ready
                .drain(..)
                .map(|number| first.wrapping_add(number)),
        );
        let mut taken = 0;
        while taken < self.addresses.len() {
            // SAFETY: the addresses are those of prepared iocbs of ours; none is in flight; the buffers that
            // they name live as long as the context (see `Loop`) and the file longer.
            taken += unsafe { self.context.submit(&self.addresses[taken..]) }?;
        }
        self.addresses.clear();
        self.in_flight += taken;
        Ok(self.in_flight)
    }

    fn complete(&mut self) -> io::Result<()> {
        self.in_flight -= self.events.len();
        for index in 0..self.events.len() {
            let io_event { data, res, .. } = self.events[index];
            let number = usize::try_from(data).expect("a number of ours");
            let request = &mut self.requests[number];
            request.slot.end(outcome(res), &request.buffer);
            if request.slot.goes_on() {
                self.make_ready(number);
            }
            if self.ready.len() >= self.group {
                self.submit()?;
            }
        }
        self.events.clear();
        Ok(())
    }
}

/// The request that stays the same but for its offset.
fn prepare(job: &Job, number: u64, buffer: &mut [u8]) -> iocb {
    iocb {
        aio_data: number,
        aio_lio_opcode: if job.rw.writes() {
            sys::IOCB_CMD_PWRITE
        } else {
            sys::IOCB_CMD_PREAD
        },
        aio_fildes: u32::try_from(job.file.as_raw_fd()).expect("open descriptors are not negative"),
        aio_buf: buffer.as_mut_ptr() as u64,
        aio_nbytes: buffer.len() as u64,
        ..iocb::default()
    }
}

/// An event's `res`: bytes, or a negated errno.
fn outcome(res: i64) -> io::Result<usize> {
    usize::try_from(res)
        .map_err(|_| io::Error::from_raw_os_error(i32::try_from(-res).unwrap_or(i32::MAX)))
}

/// A kernel AIO context, counting its system calls.
struct Context {
    id: aio_context_t,
    ring: Option<Ring>,
    meter: Arc<Meter>,
}

impl Context {
    fn new(depth: usize, meter: Arc<Meter>) -> io::Result<Context> {
        let depth = u32::try_from(depth).map_err(io::Error::other)?;
        // SAFETY: the context is destroyed once, in drop, and its ring is left alone after that.
        let id = unsafe { sys::io_setup(depth) }?;
        // SAFETY: the id is fresh; the ring is used only through this context, before its io_destroy.
        let ring = unsafe { Ring::of(id) };
        Ok(Context { id, ring, meter })
    }

    /// How many of `iocbs` the kernel took, from the front.
    ///
    /// # Safety
    /// Each points to a valid iocb whose file stays open and whose buffer is left alone until its event is
    /// reaped or the context is dropped.
    unsafe fn submit(&self, iocbs: &[*mut iocb]) -> io::Result<usize> {
        self.meter.syscall();
        // SAFETY: the context lives until drop; the iocbs are the caller's promise; address and count are the
        // slice's.
        unsafe { sys::io_submit(self.id, iocbs.as_ptr(), iocbs.len()) }
    }

    /// Moves completions into `events`: at least one, at most `most`.
    fn reap(&self, events: &mut Vec<io_event>, most: usize) -> io::Result<()> {
        if let Some(ring) = &self.ring {
            ring.reap(events, most);
        }
        while events.is_empty() {
            self.reap_by_syscall(events, most)?;
        }
        Ok(())
    }

    fn reap_by_syscall(&self, events: &mut Vec<io_event>, most: usize) -> io::Result<()> {
        events.reserve(most);
        self.meter.syscall();
        // SAFETY: the context lives until drop; `events` is empty and has room for `most`.
        match unsafe { sys::io_getevents(self.id, 1, most, events.as_mut_ptr(), None) } {
            // SAFETY: the kernel wrote that many events at the start of the vector.
            Ok(got) => unsafe { events.set_len(got) },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the id is live and never used again. The call waits for what is in flight.
        let _ = unsafe { sys::io_destroy(self.id) };
    }
}

/// The completion ring that the kernel maps at the address that is the context's id.
struct Ring {
    header: *const Header,
    events: *const io_event,
}

#[repr(C)]
struct Header {
    id: u32,
    nr: u32,
    head: AtomicU32,
    tail: AtomicU32,
    magic: u32,
    compat_features: u32,
    incompat_features: u32,
    header_length: u32,
}

const RING_MAGIC: u32 = 0xa10a_10a1;

impl Ring {
    /// `None` where there is no ring of the known layout (gVisor, Valgrind).
    ///
    /// # Safety
    /// `id` is a live context, and outlives what is returned; nobody else reaps from it.
    unsafe fn of(id: aio_context_t) -> Option<Ring> {
        let header = ptr::with_exposed_provenance::<Header>(usize::try_from(id).ok()?);
        let ring = Ring {
            header,
            events: header.wrapping_add(1).cast(),
        };
        let Header {
            magic,
            incompat_features,
            header_length,
            ..
        } = ring.header();
        (*magic == RING_MAGIC
            && *incompat_features == 0
            && *header_length as usize == size_of::<Header>())
        .then_some(ring)
    }

    fn header(&self) -> &Header {
        // SAFETY: by `of`'s conditions the header is mapped for as long as `self`; the fields that the kernel
        // writes are atomics.
        unsafe { &*self.header }
    }

    fn reap(&self, events: &mut Vec<io_event>, most: usize) {
        let Header { nr, head, tail, .. } = self.header();
        let mut next = head.load(Ordering::Relaxed);
        // Acquire: the kernel writes the events before it moves the tail.
        let end = tail.load(Ordering::Acquire);
        while next != end && events.len() < most {
            // SAFETY: `next` is below `nr`, the number of events behind the header, and the kernel leaves
            // those between head and tail alone.
            events.push(unsafe { self.events.wrapping_add(next as usize).read() });
            next = if next + 1 < *nr { next + 1 } else { 0 };
        }
        // Release: the kernel may fill these places as soon as it sees the new head, so they must have been
        // read.
        head.store(next, Ordering::Release);
    }
}
