//! What the tests of kiocb's safe layer share: files whose every block says which it is, requests over them,
//! and looking at the crate from outside.
#![allow(dead_code, reason = "each test binary uses a part of it")]

#[path = "../../../kit/mod.rs"]
mod shared;

#[allow(unused_imports, reason = "each test binary uses a part of it")]
pub(crate) use shared::{Counter, Random, block_on, poll_once};

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, Once, PoisonError};
use std::time::Duration;

use kiocb::buf::IoBufMut;
use kiocb::op::{Read, Rw, Write};
use kiocb::{Aio, AioBuilder, AioError, AlignedBuf, Completion, Iocb, SetupError};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Gate, LoopDevice, Mount, PATIENCE, SlowFs, wait_until_asleep_in};

/// A block's length, as an offset.
pub(crate) const B: u64 = BLOCK as u64;

/// A read or write of one block.
pub(crate) type ReadingState = Rw<Arc<File>, Read, AlignedBuf>;
pub(crate) type Reading = Iocb<ReadingState>;
pub(crate) type Writing = Iocb<Rw<Arc<File>, Write, AlignedBuf>>;
pub(crate) type Done = Completion<Arc<File>, AlignedBuf>;

/// Block `n` is full of the byte `n + 1`: never of what a fresh buffer holds.
pub(crate) fn blocks(count: u8) -> Vec<u8> {
    (1..=count).flat_map(|number| vec![number; BLOCK]).collect()
}

/// An ext4 on a disk that the test can hold and fail, with a file of four blocks of which the page cache knows
/// nothing.
pub(crate) fn ext4_on_a_slow_disk() -> io::Result<(SlowFs, Mount, Arc<File>)> {
    let fs = SlowFs::new()?;
    let disk = fs.file("disk", vec![0; 16 << 20]);
    let mount = Mount::ext4_on(LoopDevice::new(&disk)?)?;
    let file = mount.file("f", 4 * BLOCK, libc::O_DIRECT)?;
    Ok((fs, mount, Arc::new(file)))
}

/// How many kernel contexts this process has.
pub(crate) fn count_contexts() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("proc");
    maps.lines().filter(|line| line.contains("[aio]")).count()
}

/// A context of that depth with the defaults.
pub(crate) fn aio(depth: u32) -> Aio {
    Aio::builder().depth(depth).build().expect("a context")
}

/// A context whose completion thread can be found by its name.
pub(crate) fn named(name: &str) -> AioBuilder {
    Aio::builder().depth(16).thread_name(name)
}

/// A read of block `number`.
pub(crate) fn read(aio: &Aio, file: &Arc<File>, number: u64) -> Reading {
    aio.alloc().init_rw(
        Arc::clone(file),
        Read,
        AlignedBuf::zeroed(BLOCK),
        number * B,
    )
}

/// A write of `byte` to block `number`.
pub(crate) fn write(aio: &Aio, file: &Arc<File>, number: u64, byte: u8) -> Writing {
    let buf = AlignedBuf::from(&[byte; BLOCK]);
    aio.alloc()
        .init_rw(Arc::clone(file), Write, buf, number * B)
}

/// Submits a read of block `number` whose completion arrives in the channel.
pub(crate) fn read_to(aio: &Aio, file: &Arc<File>, number: u64, done: &Sender<Done>) {
    let done = done.clone();
    read(aio, file, number)
        .init_callback(move |completion| drop(done.send(completion)))
        .submit()
        .expect("submitted");
}

/// Runs `body` inside the callback of a read of block `number`: the plug holds back what it submits.
pub(crate) fn submit_in_a_callback(
    aio: &Aio,
    file: &Arc<File>,
    number: u64,
    body: impl FnOnce(&Aio, &Arc<File>) + Send + 'static,
) {
    let inner = aio.clone();
    read(aio, file, number)
        .init_callback(move |done| body(&inner, &done.file))
        .submit()
        .expect("submitted");
}

