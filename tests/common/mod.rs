//! What the test files share: a watchdog, children of their own program, things that count their drops,
//! places with files. What the fault lab uses as well is in `tests/kit`.
#![allow(dead_code, reason = "no test file needs all of it")]
#![allow(
    unsafe_code,
    reason = "buffers that count their drops are passed to the kernel, and children are forked"
)]

#[path = "../kit/mod.rs"]
mod kit;
pub(crate) mod modes;
mod process;

#[allow(unused_imports, reason = "no test file needs all of it")]
pub(crate) use kit::{
    Counter, Latch, Random, block_on, patience, poll_once, poll_with, waker_that,
};

#[allow(unused_imports, reason = "no test file needs all of it")]
pub(crate) use process::{count_contexts, count_threads, is_asleep};

use kiocb::buf::{IoBuf, IoBufMut};
use kiocb::op::Read;
use kiocb::{Aio, AioBuilder, AioError};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::gettid;
use std::fs::File;
use std::io::{self, PipeWriter, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Says why a test proves nothing here, and fails where everything is expected to be there.
pub(crate) fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
    assert!(
        std::env::var_os("KIOCB_CI").is_none(),
        "skipped in CI: {reason}"
    );
}

/// Runs `child` in a forked process, and says whether it got to its end. One that hangs, because a lock is its
/// parent's, is ended.
pub(crate) fn forked(child: impl FnOnce()) -> bool {
    // SAFETY: the child uses what a fork leaves usable: glibc's allocator, and its own memory.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            let seconds = u32::try_from(patience().as_secs()).unwrap_or(u32::MAX);
            // SAFETY: sets a timer of the child's own.
            unsafe { libc::alarm(seconds) };
            let passed = catch_unwind(AssertUnwindSafe(child));
            // SAFETY: ends this process without running what belongs to the parent.
            unsafe { libc::_exit(i32::from(passed.is_err())) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: `status` is valid for the write.
            let ended = unsafe { libc::waitpid(pid, &raw mut status, 0) };
            ended == pid && status == 0
        }
    }
}

/// Ends the process, and says where it hung, if the test is not over in time. Lives as long as the test.
#[must_use = "a watchdog that is dropped watches nothing"]
pub(crate) struct Watchdog {
    over: Arc<AtomicBool>,
    thread: Thread,
}

#[track_caller]
pub(crate) fn watchdog() -> Watchdog {
    let place = Location::caller();
    let name = thread::current().name().unwrap_or("?").to_owned();
    let over = Arc::new(AtomicBool::new(false));
    let (watched, (started, starts)) = (over.clone(), mpsc::channel());
    let thread = thread::spawn(move || {
        started.send(()).unwrap();
        watch(&watched, &name, place);
    });
    // A thread that is only starting needs memory, which a test may be about to take away or to count.
    starts.recv().unwrap();
    Watchdog {
        over,
        thread: thread.thread().clone(),
    }
}

fn watch(over: &AtomicBool, name: &str, place: &Location<'_>) {
    let patience = patience();
    let deadline = Instant::now() + patience;
    while !over.load(Ordering::SeqCst) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let report = format!(
                "HANGS: the test {name} at {place} is not over after {patience:?}\n{}\n",
                process::threads()
            );
            // Not `eprintln`: what a test prints is shown only when it ends.
            let _ = std::io::stderr().write_all(report.as_bytes());
            std::process::abort();
        }
        thread::park_timeout(left);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Waits for something that another thread or the kernel makes true, and that nobody can be told of. The
/// watchdog bounds it.
pub(crate) fn until(mut what: impl FnMut() -> bool) {
    while !what() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `body` in a process of its own that runs nothing else: for what is counted per process, or may end
/// it. The environment variables are the child's. Panics, with what it said, if the child fails.
///
/// `name` is the name of the test that calls this.
#[track_caller]
pub(crate) fn alone_with(name: &str, variables: &[(&str, &str)], body: impl FnOnce()) {
    if is_alone(name) {
        let _watchdog = watchdog();
        return body();
    }
    check_child(name, &child(name, variables));
}

/// Whether this is the process that [`child`] made for the test of this name.
pub(crate) fn is_alone(name: &str) -> bool {
    std::env::var_os("KIOCB_ALONE").is_some_and(|which| which == name)
}

/// Panics, with what the child said, unless it ran the test and passed.
#[track_caller]
pub(crate) fn check_child(name: &str, output: &Output) {
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{name} alone: {}\n{}{}",
        output.status,
        said(&output.stdout),
        said(&output.stderr)
    );
    assert!(
        said(&output.stdout).contains("1 passed"),
        "there is no test {name}"
    );
}

