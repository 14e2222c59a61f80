//! User code that does what a test tells it to: wakers, files, buffers, payloads; and looks at threads from
//! outside.

use crate::common::{Counter, Latch, null, poll_with, until, waker_that};
use kiocb::buf::{IoBuf, IoBufMut};
use kiocb::op::{Read, Rw};
use kiocb::{Aio, Iocb, Pending, PollFlags};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use std::fs;
use std::future::Future;
use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::task::{RawWaker, RawWakerVTable, Wake, Waker};
use std::thread;
use std::time::Duration;

/// Panics without a message on the terminal.
pub(crate) fn burst() -> ! {
    resume_unwind(Box::new("on purpose"))
}

/// What a test wants to be done somewhere.
pub(crate) type Deed = Arc<dyn Fn() + Send + Sync>;

/// Does it once, however often it is called.
pub(crate) fn once(deed: impl FnOnce() + Send + 'static) -> Deed {
    let deed = Mutex::new(Some(deed));
    Arc::new(move || {
        let deed = deed.lock().unwrap().take();
        if let Some(deed) = deed {
            deed();
        }
    })
}

/// Blocks whoever does it, once.
pub(crate) struct Block {
    pub(crate) deed: Deed,
    /// Opens when somebody is inside.
    pub(crate) inside: Latch,
    /// The test opens it, and he goes on.
    pub(crate) go_on: Latch,
}

pub(crate) fn block() -> Block {
    let (inside, go_on) = (Latch::default(), Latch::default());
    let (there, released) = (inside.clone(), go_on.clone());
    let deed = once(move || {
        there.open();
        released.wait();
    });
    Block {
        deed,
        inside,
        go_on,
    }
}

/// Does it when it is dropped.
pub(crate) struct OnDrop(pub(crate) Deed);

impl Drop for OnDrop {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Panics with what panics when it is dropped.
pub(crate) fn burst_twice() -> ! {
    resume_unwind(Box::new(OnDrop(Arc::new(|| burst()))))
}

/// A waker that does it when it wakes.
pub(crate) fn waker(deed: Deed) -> Waker {
    waker_that(move || deed())
}

/// A waker that does it when the last of its clones is dropped.
pub(crate) fn waker_with_drop(deed: Deed) -> Waker {
    struct Drops(#[allow(dead_code, reason = "dropped")] OnDrop);
    impl Wake for Drops {
        fn wake(self: Arc<Self>) {}
    }
    Waker::from(Arc::new(Drops(OnDrop(deed))))
}

/// A waker that does it whenever it is cloned. Lives for ever.
pub(crate) fn waker_with_clone(deed: Deed) -> Waker {
    static TABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            // SAFETY: the pointer is that of the leaked deed below.
            (unsafe { &*data.cast::<Deed>() })();
            RawWaker::new(data, &TABLE)
        },
        |_| (),
        |_| (),
        |_| (),
    );
    let deed: &'static Deed = Box::leak(Box::new(deed));
    // SAFETY: the table's functions are safe to call with this pointer for ever, on any thread (`Deed:
    // Sync`).
    unsafe { Waker::new(std::ptr::from_ref(deed).cast(), &TABLE) }
}

/// Leaves `waker` with the handle, whose result is not there yet.
#[track_caller]
pub(crate) fn leave<F: Future + Unpin>(pending: &mut F, waker: &Waker) {
    assert!(poll_with(pending, waker).is_pending());
}

/// A file that does it when it is asked for its descriptor.
pub(crate) struct DeedFile(pub(crate) Arc<fs::File>, pub(crate) Deed);

impl AsFd for DeedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (self.1)();
        self.0.as_fd()
    }
}

/// A file that does it when it is dropped.
pub(crate) struct DropFile<F>(
    pub(crate) F,
    #[allow(dead_code, reason = "dropped")] pub(crate) OnDrop,
);

impl<F: AsFd> AsFd for DropFile<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where a [`DeedBuf`] does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Address,
    Filled,
    Dropped,
}

/// A buffer that does it somewhere.
pub(crate) struct DeedBuf {
    pub(crate) bytes: Vec<u8>,
    pub(crate) at: At,
    pub(crate) deed: Deed,
}

impl DeedBuf {
    pub(crate) fn new(at: At, deed: Deed) -> DeedBuf {
        let bytes = vec![0; 64];
        DeedBuf { bytes, at, deed }
    }

    fn reached(&self, at: At) {
        if self.at == at {
            (self.deed)();
        }
    }
}

impl Drop for DeedBuf {
    fn drop(&mut self) {
        self.reached(At::Dropped);
    }
}

// SAFETY: the vector's own promise.
unsafe impl IoBuf for DeedBuf {
    fn buf_ptr(&self) -> *const u8 {
        self.reached(At::Address);
        self.bytes.as_ptr()
    }

    fn buf_len(&self) -> usize {
        self.bytes.len()
    }
}

