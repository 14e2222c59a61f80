//! Everything at once: all verbs on eight threads, every byte looked at, with wakers, destructors, callbacks and
//! a logger that do the worst they may.
//!
//! Each page of a file has one operation at a time, and a version that says what must be in it. A run takes some
//! seconds; `KIOCB_CHAOS_SECONDS` has another number, and `KIOCB_CHAOS_SEED` repeats the choices of a run that
//! failed (not its timing).

mod kit;

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, PipeWriter, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kiocb::buf::{IoBuf, IoBufMut};
use kiocb::op::{PollReady, Read, ReadV, Rw, Write, WriteV};
use kiocb::{Aio, AlignedBuf, Completion, Dispatch, Iocb, Pending, PollFlags, SyncGroup, SyncKind};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Gate, Op, SlowFs, Watchdog};
use kit::wait_until;

const THREADS: usize = 8;
const PAGES: usize = 64;
const DEPTH: u32 = 32;
/// Kinds of what a thread does.
const DEEDS: usize = 20;

thread_local! {
    /// What this thread is doing.
    static DEED: Cell<usize> = const { Cell::new(0) };
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, sides: usize) -> usize {
        (self.next() % sides as u64) as usize
    }
}

/// What must be in a page of that version.
fn content(page: usize, version: u64) -> Vec<u8> {
    let mut dice = Dice(version ^ ((page as u64) << 48));
    (0..BLOCK / 8)
        .flat_map(|_| dice.next().to_le_bytes())
        .collect()
}

/// A file whose pages are known.
struct Store {
    file: Arc<File>,
    pages: Vec<Page>,
}

struct Page {
    busy: AtomicBool,
    version: AtomicU64,
}

impl Store {
    fn new(file: File) -> Store {
        let page = || Page {
            busy: AtomicBool::new(false),
            version: AtomicU64::new(0),
        };
        Store {
            file: Arc::new(file),
            pages: (0..PAGES).map(|_| page()).collect(),
        }
    }
}

/// The right to one page, until the last that has to do with it is dropped.
struct Lease {
    store: Arc<Store>,
    page: usize,
    /// What is in it afterwards.
    after: u64,
}

impl Lease {
    fn take(store: &Arc<Store>, dice: &mut Dice, write: bool) -> Option<Lease> {
        let page = dice.below(PAGES);
        if store.pages[page].busy.swap(true, Ordering::SeqCst) {
            return None;
        }
        let version = store.pages[page].version.load(Ordering::SeqCst);
        let after = if write { dice.next() } else { version };
        Some(Lease {
            store: Arc::clone(store),
            page,
            after,
        })
    }

    fn offset(&self) -> u64 {
        (self.page * BLOCK) as u64
    }

    /// The bytes for a write, or those that a read must find.
    fn bytes(&self) -> Vec<u8> {
        content(self.page, self.after)
    }

    #[track_caller]
    fn check(&self, result: &io::Result<usize>, bytes: &[u8], what: &str) {
        assert_eq!(
            result.as_ref().ok(),
            Some(&BLOCK),
            "{what} of page {}: {result:?}",
            self.page
        );
        assert!(
            bytes == self.bytes(),
            "{what}: page {} has other bytes",
            self.page
        );
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let page = &self.store.pages[self.page];
        page.version.store(self.after, Ordering::SeqCst);
        page.busy.store(false, Ordering::SeqCst);
    }
}

/// What all threads share.
struct World {
    aio: Aio,
    dispatch: Dispatch,
    mode: bool,
    stores: Vec<Arc<Store>>,
    log: SyncGroup<File>,
    zero: Arc<File>,
    dice: AtomicU64,
    accepted: AtomicUsize,
    called: AtomicUsize,
    buffers: AtomicUsize,
    dropped: AtomicUsize,
    ops: AtomicUsize,
    /// Buffers and callbacks that are not dropped, by the deed that they were made for.
    alive: [AtomicUsize; DEEDS],
    uncalled: [AtomicUsize; DEEDS],
    /// What went wrong where a panic would be taken for mischief.
    faults: Mutex<Vec<String>>,
}

