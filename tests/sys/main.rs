//! The raw layer against the running kernel: each system call on real files, and each errno that its
//! documentation promises and that can be provoked without special rights.
//!
//! Not provoked: `EINTR` of `io_setup`, a full slab, drivers with a cancel hook. `ENOSYS` and `EPERM`
//! need a filter that can't be taken off again; a child process has it (`setup.rs`).

#![allow(unsafe_code, reason = "the functions under test are unsafe")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the kernel's fields have the types they have"
)]

mod cancel;
mod layout;
mod outcome;
mod reap;
#[path = "../common/seccomp.rs"]
mod seccomp;
mod setup;
mod submit;

use kiocb::sys::*;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::Command;
use std::time::Duration;
use std::{env, ptr};

/// A context of one test. The memory of its requests is declared before it, and so is dropped after it.
struct Context(aio_context_t);

impl Context {
    fn new(nr_events: u32) -> Self {
        // SAFETY: nobody touches the ring but the calls below.
        Context(unsafe { io_setup(nr_events) }.expect("this machine has kernel AIO"))
    }

    fn submit(&self, requests: &mut [iocb]) -> io::Result<usize> {
        let pointers: Vec<*mut iocb> = requests.iter_mut().map(ptr::from_mut).collect();
        // SAFETY: the pointers are valid; tests lend only what outlives the context, and look at it
        // after the event.
        unsafe { io_submit(self.0, pointers.as_ptr(), pointers.len()) }
    }

    /// Up to `nr` events, at least `min`.
    fn events(
        &self,
        min: usize,
        nr: usize,
        timeout: Option<Duration>,
    ) -> io::Result<Vec<io_event>> {
        let mut events = vec![io_event::default(); nr];
        // SAFETY: `events` has room for `nr`, and nobody reads the ring in user space.
        let got = unsafe { io_getevents(self.0, min, nr, events.as_mut_ptr(), timeout) }?;
        events.truncate(got);
        Ok(events)
    }

    /// Waits for exactly `n` events.
    fn reap(&self, n: usize) -> Vec<io_event> {
        let events = self.events(n, n, None).expect("io_getevents");
        assert_eq!(events.len(), n);
        events
    }

    /// The events that are there already.
    fn look(&self) -> Vec<io_event> {
        self.events(0, 64, Some(Duration::ZERO))
            .expect("io_getevents")
    }

    /// Submits one request, which the kernel must accept, and returns what its event says.
    fn run(&self, mut request: iocb) -> i64 {
        let taken = self.submit(std::slice::from_mut(&mut request));
        assert_eq!(taken.expect("io_submit"), 1);
        self.reap(1)[0].res
    }

    /// Submits one request, which the kernel must refuse, and returns the errno.
    fn refusal(&self, mut request: iocb) -> i32 {
        let refused = errno(self.submit(std::slice::from_mut(&mut request)));
        assert_eq!(self.look().len(), 0, "a refused request has no event");
        refused
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the only owner of the context ends it, once.
        unsafe { io_destroy(self.0) }.expect("io_destroy");
    }
}

fn errno<T: Debug>(result: io::Result<T>) -> i32 {
    let error = result.expect_err("the kernel must refuse this");
    error.raw_os_error().expect("an errno")
}

/// A read or write of `len` bytes (or iovecs) at `buf`.
fn rw(opcode: u16, fd: &impl AsRawFd, buf: *const u8, len: usize, offset: i64) -> iocb {
    iocb {
        aio_lio_opcode: opcode,
        aio_fildes: fd.as_raw_fd() as u32,
        aio_buf: buf as u64,
        aio_nbytes: len as u64,
        aio_offset: offset,
        ..iocb::default()
    }
}

/// A request without a buffer: a sync, or a read of nothing.
fn bare(opcode: u16, fd: &impl AsRawFd) -> iocb {
    rw(opcode, fd, ptr::null(), 0, 0)
}

fn poll(fd: &impl AsRawFd, events: u64) -> iocb {
    iocb {
        aio_buf: events,
        ..bare(IOCB_CMD_POLL, fd)
    }
}

const POLLIN: u64 = libc::POLLIN as u64;

/// What a poll for `POLLIN` answers: `POLLRDNORM` comes unasked, as the kernel wakes for both at once.
fn readable(event: io_event) -> bool {
    event.res > 0 && event.res as u64 & POLLIN != 0
}

/// A file without a name below `TMPDIR`, open for reading and writing.
fn file_with(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(content).expect("written");
    file
}

fn null() -> File {
    File::open("/dev/null").expect("/dev/null")
}

/// The reading and the writing end.
fn pipe(flags: i32) -> (File, File) {
    let mut ends: [RawFd; 2] = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    let result = unsafe { libc::pipe2(ends.as_mut_ptr(), flags | libc::O_CLOEXEC) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    (owned(ends[0]), owned(ends[1]))
}

/// Takes a descriptor that a system call of libc's has just made.
fn owned(fd: RawFd) -> File {
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: new, by this function's contract, so nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }.into()
}

/// An address that no process can have: the kernel's half.
const KERNEL_HALF: *const u8 = ptr::without_provenance(0xffff_ffff_ffff_f000);

/// An address in a process's half at which nothing is mapped: below `vm.mmap_min_addr`.
const UNMAPPED: *const u8 = ptr::without_provenance(16);

/// True in a child process that runs nothing but the test `name`, so that it may change limits and
/// signals, and use the number of a destroyed context, which could be another test's by then.
/// In the parent: runs that child, demands its success, and is false.
fn alone(name: &str) -> bool {
    const CHILD: &str = "KIOCB_TEST_CHILD";
    if env::var_os(CHILD).is_some() {
        return true;
    }
    let mut child = Command::new(env::current_exe().expect("this binary"));
    let output = child
        .args([name, "--exact"])
        .env(CHILD, "1")
        .output()
        .expect("the child runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{text}", output.status);
    assert!(
        text.contains("1 passed"),
        "the child found no such test:\n{text}"
    );
    false
}