/// As [`alone_with`], with the environment as it is.
#[track_caller]
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    alone_with(name, &[], body);
}

/// Runs the test of this name in a process of its own.
pub(crate) fn child(name: &str, variables: &[(&str, &str)]) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("KIOCB_ALONE", name)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

/// Sets the soft limit of a resource of this process, and returns what it was.
pub(crate) fn limit(resource: Resource, soft: u64) -> u64 {
    let (before, hard) = getrlimit(resource).unwrap();
    setrlimit(resource, soft, hard).unwrap();
    before
}

/// A directory on a real file system: beside the build, or where `KIOCB_TEST_DIR` says.
pub(crate) fn disk_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(disk()).unwrap()
}

fn disk() -> PathBuf {
    let place = std::env::var_os("KIOCB_TEST_DIR");
    place.map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from)
}

/// A directory beside the build, and one in memory where there is one.
pub(crate) fn places() -> Vec<tempfile::TempDir> {
    let mut places = vec![disk_dir()];
    match tempfile::tempdir_in("/dev/shm") {
        Ok(place) => places.push(place),
        Err(error) => skip(&format!("no tmpfs at /dev/shm: {error}")),
    }
    places
}

/// A new file in `dir` for reading and writing.
pub(crate) fn new_file(dir: &tempfile::TempDir, name: &str) -> File {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(dir.path().join(name))
        .unwrap()
}

/// An unnamed file for reading and writing.
pub(crate) fn scratch() -> File {
    tempfile::tempfile_in(disk()).unwrap()
}

/// An unnamed file with these bytes.
pub(crate) fn file_of(bytes: &[u8]) -> File {
    use std::os::unix::fs::FileExt;
    let file = scratch();
    file.write_all_at(bytes, 0).unwrap();
    file
}

/// Writes [`BEYOND`] its first 4096 bytes fail with EPERM; all others, and syncs, succeed.
pub(crate) fn bounded() -> File {
    let memory = memfd_create("bounded", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    let file = File::from(memory);
    file.set_len(4096).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).unwrap();
    file
}

pub(crate) const BEYOND: u64 = 1 << 20;

/// `/dev/null` for reading and writing: one open file for the whole process, because tests make more requests
/// at once than a process may usually have open files.
pub(crate) fn null() -> Arc<File> {
    static NULL: LazyLock<Arc<File>> = LazyLock::new(|| Arc::new(new_null()));
    NULL.clone()
}

/// As [`null`], with a descriptor of its own.
pub(crate) fn new_null() -> File {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap()
}

/// Whether a transfer on a pipe may have [`NOWAIT`](kiocb::RwFlags::NOWAIT), as it may since Linux 6.4; says so
/// where it may not.
pub(crate) fn nowait_on_pipes() -> bool {
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut byte = [0; 1];
    let iovec = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: byte.len(),
    };
    // SAFETY: one iovec, of a buffer that is not used meanwhile.
    let read = unsafe {
        libc::preadv2(
            reader.as_raw_fd(),
            &raw const iovec,
            1,
            -1,
            libc::RWF_NOWAIT,
        )
    };
    assert_eq!(read, -1, "the pipe is empty");
    let unsupported = std::io::Error::last_os_error().raw_os_error() == Some(libc::EOPNOTSUPP);
    if unsupported {
        skip("RWF_NOWAIT on a pipe needs Linux 6.4");
    }
    !unsupported
}

/// Bytes that say where they belong: different for every seed and position.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed);
    (0..len).map(|_| random.next().to_le_bytes()[3]).collect()
}

/// Keeps the completion thread busy: it is inside a callback, which returns when the gate opens. Dropped, it
/// opens.
#[must_use = "dropped, it lets the completion thread go"]
pub(crate) struct Busy(Latch);