type Shared = Arc<World>;

/// The panics that are meant.
struct Mischief;

/// The same, and another one when it is dropped.
struct DoubleMischief;

fn is_meant(panic: &(dyn std::any::Any + Send)) -> bool {
    panic.is::<Mischief>() || panic.is::<DoubleMischief>()
}

impl Drop for DoubleMischief {
    fn drop(&mut self) {
        if !thread::panicking() {
            resume_unwind(Box::new(Mischief));
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("accepted", &self.accepted)
            .field("called", &self.called)
            .field("buffers", &self.buffers)
            .field("dropped", &self.dropped)
            .field("alive", &self.alive)
            .field("uncalled", &self.uncalled)
            .field("stats", &self.aio.stats())
            .finish_non_exhaustive()
    }
}

impl World {
    fn dice(&self) -> Dice {
        Dice(
            self.dice
                .fetch_add(0x1234_5678_9abc_def1, Ordering::Relaxed),
        )
    }

    fn fault(&self, what: String) {
        self.faults.lock().unwrap().push(what);
    }

    /// A check whose failure must be heard, wherever it is made.
    fn hear(&self, check: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(check)) {
            if is_meant(&*panic) {
                return std::mem::forget(panic); // of what was dropped in there
            }
            let text = panic.downcast_ref::<String>().cloned();
            self.fault(text.unwrap_or_else(|| "a check failed".to_owned()));
        }
    }

    /// Whether every callback was called and every buffer dropped.
    fn is_settled(&self) -> bool {
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        count(&self.called) == count(&self.accepted) && count(&self.dropped) == count(&self.buffers)
    }

    /// A callback that does its part and then some mischief.
    fn callback<T: Send + 'static>(
        self: &Arc<Self>,
        part: impl FnOnce(T) + Send + 'static,
    ) -> impl FnOnce(T) + Send + 'static {
        let (world, deed) = (Arc::clone(self), DEED.get());
        world.uncalled[deed].fetch_add(1, Ordering::SeqCst);
        move |done| {
            world.hear(|| part(done));
            world.called.fetch_add(1, Ordering::SeqCst);
            world.uncalled[deed].fetch_sub(1, Ordering::SeqCst);
            mischief(&world);
        }
    }

    fn accept<E: std::fmt::Debug>(&self, submitted: Result<(), E>) {
        submitted.expect("the context takes all");
        self.accepted.fetch_add(1, Ordering::SeqCst);
    }
}

/// What user code does besides: mostly nothing.
fn mischief(world: &Shared) {
    if thread::panicking() {
        return; // a second panic would be the end
    }
    let mut dice = world.dice();
    match dice.below(60) {
        0 => resume_unwind(Box::new(Mischief)),
        1 => resume_unwind(Box::new(DoubleMischief)),
        2 => {
            let request = world
                .aio
                .alloc()
                .init_rw(Arc::clone(&world.zero), Read, [1; 64], 0);
            let called = Arc::clone(world);
            let request = request.init_callback(move |done| {
                if done.buf != [0; 64] {
                    called.fault(format!("/dev/zero: {:?}", done.result));
                }
                called.called.fetch_add(1, Ordering::SeqCst);
            });
            world.accept(request.submit().map_err(|refused| refused.into_parts().0));
        }
        3 => {
            let mut buf = [1; 64];
            let read = world.aio.read_at(&world.zero, &mut buf, 0);
            if !matches!(read, Ok(64)) || buf != [0; 64] {
                world.fault(format!("a wait in user code: {read:?}"));
            }
        }
        4 => {
            let read = world
                .aio
                .alloc()
                .init_rw(Arc::clone(&world.zero), Read, [1; 64], 0);
            drop(read.start());
        }
        5 => drop(world.aio.drain_timeout(Duration::from_micros(100))), // refused, or too late
        6 => drop(world.aio.poll(0, 4, None)),
        7 => thread::sleep(Duration::from_micros(50)),
        8 => log::info!("mischief"),
        9 => drop(world.aio.stats()),
        10 if dice.below(10) == 0 => another_context(world),
        _ => {}
    }
}