/// Submits a read of an empty pipe, which blocks in `io_submit` until the writing end is dropped; then the
/// length read (0) arrives in the channel.
pub(crate) fn read_pipe(aio: &Aio) -> (io::PipeWriter, Receiver<usize>) {
    let (reader, writer) = io::pipe().expect("a pipe");
    let (done, completion) = channel();
    aio.alloc()
        .init_rw(reader, Read, vec![0; 1], 0)
        .init_callback(move |read| {
            let _ = done.send(read.result.expect("end of file"));
        })
        .submit()
        .expect("submitted");
    (writer, completion)
}

/// Fails the test unless blocks `0..count` come out of the channel, each once, in any order: which thread
/// calls which callback first is nobody's promise.
#[track_caller]
pub(crate) fn receive_blocks(channel: &Receiver<Done>, count: u8) {
    let mut left: Vec<u8> = (0..count).collect();
    while !left.is_empty() {
        let done = receive(channel);
        let number = done.buf[0].wrapping_sub(1);
        verify(&done, u64::from(number));
        let place = left.iter().position(|&block| block == number);
        left.swap_remove(place.unwrap_or_else(|| panic!("block {number} came twice")));
    }
}

/// Fails the test unless this is block `number` of a file of [`blocks`].
#[track_caller]
pub(crate) fn verify(done: &Done, number: u64) {
    assert_eq!(done.result.as_ref().expect("a count"), &BLOCK);
    assert!(
        done.buf.iter().all(|&byte| u64::from(byte) == number + 1),
        "not block {number}"
    );
}

/// A buffer that tells whether it still exists.
#[derive(Debug)]
pub(crate) struct Tracked {
    memory: AlignedBuf,
    _alive: Arc<()>,
}

impl Tracked {
    /// What is in it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory
    }

    /// One block; the second value is [`is_alone`] once the first is gone.
    pub(crate) fn block() -> (Tracked, Arc<()>) {
        let alive = Arc::new(());
        let memory = AlignedBuf::zeroed(BLOCK);
        (
            Tracked {
                memory,
                _alive: Arc::clone(&alive),
            },
            alive,
        )
    }
}

/// Waits until the [`Tracked`] that came with it is gone, and all shares of the file but so many.
#[track_caller]
pub(crate) fn wait_until_let_go(alive: &Arc<()>, file: &Arc<File>, shares: usize) {
    wait_until("file and buffer are let go", || {
        is_alone(alive) && Arc::strong_count(file) == shares
    });
}

/// Whether the [`Tracked`] that came with it is gone.
pub(crate) fn is_alone(alive: &Arc<()>) -> bool {
    Arc::strong_count(alive) == 1
}

// SAFETY: passed on to a type that keeps the promise.
unsafe impl IoBufMut for Tracked {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        IoBufMut::buf_mut_ptr(&mut self.memory)
    }

    fn buf_capacity(&self) -> usize {
        IoBufMut::buf_capacity(&self.memory)
    }

    unsafe fn set_init(&mut self, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.memory.set_init(n) }
    }
}

/// The errno of an outcome.
pub(crate) fn errno<T>(result: &io::Result<T>) -> Option<i32> {
    result.as_ref().err().and_then(io::Error::raw_os_error)
}

/// What an error of the crate's own says.
pub(crate) fn unavailable(error: &io::Error) -> Option<AioError> {
    error.get_ref()?.downcast_ref().copied()
}

/// A message within the lab's patience.
#[track_caller]
pub(crate) fn receive<T>(channel: &Receiver<T>) -> T {
    channel.recv_timeout(PATIENCE).expect("a message in time")
}

/// Blocks the receiver until the test lets it go, or has ended.
pub(crate) fn latch() -> (Sender<()>, impl FnOnce() + Send + 'static) {
    let (open, opened) = channel::<()>();
    let wait = move || {
        let _ = opened.recv_timeout(PATIENCE);
    };
    (open, wait)
}

