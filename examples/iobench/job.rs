//! What the engines share while one of them runs: the file, the shape of the load, the stop sign, and where
//! each counts.

use std::fs::File;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use kiocb::AlignedBuf;

use crate::block::{self, Mark};
use crate::engines::Engine;
use crate::latency::Latency;
use crate::options::{Options, Rw};
use crate::slot::Slot;
use crate::target::Target;

/// One engine's run, from warm-up to stop.
pub(crate) struct Job {
    pub(crate) file: Arc<File>,
    pub(crate) rw: Rw,
    /// Bytes per request.
    pub(crate) bs: usize,
    /// Requests in flight in each loop.
    pub(crate) depth: usize,
    /// Independent loops.
    pub(crate) threads: usize,
    /// Requests that fit into the file.
    pub(crate) units: u64,
    pub(crate) verify: bool,
    /// What written blocks say of their file.
    pub(crate) mark: Mark,
    /// How many submissions `raw` collects before they leave; all that are ready without.
    pub(crate) group: Option<usize>,
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
    pub(crate) fn new(
        options: &Options,
        target: &Target,
        engine: &Engine,
        group: Option<usize>,
    ) -> Arc<Job> {
        let units = target.length / options.bs as u64;
        let lane = |index: usize| {
            Arc::new(Lane::starting_at(
                units / options.threads as u64 * index as u64,
            ))
        };
        Arc::new(Job {
            file: Arc::clone(&target.file),
            rw: options.rw,
            bs: options.bs,
            depth: engine.depth(options.depth),
            threads: options.threads,
            units,
            verify: options.verify,
            mark: target.mark,
            group,
            phase: AtomicU8::new(Phase::WarmUp as u8),
            meters: Mutex::default(),
            lanes: (0..options.threads).map(lane).collect(),
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