/// A context that ends wherever this is, with something under way.
fn another_context(world: &Shared) {
    let builder = Aio::builder()
        .depth(2)
        .dispatch(world.dispatch)
        .force_syscalls(world.mode);
    let Ok(other) = builder.build() else { return };
    for _ in 0..4 {
        let called = Arc::clone(world);
        let request = other
            .alloc()
            .init_rw(Arc::clone(&world.zero), Read, [1; 64], 0);
        let request = request.init_callback(move |_| {
            called.called.fetch_add(1, Ordering::SeqCst);
        });
        world.accept(request.submit().map_err(|refused| refused.into_parts().0));
    }
    drop(other);
}

/// A page's memory, which counts itself and does mischief when it is dropped.
struct Memory {
    /// The deed that it was made for.
    deed: usize,
    bytes: AlignedBuf,
    lease: Option<Lease>,
    world: Shared,
}

impl Memory {
    fn new(world: &Shared, lease: Lease, write: bool) -> Memory {
        let deed = DEED.get();
        world.buffers.fetch_add(1, Ordering::SeqCst);
        world.alive[deed].fetch_add(1, Ordering::SeqCst);
        let bytes = if write {
            AlignedBuf::from(&lease.bytes()[..])
        } else {
            AlignedBuf::zeroed(BLOCK)
        };
        Memory {
            deed,
            bytes,
            lease: Some(lease),
            world: Arc::clone(world),
        }
    }

    fn offset(&self) -> u64 {
        self.lease.as_ref().map_or(0, Lease::offset)
    }

    fn check(&self, result: &io::Result<usize>, what: &str) {
        let lease = self.lease.as_ref().expect("not dropped yet");
        self.world.hear(|| lease.check(result, &self.bytes, what));
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        drop(self.lease.take());
        self.world.dropped.fetch_add(1, Ordering::SeqCst);
        self.world.alive[self.deed].fetch_sub(1, Ordering::SeqCst);
        mischief(&self.world);
    }
}

// SAFETY: the memory's own promise.
unsafe impl IoBuf for Memory {
    fn buf_ptr(&self) -> *const u8 {
        IoBuf::buf_ptr(&self.bytes)
    }

    fn buf_len(&self) -> usize {
        IoBuf::buf_len(&self.bytes)
    }
}

// SAFETY: the memory's own promise.
unsafe impl IoBufMut for Memory {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        IoBufMut::buf_mut_ptr(&mut self.bytes)
    }

    fn buf_capacity(&self) -> usize {
        IoBufMut::buf_capacity(&self.bytes)
    }

    unsafe fn set_init(&mut self, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.bytes.set_init(n) }
    }
}

/// Wakes its thread, and does mischief when it wakes and when it is dropped.
struct NastyWaker {
    thread: thread::Thread,
    woken: AtomicBool,
    world: Shared,
}

impl Wake for NastyWaker {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
        mischief(&self.world);
    }
}

impl Drop for NastyWaker {
    fn drop(&mut self) {
        mischief(&self.world);
    }
}

/// Polls until it answers. Under Manual another thread polls the context.
fn block_on<F: Future + Unpin>(world: &Shared, mut future: F) -> F::Output {
    loop {
        let nasty = Arc::new(NastyWaker {
            thread: thread::current(),
            woken: AtomicBool::new(false),
            world: Arc::clone(world),
        });
        let waker = Waker::from(Arc::clone(&nasty));
        let polled = std::pin::Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
        drop(waker); // while `polled` is a value of ours: should this panic, it is dropped
        if let std::task::Poll::Ready(output) = polled {
            drop(nasty);
            return output;
        }
        while !nasty.woken.load(Ordering::SeqCst) {
            thread::park();
        }
    }
}

