//! One engine for a short time: as many answers as its first rounds have, a warm-up, a snapshot, the time, another
//! snapshot, stop.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::Result;
use crate::block::BLOCK;
use crate::engines::Engine;
use crate::file;
use crate::job::{Job, Load, Phase};
use crate::rw::Rw;

/// What all of a slice has besides its time.
const WARM_UP: Duration = Duration::from_millis(15);
/// So many times each request of a round is answered before that. kiocb looks at the callbacks of its first 64
/// rounds before it holds back what they submit, and takes at most 64 events in a round.
const FIRST_ROUNDS: usize = 64;
const LARGEST_ROUND: usize = 64;
/// How long that may take: beside busy tasks a thread waits long for its turn.
const FIRST_ANSWERS: Duration = Duration::from_secs(3);

pub(crate) struct Slice {
    pub(crate) engine: &'static Engine,
    pub(crate) file: PathBuf,
    pub(crate) depth: usize,
    pub(crate) threads: usize,
    pub(crate) group: Option<usize>,
    pub(crate) time: Duration,
    pub(crate) buffered: bool,
}

impl Slice {
    pub(crate) fn new(engine: &'static Engine) -> Slice {
        Slice {
            engine,
            file: PathBuf::new(),
            depth: 32,
            threads: 1,
            group: None,
            time: Duration::from_millis(50),
            buffered: false,
        }
    }

    /// For a process of its own.
    pub(crate) fn args(&self) -> Vec<String> {
        let mut args: Vec<String> = [
            "slice",
            "--engine",
            self.engine.name,
            "--file",
            &self.file.to_string_lossy(),
            "--depth",
            &self.depth.to_string(),
            "--threads",
            &self.threads.to_string(),
            "--milliseconds",
            &self.time.as_millis().to_string(),
        ]
        .map(str::to_owned)
        .into();
        if let Some(group) = self.group {
            args.extend(["--group".into(), group.to_string()]);
        }
        if self.buffered {
            args.push("--buffered".into());
        }
        args
    }

    fn job(&self) -> Result<Arc<Job>> {
        let opened = file::open(&self.file, self.buffered)?;
        Ok(Job::new(Load {
            file: Arc::new(opened.file),
            length: opened.length,
            rw: Rw::RandRead,
            bs: BLOCK,
            depth: if self.engine.one_at_a_time {
                1
            } else {
                self.depth
            },
            threads: self.threads,
            checking: opened.checking,
            mark: file::mark(opened.length),
            group: self.group,
        }))
    }
}

/// What a slice found; as text, the numbers in this order with spaces between them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures {
    pub(crate) iops: f64,
    pub(crate) cpu_ns: f64,
    /// How many processors were busy for it.
    pub(crate) cpus: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures {
            iops,
            cpu_ns,
            cpus,
            p50_us,
            p99_us,
        } = self;
        write!(
            out,
            "{iops:.0} {cpu_ns:.0} {cpus:.3} {p50_us:.2} {p99_us:.2}"
        )
    }
}

impl FromStr for Figures {
    type Err = String;

    fn from_str(text: &str) -> Result<Figures, String> {
        let numbers: Vec<f64> = text
            .split_whitespace()
            .map_while(|word| word.parse().ok())
            .collect();
        match numbers[..] {
            [iops, cpu_ns, cpus, p50_us, p99_us] => Ok(Figures {
                iops,
                cpu_ns,
                cpus,
                p50_us,
                p99_us,
            }),
            _ => Err(format!("no figures: {text:?}")),
        }
    }
}

struct Snapshot {
    at: Instant,
    cpu_ns: f64,
    done: u64,
}

pub(crate) fn run(slice: &Slice) -> Result<Figures> {
    let job = slice.job()?;
    let (before, after) = thread::scope(|scope| {
        let running = scope.spawn(|| (slice.engine.run)(&job));
        await_first_answers(&job, || running.is_finished());
        sleep(WARM_UP);
        job.enter(Phase::Measure);
        let before = Snapshot::take(&job);
        sleep(slice.time);
        let after = Snapshot::take(&job);
        job.enter(Phase::Stop);
        let ended = running.join().map_err(|_| "the engine panicked")?;
        ended
            .map(|()| (before, after))
            .map_err(|error| error.to_string())
    })?;
    if let Some(error) = job.first_error() {
        return Err(error.into());
    }
    Ok(figures(&job, &before, &after))
}

fn await_first_answers(job: &Job, gave_up: impl Fn() -> bool) {
    let started = Instant::now();
    let answers = (FIRST_ROUNDS * job.depth.min(LARGEST_ROUND) * job.threads) as u64;
    while job.counts().done < answers && started.elapsed() < FIRST_ANSWERS && !gave_up() {
        sleep(Duration::from_millis(1));
    }
}

fn figures(job: &Job, before: &Snapshot, after: &Snapshot) -> Figures {
    let (done, cpu_ns) = (
        (after.done - before.done) as f64,
        after.cpu_ns - before.cpu_ns,
    );
    let seconds = (after.at - before.at).as_secs_f64();
    let latency = job.latency();
    let quantile = |share| latency.quantile_us(share).unwrap_or(f64::NAN);
    Figures {
        iops: done / seconds,
        // Of nothing done it is not known.
        cpu_ns: if done > 0.0 { cpu_ns / done } else { f64::NAN },
        cpus: cpu_ns / seconds / 1e9,
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
    }
}

impl Snapshot {
    fn take(job: &Job) -> Snapshot {
        Snapshot {
            at: Instant::now(),
            cpu_ns: cpu_ns(),
            done: job.counts().done,
        }
    }
}

/// User and system time of all threads of this process, living and gone.
fn cpu_ns() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("RUSAGE_SELF is always there");
    nanos(usage.user_time()) + nanos(usage.system_time())
}

fn nanos(time: TimeVal) -> f64 {
    time.tv_sec() as f64 * 1e9 + time.tv_usec() as f64 * 1e3
}
