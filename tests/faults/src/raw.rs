//! The kernel's AIO by hand, just enough to prove the injectors without the crate they are made to test:
//! its structures and system calls written down a second time.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::ptr;
use std::time::{Duration, Instant};

use crate::watchdog::PATIENCE;

/// The alignment and length of every buffer here: good for O_DIRECT anywhere.
pub const BLOCK: usize = 4096;

const CMD_PREAD: u16 = 0;
const CMD_PWRITE: u16 = 1;

/// `struct iocb` of linux/aio_abi.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Iocb {
    data: u64,
    // The two change places on big-endian machines; neither is set here.
    key_and_rw_flags: [u32; 2],
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    len: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    eventfd: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Event {
    data: u64,
    iocb: u64,
    result: i64,
    result2: i64,
}

const _: () = assert!(size_of::<Iocb>() == 64 && size_of::<Event>() == 32);

#[repr(C, align(4096))]
struct Block([u8; BLOCK]);

/// A context with the requests made on it. Request `n` is the n-th that was made.
///
/// Dropped with requests in flight, it leaks the context and all memory: `io_destroy` would wait for them.
pub struct Driver {
    context: usize,
    // The kernel copies an iocb while it is submitted; only the buffers must stay where they are.
    iocbs: Vec<Iocb>,
    buffers: Vec<Box<Block>>,
    in_flight: usize,
}

/// A request's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Which request.
    pub request: usize,
    /// Bytes, or the negative errno.
    pub result: i64,
}

impl Driver {
    /// `io_setup(depth)`.
    ///
    /// # Errors
    /// Its errno.
    pub fn new(depth: u32) -> io::Result<Driver> {
        let mut context = 0_usize;
        // SAFETY: the pointer is to a zero that lives across the call.
        check(unsafe { libc::syscall(libc::SYS_io_setup, depth, &raw mut context) })?;
        Ok(Driver {
            context,
            iocbs: Vec::new(),
            buffers: Vec::new(),
            in_flight: 0,
        })
    }

    /// Makes a read of one block at `offset`. The file must stay open until it is submitted.
    pub fn read(&mut self, file: impl AsFd, offset: u64) -> usize {
        self.request(CMD_PREAD, file, offset, 0)
    }

    /// Makes a write of one block of `byte` at `offset`.
    pub fn write(&mut self, file: impl AsFd, offset: u64, byte: u8) -> usize {
        self.request(CMD_PWRITE, file, offset, byte)
    }

    fn request(&mut self, opcode: u16, file: impl AsFd, offset: u64, byte: u8) -> usize {
        let request = self.iocbs.len();
        let mut block = Box::new(Block([byte; BLOCK]));
        self.iocbs.push(Iocb {
            data: request as u64,
            opcode,
            file: file.as_fd().as_raw_fd().cast_unsigned(),
            buffer: block.0.as_mut_ptr() as u64,
            len: BLOCK as u64,
            offset: offset.cast_signed(),
            ..Iocb::default()
        });
        self.buffers.push(block);
        request
    }

    /// Another length than a block's, but not a longer one.
    pub fn set_len(&mut self, request: usize, len: usize) {
        assert!(len <= BLOCK);
        self.iocbs[request].len = len as u64;
    }

    /// A descriptor number that need not be open.
    pub fn set_file(&mut self, request: usize, file: i32) {
        self.iocbs[request].file = file.cast_unsigned();
    }

    /// Memory of the caller's in the place of the request's own block.
    ///
    /// # Safety
    /// One block from `buffer` on is good for the request until its event.
    pub unsafe fn set_buffer(&mut self, request: usize, buffer: *mut u8) {
        self.iocbs[request].buffer = buffer as u64;
    }

    /// One `io_submit` of these requests, each for the first time; how many the kernel took.
    ///
    /// # Errors
    /// Its errno.
    pub fn submit(&mut self, requests: &[usize]) -> io::Result<usize> {
        let mut iocbs: Vec<*mut Iocb> = requests
            .iter()
            .map(|&request| &raw mut self.iocbs[request])
            .collect();
        // SAFETY: the array holds pointers to iocbs that stay put during the call; the blocks they point to
        // live as long as `self`, which when dropped frees nothing that is in flight.
        let taken = check(unsafe {
            libc::syscall(
                libc::SYS_io_submit,
                self.context,
                requests.len(),
                iocbs.as_mut_ptr(),
            )
        })?;
        self.in_flight += taken;
        Ok(taken)
    }

    /// The events that are there now.
    pub fn poll(&mut self) -> Vec<Done> {
        self.events(0, Duration::ZERO)
    }

    /// Waits for exactly so many events.
    ///
    /// # Panics
    /// When they do not come within the lab's patience.
    pub fn wait(&mut self, count: usize) -> Vec<Done> {
        let end = Instant::now() + PATIENCE;
        let mut done = Vec::new();
        while done.len() < count {
            assert!(
                Instant::now() < end,
                "{} of {count} events came: {done:?}",
                done.len()
            );
            done.extend(self.events(1, Duration::from_secs(1)));
        }
        done
    }

    /// The results of all requests in flight, in the order in which the requests were made.
    pub fn finish(&mut self) -> Vec<i64> {
        let mut done = self.wait(self.in_flight);
        done.sort_by_key(|done| done.request);
        done.iter().map(|done| done.result).collect()
    }

    /// How many requests the kernel has taken whose events have not been seen.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The request's memory.
    ///
    /// # Panics
    /// While any request is in flight.
    pub fn block(&self, request: usize) -> &[u8] {
        assert_eq!(self.in_flight, 0, "the kernel may be writing to it");
        &self.buffers[request].0
    }

    fn events(&mut self, least: usize, timeout: Duration) -> Vec<Done> {
        let mut events = [Event::default(); 64];
        let mut timeout = libc::timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: 0,
        };
        let (buffer, timeout) = (events.as_mut_ptr(), ptr::from_mut(&mut timeout));
        // SAFETY: room for as many events as said, and a timespec, both living across the call.
        let got = check(unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context,
                least,
                events.len(),
                buffer,
                timeout,
            )
        });
        let got = match got {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            got => got.expect("io_getevents"),
        };
        self.in_flight -= got;
        events[..got]
            .iter()
            .map(|event| Done {
                request: event.data as usize,
                result: event.result,
            })
            .collect()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            std::mem::forget(std::mem::take(&mut self.buffers));
            return;
        }
        // SAFETY: the context is ours and nothing is in flight.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("requests", &self.iocbs.len())
            .field("in_flight", &self.in_flight)
            .finish()
    }
}

fn check(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