type Reading = Iocb<Rw<Arc<File>, Read, Memory>>;
type Writing = Iocb<Rw<Arc<File>, Write, Memory>>;
type Done = Completion<Arc<File>, Memory>;

/// A thread's part.
struct Worker {
    world: Shared,
    dice: Dice,
    waits: Vec<(Pending<PollReady<OwnedFd>>, PipeWriter)>,
}

impl Worker {
    fn lease(&mut self, write: bool) -> Option<Lease> {
        let store = &self.world.stores[self.dice.below(self.world.stores.len())];
        Lease::take(store, &mut self.dice, write)
    }

    fn reading(&mut self) -> Option<Reading> {
        let lease = self.lease(false)?;
        let file = Arc::clone(&lease.store.file);
        let memory = Memory::new(&self.world, lease, false);
        let offset = memory.offset();
        Some(self.world.aio.alloc().init_rw(file, Read, memory, offset))
    }

    fn writing(&mut self) -> Option<Writing> {
        let lease = self.lease(true)?;
        let file = Arc::clone(&lease.store.file);
        let memory = Memory::new(&self.world, lease, true);
        let offset = memory.offset();
        Some(self.world.aio.alloc().init_rw(file, Write, memory, offset))
    }

    /// One thing, or nothing where a page is taken.
    fn act(&mut self) -> Option<()> {
        let world = Arc::clone(&self.world);
        let look = |what: &'static str| move |done: Done| done.buf.check(&done.result, what);
        DEED.set(self.dice.below(DEEDS));
        match DEED.get() {
            0 => world.accept(
                self.reading()?
                    .init_callback(world.callback(look("read")))
                    .submit()
                    .map_err(drop),
            ),
            1 => world.accept(
                self.writing()?
                    .init_callback(world.callback(look("write")))
                    .submit()
                    .map_err(drop),
            ),
            2 => look("wait")(self.reading()?.wait().map_err(drop).expect("taken")),
            3 => look("wait")(self.writing()?.wait().map_err(drop).expect("taken")),
            4 => look("handle")(self.reading()?.start().map_err(drop).expect("taken").wait()),
            5 => self.patiently()?,
            6 => look("await")(
                block_on(&world, self.reading()?.into_future())
                    .map_err(drop)
                    .expect("taken"),
            ),
            7 => look("await")(
                block_on(&world, self.writing()?.into_future())
                    .map_err(drop)
                    .expect("taken"),
            ),
            8 => drop(self.reading()?.start()),
            9 => drop(self.writing()?.start()),
            10 => self.batch(),
            11 => self.scope(),
            12 => self.borrow()?,
            13 => self.readiness(),
            14 => self.barrier(),
            15 => {
                let read = self.reading()?.read_exact().nowait_or_offload();
                world.accept(
                    read.init_callback(world.callback(look("exact")))
                        .submit()
                        .map_err(drop),
                );
            }
            16 => {
                let write = self.writing()?.write_all().nowait_or_offload();
                look("all")(write.wait().map_err(drop).expect("taken"));
            }
            17 => self.vectored()?,
            18 => self.abandon_with_a_waker()?,
            _ => mischief(&world),
        }
        Some(())
    }

    fn patiently(&mut self) -> Option<()> {
        let mut handle = self.writing()?.start().map_err(drop).expect("taken");
        let done = loop {
            match handle.wait_timeout(Duration::from_micros(100)) {
                Ok(done) => break done,
                Err(again) => handle = again,
            }
        };
        done.buf.check(&done.result, "patience");
        Some(())
    }

