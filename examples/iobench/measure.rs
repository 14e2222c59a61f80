//! One engine's run, watched from outside: warm up, take a snapshot, wait, take another, stop; the figures
//! are the differences.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::alloc_count;
use crate::cpu;
use crate::engines::Engine;
use crate::interrupt;
use crate::job::{Counts, Job, Phase};
use crate::latency::Latency;
use crate::options::Options;
use crate::progress::Progress;
use crate::units;

/// How often the watcher wakes to draw and to see whether the engine has given up.
const TICK: Duration = Duration::from_millis(100);

/// What one engine did.
pub(crate) struct Outcome {
    pub(crate) engine: &'static Engine,
    /// How many submissions it collected, where that was a choice.
    pub(crate) group: Option<usize>,
    pub(crate) depth: usize,
    pub(crate) loops: usize,
    /// Those that keep requests going.
    pub(crate) threads: usize,
    pub(crate) iops: f64,
    /// How many processors were busy.
    pub(crate) cpus: f64,
    /// `None` where nothing was done.
    pub(crate) cpu_ns_per_io: Option<f64>,
    pub(crate) syscalls_per_io: Option<f64>,
    pub(crate) allocs_per_io: Option<f64>,
    /// Of the whole run, warm-up and last requests included: a wrong answer is never out of season.
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) latency: Latency,
}

/// Everything that is counted, at one moment.
struct Snapshot {
    at: Instant,
    cpu_ns: f64,
    allocations: u64,
    counts: Counts,
}

pub(crate) fn run(
    engine: &'static Engine,
    job: &Arc<Job>,
    options: &Options,
    progress: &Progress,
) -> Result<Outcome> {
    progress.name(engine.name);
    let (before, after) = thread::scope(|scope| {
        let running = scope.spawn(|| (engine.run)(job));
        let gave_up = || running.is_finished() || interrupt::came();
        watch(warm_up(options), job, progress, gave_up);
        job.enter(Phase::Measure);
        let before = Snapshot::take(job);
        watch(
            Duration::from_secs_f64(options.seconds),
            job,
            progress,
            gave_up,
        );
        let after = Snapshot::take(job);
        job.enter(Phase::Stop);
        running
            .join()
            .expect("an engine panicked")
            .map(|()| (before, after))
    })?;
    Ok(Outcome::new(engine, job, &before, &after))
}

/// How long all runs take together.
pub(crate) fn total_millis(options: &Options) -> u64 {
    let one = warm_up(options) + Duration::from_secs_f64(options.seconds);
    millis(one * u32::try_from(options.runs()).unwrap_or(1))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn warm_up(options: &Options) -> Duration {
    Duration::from_secs_f64((options.seconds / 10.0).clamp(0.1, 1.0))
}

/// Sleeps for `time`, or until the engine has given up, showing how it goes.
fn watch(time: Duration, job: &Job, progress: &Progress, gave_up: impl Fn() -> bool) {
    let end = Instant::now() + time;
    let mut last = (Instant::now(), job.counts().done);
    while !gave_up() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        thread::sleep(left.min(TICK));
        last = show(last, job, progress);
    }
}

fn show((then, before): (Instant, u64), job: &Job, progress: &Progress) -> (Instant, u64) {
    let (now, done) = (Instant::now(), job.counts().done);
    let step = now - then;
    let iops = (done - before) as f64 / step.as_secs_f64();
    progress.step(millis(step), &format!("{} IOPS", units::grouped(iops)));
    (now, done)
}

impl Snapshot {
    fn take(job: &Job) -> Snapshot {
        Snapshot {
            at: Instant::now(),
            cpu_ns: cpu::nanos(),
            allocations: alloc_count::total(),
            counts: job.counts(),
        }
    }
}

impl Outcome {
    fn new(engine: &'static Engine, job: &Job, before: &Snapshot, after: &Snapshot) -> Outcome {
        let done = after.counts.done - before.counts.done;
        let per_io = |amount: f64| (done > 0).then(|| amount / done as f64);
        let (cpu_ns, time) = (after.cpu_ns - before.cpu_ns, after.at - before.at);
        Outcome {
            engine,
            group: job.group,
            depth: job.depth,
            loops: job.threads,
            threads: engine.threads(job),
            iops: done as f64 / time.as_secs_f64(),
            cpus: cpu_ns / (time.as_secs_f64() * 1e9),
            cpu_ns_per_io: per_io(cpu_ns),
            syscalls_per_io: per_io((after.counts.syscalls - before.counts.syscalls) as f64),
            allocs_per_io: per_io((after.allocations - before.allocations) as f64),
            errors: job.counts().errors,
            first_error: job.first_error(),
            latency: job.latency(),
        }
    }

    /// The faster of two runs; but one with errors is not to be forgotten.
    pub(crate) fn better(self, other: Outcome) -> Outcome {
        let stays = self.errors > 0 || (other.errors == 0 && self.iops >= other.iops);
        if stays { self } else { other }
    }

    pub(crate) fn mib_s(&self, bs: usize) -> f64 {
        self.iops * bs as f64 / f64::from(1 << 20)
    }
}