/// The number of this process's thread of that name, once it has given itself the name.
pub(crate) fn thread_named(name: &str) -> i32 {
    let mut number = None;
    wait_until(&format!("there is a thread {name}"), || {
        number = find_thread(name);
        number.is_some()
    });
    number.expect("found")
}

pub(crate) fn find_thread(name: &str) -> Option<i32> {
    let tasks = std::fs::read_dir("/proc/self/task")
        .expect("proc")
        .flatten();
    let mut found = tasks.filter(|task| {
        let comm = std::fs::read_to_string(task.path().join("comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    });
    found.next()?.file_name().to_string_lossy().parse().ok()
}

/// Opens the gate for one request, the oldest, once it is there.
pub(crate) fn let_one_through(gate: &Gate) {
    gate.wait_for(1);
    gate.let_through(0);
}

/// Waits until the thread sleeps, for an event or for another thread.
pub(crate) fn wait_until_waiting(thread: i32) {
    let asleep = |number| kiocb_faults::is_asleep_in(thread, number);
    wait_until("it waits", || {
        asleep(libc::SYS_io_getevents) || asleep(libc::SYS_futex)
    });
}

/// A thread that told its number, and what it came to.
#[derive(Debug)]
pub(crate) struct Worker<T> {
    pub(crate) thread: i32,
    result: Receiver<T>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts a thread that can be looked at from outside. If it hangs, the test fails and leaves it behind.
    pub(crate) fn start(work: impl FnOnce() -> T + Send + 'static) -> Worker<T> {
        let (tell, told) = channel();
        let (give, result) = channel();
        std::thread::spawn(move || {
            let _ = tell.send(kiocb_faults::thread_id());
            let _ = give.send(work());
        });
        Worker {
            thread: receive(&told),
            result,
        }
    }

    /// What it came to, within the lab's patience.
    #[track_caller]
    pub(crate) fn join(self) -> T {
        receive(&self.result)
    }

    /// Whether it has come to its end.
    pub(crate) fn is_done(&mut self) -> Option<T> {
        self.result.try_recv().ok()
    }

    /// Waits until it sleeps in the kernel for an event: it is the one that reaps.
    pub(crate) fn wait_until_leading(&self) {
        wait_until_asleep_in(self.thread, libc::SYS_io_getevents);
    }

    /// Waits until it sleeps, in the one way or the other.
    pub(crate) fn wait_until_waiting(&self) {
        wait_until_waiting(self.thread);
    }

    /// Waits until it is parked: it relies on somebody else to reap.
    pub(crate) fn wait_until_parked(&self) {
        wait_until_asleep_in(self.thread, libc::SYS_futex);
    }
}

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static LOGGED: Condvar = Condvar::new();

struct Listener;

impl log::Log for Listener {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{}: {}", record.level(), record.args());
        LINES
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
        LOGGED.notify_all();
    }

    fn flush(&self) {}
}

/// From now on the crate's log is kept.
pub(crate) fn listen_to_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Listener).expect("the first logger");
        log::set_max_level(log::LevelFilter::Debug);
    });
}

/// Waits until a line with this text has been logged.
#[track_caller]
pub(crate) fn wait_for_log(text: &str) {
    let is_missing = |lines: &mut Vec<String>| !lines.iter().any(|line| line.contains(text));
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let (lines, late) = LOGGED
        .wait_timeout_while(lines, PATIENCE, is_missing)
        .unwrap_or_else(PoisonError::into_inner);
    assert!(!late.timed_out(), "no {text:?} in the log: {lines:#?}");
}

/// Why there is no context.
#[track_caller]
pub(crate) fn setup_error(error: &io::Error) -> &SetupError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.expect("a SetupError")
}

/// Waits until the condition holds, which nothing announces.
#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(
        comes_true(PATIENCE, condition),
        "waited in vain until {what}"
    );
}

/// Whether the condition, which nothing announces, holds within that time.
pub(crate) fn comes_true(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = std::time::Instant::now() + within;
    while !condition() {
        if std::time::Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}