    fn batch(&mut self) {
        let world = Arc::clone(&self.world);
        let (mut batch, mut handles, mut pushed) = (world.aio.batch(), Vec::new(), 0);
        for _ in 0..self.dice.below(12) {
            if let Some(read) = self.reading() {
                handles.push(batch.push(read));
            }
            if let Some(write) = self.writing() {
                let look = |done: Done| done.buf.check(&done.result, "batch");
                let _ = batch.push_callback(write.init_callback(world.callback(look)));
                pushed += 1;
            }
        }
        assert!(batch.submit().is_empty());
        world.accepted.fetch_add(pushed, Ordering::SeqCst);
        for handle in handles {
            let done = handle.wait();
            done.buf.check(&done.result, "batch");
        }
    }

    fn scope(&mut self) {
        let leases: Vec<_> = (0..self.dice.below(12))
            .filter_map(|_| self.lease(false))
            .collect();
        let mut memory: Vec<_> = leases.iter().map(|_| AlignedBuf::zeroed(BLOCK)).collect();
        let forget = self.dice.below(2) == 0;
        self.world.aio.scope(|s| {
            for (lease, memory) in leases.iter().zip(&mut memory) {
                let read = s.read_at(&lease.store.file, memory, lease.offset());
                if !forget {
                    assert_eq!(read.wait().expect("read"), BLOCK);
                }
            }
        });
        for (lease, memory) in leases.iter().zip(&memory) {
            self.world.hear(|| lease.check(&Ok(BLOCK), memory, "scope"));
        }
    }

    fn borrow(&mut self) -> Option<()> {
        let lease = self.lease(true)?;
        let memory = AlignedBuf::from(&lease.bytes()[..]);
        let written = self
            .world
            .aio
            .write_at(&lease.store.file, &memory, lease.offset());
        let mut again = AlignedBuf::zeroed(BLOCK);
        let read = self
            .world
            .aio
            .read_at(&lease.store.file, &mut again, lease.offset());
        self.world
            .hear(|| lease.check(&written, &memory, "write_at"));
        self.world.hear(|| lease.check(&read, &again, "read_at"));
        Some(())
    }

    fn vectored(&mut self) -> Option<()> {
        let lease = self.lease(true)?;
        let (bytes, file) = (lease.bytes(), Arc::clone(&lease.store.file));
        let halves = bytes
            .chunks(BLOCK / 2)
            .map(AlignedBuf::from)
            .collect::<Vec<_>>();
        let write =
            self.world
                .aio
                .alloc()
                .init_rw(Arc::clone(&file), WriteV, halves, lease.offset());
        let done = write.wait().expect("taken");
        assert_eq!(done.result.expect("written"), BLOCK);
        let empty = vec![AlignedBuf::zeroed(BLOCK / 2), AlignedBuf::zeroed(BLOCK / 2)];
        let read = self
            .world
            .aio
            .alloc()
            .init_rw(file, ReadV, empty, lease.offset());
        let done = read.start().expect("taken").wait();
        let all: Vec<u8> = done.buf.iter().flat_map(|half| half.to_vec()).collect();
        self.world
            .hear(|| lease.check(&done.result, &all, "vectored"));
        Some(())
    }

    /// A handle that has been polled, and is dropped while it may be woken.
    fn abandon_with_a_waker(&mut self) -> Option<()> {
        let mut handle = self.writing()?.start().map_err(drop).expect("taken");
        let nasty = NastyWaker {
            thread: thread::current(),
            woken: AtomicBool::new(false),
            world: Arc::clone(&self.world),
        };
        let waker = Waker::from(Arc::new(nasty));
        let _ = std::pin::Pin::new(&mut handle).poll(&mut Context::from_waker(&waker));
        Some(())
    }

    /// Begins a wait for readiness, or ends one in one of the ways there are.
    fn readiness(&mut self) {
        if self.waits.len() < 2 {
            let (reader, writer) = io::pipe().expect("a pipe");
            let poll = self
                .world
                .aio
                .alloc()
                .init_poll(OwnedFd::from(reader), PollFlags::IN);
            self.waits.push((poll.start().expect("taken"), writer));
            return;
        }
        let (pending, mut writer) = self.waits.swap_remove(0);
        match self.dice.below(4) {
            0 => drop(pending),
            1 => {
                pending.cancel();
                let _ = pending.wait().result;
            }
            2 => {
                writer.write_all(b"!").expect("a byte");
                pending.wait().result.expect("readable");
            }
            _ => {
                writer.write_all(b"!").expect("a byte");
                let _ = block_on(&self.world, pending).result.expect("readable");
            }
        }
    }