impl Busy {
    pub(crate) fn release(self) {}
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Returns when the completion thread of `aio` is inside the callback. Only for `Dispatch::Thread`.
pub(crate) fn keep_busy(aio: &Aio) -> Busy {
    let (inside, gate) = (Latch::default(), Latch::default());
    let (there, go_on) = (inside.clone(), gate.clone());
    aio.alloc()
        .init_rw(null(), Read, Vec::new(), 0)
        .init_callback(move |_| {
            there.open();
            go_on.wait();
        })
        .submit()
        .unwrap();
    inside.wait();
    Busy(gate)
}

/// Takes one slot of the kernel until it is dropped: a thread is inside `io_submit`, which reads from an
/// empty pipe.
#[must_use = "dropped, it gives the slot back"]
pub(crate) struct Occupied {
    writer: Option<PipeWriter>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Returns when the slot is taken. `aio` has had no other requests in flight.
pub(crate) fn occupy(aio: &Aio) -> Occupied {
    let (reader, writer) = std::io::pipe().unwrap();
    let (request, before) = (aio.alloc(), aio.stats().in_flight);
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        tell.send(gettid()).unwrap();
        let request = request.init_rw(OwnedFd::from(reader), Read, [0; 1], 0);
        assert_eq!(request.wait().unwrap().result.unwrap(), 1);
    });
    let task = PathBuf::from(format!("/proc/self/task/{}", told.recv().unwrap()));
    // A request that has its slot, and is not in the kernel, is refused by a shutdown.
    until(|| aio.stats().in_flight > before && is_asleep(&task));
    Occupied {
        writer: Some(writer),
        thread: Some(thread),
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        let writer = self.writer.take();
        writer.map(|mut writer| writer.write_all(b"!"));
        let over = self.thread.take().map(thread::JoinHandle::join);
        if !thread::panicking() {
            over.map(Result::unwrap);
        }
    }
}

/// A context of one test.
pub(crate) fn build(builder: AioBuilder) -> Aio {
    builder.build().expect("this machine has kernel AIO")
}

pub(crate) fn aio() -> Aio {
    build(Aio::builder())
}

/// The reason inside an error, unless it is an errno.
pub(crate) fn reason(error: &io::Error) -> Option<AioError> {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref())
        .copied()
}

/// Counts its drop.
#[derive(Debug)]
pub(crate) struct Token(Counter);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// A file that counts its drop.
#[derive(Debug)]
pub(crate) struct TokenFile(Arc<File>, #[allow(dead_code, reason = "counts")] Token);

impl AsFd for TokenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A buffer that counts its drop.
#[derive(Debug)]
pub(crate) struct TokenBuf(
    pub(crate) Vec<u8>,
    #[allow(dead_code, reason = "counts")] Token,
);

// SAFETY: the vector's own promise.
unsafe impl IoBuf for TokenBuf {
    fn buf_ptr(&self) -> *const u8 {
        self.0.buf_ptr()
    }

    fn buf_len(&self) -> usize {
        self.0.len()
    }
}

// SAFETY: the vector's own promise.
unsafe impl IoBufMut for TokenBuf {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        IoBufMut::buf_mut_ptr(&mut self.0)
    }

    fn buf_capacity(&self) -> usize {
        self.0.capacity()
    }

    unsafe fn set_init(&mut self, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.0.set_init(n) }
    }
}

/// Counts what becomes of requests: files, buffers and closures dropped, callbacks called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fates {
    pub(crate) files: Counter,
    pub(crate) buffers: Counter,
    pub(crate) closures: Counter,
    pub(crate) calls: Counter,
}

impl Fates {
    pub(crate) fn file(&self, file: impl Into<Arc<File>>) -> TokenFile {
        TokenFile(file.into(), Token(self.files.clone()))
    }

    pub(crate) fn buffer(&self, bytes: Vec<u8>) -> TokenBuf {
        TokenBuf(bytes, Token(self.buffers.clone()))
    }

    /// What a callback captures.
    pub(crate) fn token(&self) -> Token {
        Token(self.closures.clone())
    }

    /// A callback that only counts.
    pub(crate) fn callback<T>(&self) -> impl FnOnce(T) + Send + 'static + use<T> {
        let (token, calls) = (self.token(), self.calls.clone());
        move |_| {
            let _token = token;
            calls.add();
        }
    }

    /// Files, buffers and closures dropped, and calls.
    pub(crate) fn seen(&self) -> [usize; 4] {
        [&self.files, &self.buffers, &self.closures, &self.calls].map(Counter::get)
    }
}

/// What is logged up to this level, but for submissions that blocked: on a slow machine that may be any.
pub(crate) fn logged(level: log::LevelFilter) -> Arc<Mutex<Vec<String>>> {
    struct Logger(Arc<Mutex<Vec<String>>>);
    impl log::Log for Logger {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            let line = record.args().to_string();
            if !line.contains("io_submit blocked") {
                self.0.lock().unwrap().push(line);
            }
        }
        fn flush(&self) {}
    }
    let lines = Arc::default();
    log::set_logger(Box::leak(Box::new(Logger(Arc::clone(&lines))))).unwrap();
    log::set_max_level(level);
    lines
}
