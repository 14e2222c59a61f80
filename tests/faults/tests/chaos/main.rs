//! Everything at once: all verbs on eight threads, every byte looked at, with wakers, destructors, callbacks
//! and a logger that do the worst they may.
//!
//! Each page of a file has one operation at a time, and a version that says what must be in it. A run takes
//! some seconds; `KIOCB_CHAOS_SECONDS` has another number, and `KIOCB_CHAOS_SEED` repeats the choices of a
//! run that failed (not its timing).

#[path = "../kit/mod.rs"]
mod kit;
mod memory;
mod pages;
mod worker;
mod world;

use kiocb::{Aio, AlignedBuf, Dispatch, SyncGroup};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Gate, Op, SlowFs, Watchdog};
use kit::{Random, wait_until};
use pages::{PAGES, Store, content};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use worker::Worker;
use world::{Mischief, Shared, World};

const THREADS: usize = 8;
const DEPTH: u32 = 32;

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
fn let_through_at_random(gate: &Gate, stop: &AtomicBool, mut dice: Random) {
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
            s.spawn(|| let_through_at_random(gate, &over, Random(seed)));
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
                let (world, dice) = (Arc::clone(&world), Random(seed ^ (thread << 32)));
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