    fn barrier(&mut self) {
        let (world, place) = (&self.world, self.dice.next() % 64 * BLOCK as u64);
        let memory = AlignedBuf::from(&[7; BLOCK]);
        let written =
            |done: Completion<_, AlignedBuf>| assert_eq!(done.result.expect("written"), BLOCK);
        let write = world.log.write(memory, place, world.callback(written));
        world.accept(write.map_err(drop));
        let synced = |result: io::Result<()>| result.expect("synced");
        world.accept(
            world
                .log
                .barrier(SyncKind::Data, world.callback(synced))
                .map_err(drop),
        );
    }

    fn run(mut self, end: Instant) {
        while Instant::now() < end {
            // What is dropped in here may do mischief to us.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.act())) {
                if !is_meant(&*panic) {
                    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                    self.world.fault(format!("a thread panicked: {text}"));
                }
                std::mem::forget(panic);
            }
            self.world.ops.fetch_add(1, Ordering::Relaxed);
        }
        for (pending, writer) in self.waits.drain(..) {
            drop((writer, pending));
        }
    }
}

/// A file whose pages are of version 0.
fn direct_file(dir: &tempfile::TempDir, name: &str) -> File {
    let path = dir.path().join(name);
    let first: Vec<u8> = (0..PAGES).flat_map(|page| content(page, 0)).collect();
    std::fs::write(&path, first).expect("written");
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true);
    let direct = options.clone().custom_flags(libc::O_DIRECT).open(&path);
    direct.or_else(|_| options.open(&path)).expect("opened")
}

/// Lets held requests through, in any order, until it is stopped.
fn let_through_at_random(gate: &Gate, stop: &AtomicBool, mut dice: Dice) {
    while !stop.load(Ordering::SeqCst) {
        match gate.held().len() {
            0 => thread::sleep(Duration::from_micros(100)),
            held => gate.let_through(dice.below(held)),
        }
    }
}

fn chaos(dispatch: Dispatch, force_syscalls: bool, seed: u64, time: Duration) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let slow = kiocb_faults::skip::is_root()
        .then(SlowFs::new)
        .and_then(Result::ok);
    let mut stores = vec![Arc::new(Store::new(direct_file(&directory, "disk")))];
    if let Some(slow) = &slow {
        let first = (0..PAGES).flat_map(|page| content(page, 0)).collect();
        stores.push(Arc::new(Store::new(slow.file("slow", first))));
    }
    let gate = slow.as_ref().map(|slow| slow.on(Op::Read).hold());
    let builder = Aio::builder()
        .depth(DEPTH)
        .dispatch(dispatch)
        .force_syscalls(force_syscalls);
    let aio = builder.build().expect("a context");
    let log = File::create(directory.path().join("log")).expect("a log");
    let world = Arc::new(World {
        log: SyncGroup::new(&aio, log),
        aio,
        dispatch,
        mode: force_syscalls,
        stores: stores.clone(),
        zero: Arc::new(File::open("/dev/zero").expect("/dev/zero")),
        dice: AtomicU64::new(seed),
        accepted: AtomicUsize::new(0),
        called: AtomicUsize::new(0),
        buffers: AtomicUsize::new(0),
        dropped: AtomicUsize::new(0),
        ops: AtomicUsize::new(0),
        alive: Default::default(),
        uncalled: Default::default(),
        faults: Mutex::default(),
    });
    let (over, stop, end) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        Instant::now() + time,
    );
    thread::scope(|s| {
        if let Some(gate) = &gate {
            s.spawn(|| let_through_at_random(gate, &over, Dice(seed)));
        }
        if dispatch == Dispatch::Manual {
            s.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let _ = world.aio.poll(1, 8, Some(Duration::from_millis(1)));
                }
            });
        }
        let threads: Vec<_> = (0..THREADS as u64)
            .map(|thread| {
                let (world, dice) = (Arc::clone(&world), Dice(seed ^ (thread << 32)));
                s.spawn(move || {
                    Worker {
                        world,
                        dice,
                        waits: Vec::new(),
                    }
                    .run(end)
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("it catches panics"));
        stop.store(true, Ordering::SeqCst);
        world.aio.drain().expect("drained");
        wait_until("every callback is called and every buffer dropped", || {
            let _ = world.aio.poll(0, usize::MAX, None);
            *STATE.lock().unwrap() = format!("{world:?}");
            world.is_settled()
        });
        world.aio.drain().expect("drained");
        over.store(true, Ordering::SeqCst);
    });
    finish(world, &stores, gate);
}

