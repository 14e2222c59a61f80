//! What the engines share while one of them runs: the file, the shape of the load, the stop sign, and where
//! each counts.

use std::fs::File;
use std::ops::Deref;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use kiocb::AlignedBuf;

use crate::block::{self, Mark};
use crate::latency::Latency;
use crate::rw::Rw;
use crate::slot::Slot;

/// The shape of the load: what is asked of the file, and how.
pub(crate) struct Load {
    pub(crate) file: Arc<File>,
    /// How much of it is used, from its beginning.
    pub(crate) length: u64,
    pub(crate) rw: Rw,
    /// Bytes per request.
    pub(crate) bs: usize,
    /// Requests in flight in each loop.
    pub(crate) depth: usize,
    /// Independent loops.
    pub(crate) threads: usize,
    pub(crate) checking: Checking,
    /// What written blocks say of their file.
    pub(crate) mark: Mark,
    /// How many submissions `raw` collects before they leave; all that are ready without.
    pub(crate) group: Option<usize>,
}

/// How much of what is read is checked, and whether what is written is stamped.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Checking {
    Nothing,
    /// The place that a block belongs to always, every byte of one request in so many.
    OneIn(u64),
}

/// One engine's run, from warm-up to stop.
pub(crate) struct Job {
    load: Load,
    /// Requests that fit into the file.
    pub(crate) units: u64,
    phase: AtomicU8,
    meters: Mutex<Vec<Arc<Meter>>>,
    lanes: Vec<Arc<Lane>>,
    syscalls: OnceLock<SyscallCounter>,
    first_error: Mutex<Option<String>>,
}

type SyscallCounter = Box<dyn Fn() -> u64 + Send + Sync>;

/// What the slots of one loop share.
pub(crate) struct Lane {
    /// The next unit of a sequential run.
    pub(crate) cursor: AtomicU64,
    pub(crate) latency: Mutex<Latency>,
}

/// Counters with one writer each, on cache lines of their own: counting is a load, an add and a store, with
/// nothing locked.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Meter {
    done: AtomicU64,
    errors: AtomicU64,
    syscalls: AtomicU64,
}

/// The sum over all meters.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) done: u64,
    pub(crate) errors: u64,
    pub(crate) syscalls: u64,
}

#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Running, not counted: caches, pools and queues find their steady state.
    WarmUp,
    /// Counted.
    Measure,
    /// Finish what is in flight, start nothing.
    Stop,
}

impl Job {
    pub(crate) fn new(load: Load) -> Arc<Job> {
        let units = load.length / load.bs as u64;
        let lane = |index: usize| {
            Arc::new(Lane::starting_at(
                units / load.threads as u64 * index as u64,
            ))
        };
        Arc::new(Job {
            lanes: (0..load.threads).map(lane).collect(),
            load,
            units,
            phase: AtomicU8::new(Phase::WarmUp as u8),
            meters: Mutex::default(),
            syscalls: OnceLock::new(),
            first_error: Mutex::default(),
        })
    }

    /// The slots of loop `index`; the same ones, with the same offsets to come, whichever engine drives them.
    pub(crate) fn slots(self: &Arc<Job>, index: usize) -> impl Iterator<Item = Slot> {
        let seeds = (index * self.depth) as u64..;
        seeds
            .take(self.depth)
            .map(move |seed| Slot::new(self, &self.lanes[index], seed))
    }

    /// An aligned buffer for one request, every page of it touched.
    pub(crate) fn buffer(&self) -> AlignedBuf {
        let mut buffer = AlignedBuf::zeroed(self.bs);
        block::fill_payload(&mut buffer);
        block::stamp(&mut buffer, 0, self.mark);
        buffer
    }

    /// A new meter, for one thread to count with.
    pub(crate) fn meter(&self) -> Arc<Meter> {
        let meter = Arc::new(Meter::default());
        self.meters
            .lock()
            .expect("no panic while locked")
            .push(Arc::clone(&meter));
        meter
    }

    /// For engines whose system calls are counted elsewhere: how many there were so far.
    pub(crate) fn count_syscalls_by(&self, counter: impl Fn() -> u64 + Send + Sync + 'static) {
        assert!(
            self.syscalls.set(Box::new(counter)).is_ok(),
            "one counter per run"
        );
    }

    pub(crate) fn counts(&self) -> Counts {
        let elsewhere = self.syscalls.get().map_or(0, |counter| counter());
        let start = Counts {
            syscalls: elsewhere,
            ..Counts::default()
        };
        self.meters
            .lock()
            .expect("no panic while locked")
            .iter()
            .fold(start, |sum, meter| sum.plus(meter))
    }

    /// All lanes' samples together.
    pub(crate) fn latency(&self) -> Latency {
        let mut all = Latency::new();
        for lane in &self.lanes {
            all.merge(&lane.latency.lock().expect("no panic while locked"));
        }
        all
    }

    pub(crate) fn enter(&self, phase: Phase) {
        // Relaxed: the phase guards no data. A loop that sees it one request late is as good.
        self.phase.store(phase as u8, Relaxed);
    }

    pub(crate) fn is(&self, phase: Phase) -> bool {
        self.phase.load(Relaxed) == phase as u8
    }

    /// Keeps the first of what may be thousands.
    pub(crate) fn note_error(&self, text: impl FnOnce() -> String) {
        self.first_error
            .lock()
            .expect("no panic while locked")
            .get_or_insert_with(text);
    }

    pub(crate) fn first_error(&self) -> Option<String> {
        self.first_error
            .lock()
            .expect("no panic while locked")
            .clone()
    }
}

impl Deref for Job {
    type Target = Load;

    fn deref(&self) -> &Load {
        &self.load
    }
}

impl Lane {
    fn starting_at(unit: u64) -> Lane {
        Lane {
            cursor: AtomicU64::new(unit),
            latency: Mutex::new(Latency::new()),
        }
    }
}

impl Meter {
    pub(crate) fn done(&self) {
        bump(&self.done);
    }

    pub(crate) fn error(&self) {
        bump(&self.errors);
    }

    pub(crate) fn syscall(&self) {
        bump(&self.syscalls);
    }
}

/// Not `fetch_add`: there is one writer, and a locked instruction would cost more than the rest of the
/// counting.
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}

impl Counts {
    fn plus(self, meter: &Arc<Meter>) -> Counts {
        Counts {
            done: self.done + meter.done.load(Relaxed),
            errors: self.errors + meter.errors.load(Relaxed),
            syscalls: self.syscalls + meter.syscalls.load(Relaxed),
        }
    }
}