// SAFETY: the vector's own promise.
unsafe impl IoBufMut for DeedBuf {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.reached(At::Address);
        self.bytes.as_mut_ptr()
    }

    fn buf_capacity(&self) -> usize {
        self.bytes.len()
    }

    unsafe fn set_init(&mut self, _: usize) {
        self.reached(At::Filled);
    }
}

/// A read of `/dev/null`: complete at once, with 0 bytes.
pub(crate) fn nothing(aio: &Aio) -> Iocb<Rw<Arc<fs::File>, Read, Vec<u8>>> {
    aio.alloc().init_rw(null(), Read, Vec::new(), 0)
}

/// Submits such reads, whose callbacks count.
pub(crate) fn submit_counted(aio: &Aio, calls: &Counter, count: usize) {
    for _ in 0..count {
        let calls = calls.clone();
        let request = nothing(aio).init_callback(move |_| {
            calls.add();
        });
        request.submit().unwrap();
    }
}

/// A wait that takes as long as the test likes: until a byte is in the pipe.
pub(crate) struct Readable {
    pub(crate) pending: Pending<kiocb::op::PollReady<OwnedFd>>,
    pub(crate) writer: PipeWriter,
}

/// Starts one.
pub(crate) fn readable(aio: &Aio) -> Readable {
    let (reader, writer) = io::pipe().unwrap();
    let request = aio.alloc().init_poll(OwnedFd::from(reader), PollFlags::IN);
    let pending = request.start().unwrap();
    Readable { pending, writer }
}

/// One byte into the pipe.
pub(crate) fn poke(mut writer: &PipeWriter) {
    writer.write_all(b"!").unwrap();
}

/// A pipe whose reader is blocked for longer than the crate calls usual: its `io_submit` is reported.
pub(crate) fn slow_pipe(bytes: &'static [u8]) -> PipeReader {
    let (reader, mut writer) = io::pipe().unwrap();
    thread::spawn(move || {
        // The time itself is what is tested: a submission that takes more than 100 ms.
        thread::sleep(Duration::from_millis(250));
        writer.write_all(bytes).unwrap();
    });
    reader
}

/// Blocks until the thread of this name sleeps in `futex`: it has nothing to wait for in the kernel.
pub(crate) fn until_parked(name: &str) {
    until(|| is_in(name, &[libc::SYS_futex]));
}

/// Blocks until the thread of this name sleeps in the kernel for events.
pub(crate) fn until_leading(name: &str) {
    until(|| is_in(name, &[libc::SYS_io_getevents]));
}

/// Blocks until the thread of this name sleeps, in either way.
pub(crate) fn until_asleep(name: &str) {
    until(|| is_in(name, &[libc::SYS_futex, libc::SYS_io_getevents]));
}

/// Blocks until the thread of this name is inside `io_submit`.
pub(crate) fn until_submitting(name: &str) {
    until(|| is_in(name, &[libc::SYS_io_submit]));
}

/// Blocks until any thread is inside `io_submit`.
pub(crate) fn until_any_submitting() {
    let submit = libc::SYS_io_submit.to_string();
    let call = |task: fs::DirEntry| fs::read_to_string(task.path().join("syscall"));
    until(|| {
        let mut tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        tasks.any(|task| call(task).is_ok_and(|call| call.split(' ').next() == Some(&submit)))
    });
}

/// Whether a thread of this name sleeps in one of these system calls.
pub(crate) fn is_in(name: &str, calls: &[libc::c_long]) -> bool {
    calls_of(name).any(|call| calls.iter().any(|wanted| call == wanted.to_string()))
}

/// The system calls in which the threads of this name are.
fn calls_of(name: &str) -> impl Iterator<Item = String> {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let named = tasks.filter(move |task| read(task.path().join("comm")).trim() == name);
    named.map(move |task| {
        let call = read(task.path().join("syscall"));
        call.split(' ').next().unwrap_or_default().trim().to_owned()
    })
}

/// A thread of this name.
pub(crate) fn named<R: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> R + Send + 'static,
) -> thread::JoinHandle<R> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .unwrap()
}

/// Whether this is the answer to a wait that would wait for its own caller.
pub(crate) fn would_deadlock<T>(result: &io::Result<T>) -> bool {
    result
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::Deadlock)
}

/// Whether this is ECANCELED.
pub(crate) fn is_cancelled<T>(result: &io::Result<T>) -> bool {
    result
        .as_ref()
        .is_err_and(|error| error.raw_os_error() == Some(libc::ECANCELED))
}

/// Panics unless the deadline came first.
#[track_caller]
pub(crate) fn assert_too_late(result: io::Result<()>) {
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

/// The processor time of this process.
pub(crate) fn processor_time() -> Duration {
    processor_time_of(UsageWho::RUSAGE_SELF)
}

pub(crate) fn processor_time_of(whom: UsageWho) -> Duration {
    let usage = getrusage(whom).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.unsigned_abs())
}