/// What must be true when all is over.
fn finish(world: Shared, stores: &[Arc<Store>], gate: Option<Gate>) {
    assert_eq!(*world.faults.lock().unwrap(), Vec::<String>::new());
    let stats = world.aio.stats();
    assert_eq!(
        (stats.completed, stats.in_flight, stats.queued),
        (stats.accepted, 0, 0)
    );
    eprintln!(
        "{:?}: {} deeds, {} requests, {} panics",
        world.dispatch,
        world.ops.load(Ordering::SeqCst),
        stats.accepted,
        stats.panics
    );
    drop(gate);
    for store in stores {
        for (number, page) in store.pages.iter().enumerate() {
            assert!(!page.busy.load(Ordering::SeqCst));
            let mut bytes = AlignedBuf::zeroed(BLOCK);
            store
                .file
                .read_exact_at(&mut bytes, (number * BLOCK) as u64)
                .expect("read");
            let version = page.version.load(Ordering::SeqCst);
            assert!(
                bytes[..] == content(number, version)[..],
                "page {number} at the end"
            );
        }
    }
    drop(world);
    wait_until("no context is left", || {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("proc");
        !maps.contains("[aio]")
    });
}

/// A logger that uses the crate, and panics now and then.
struct NastyLogger;

static STATE: Mutex<String> = Mutex::new(String::new());

static DROPS: AtomicU64 = AtomicU64::new(0);

impl log::Log for NastyLogger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {
        let count = DROPS.fetch_add(1, Ordering::Relaxed);
        if count % 5 == 4 && !thread::panicking() {
            resume_unwind(Box::new(Mischief));
        }
    }

    fn flush(&self) {}
}

#[test]
fn chaos_loses_nothing_and_moves_no_byte() {
    let seconds = std::env::var("KIOCB_CHAOS_SECONDS").ok();
    let seconds: u64 = seconds
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(6);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let seed = std::env::var("KIOCB_CHAOS_SEED").ok();
    let seed = seed
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(now.as_secs());
    log::set_logger(&NastyLogger).expect("the first logger");
    log::set_max_level(log::LevelFilter::Info);
    let _watchdog = Watchdog::with(Duration::from_secs(seconds + 90), || {
        // What it waits for: nothing tells more of a hang.
        eprintln!("chaos hangs: {:?}", *STATE.lock().unwrap());
        std::process::abort();
    });
    let kinds = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];
    for (number, force_syscalls) in [false, true].into_iter().enumerate() {
        for (kind, dispatch) in kinds.into_iter().enumerate() {
            let seed = seed ^ ((number * 3 + kind) as u64) << 56;
            eprintln!("KIOCB_CHAOS_SEED={seed}: {dispatch:?}, by system calls: {force_syscalls}");
            chaos(
                dispatch,
                force_syscalls,
                seed,
                Duration::from_millis(seconds * 1000 / 6),
            );
        }
    }
}
