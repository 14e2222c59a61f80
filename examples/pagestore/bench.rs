//! `bench`: loads a store, runs mixes on it, and shows what came of it.

use crate::command::{config, shape};
use crate::cpu;
use crate::driver::{Client, Clients, Counts, Driver};
use crate::files::{self, Files};
use crate::latency::Latency;
use crate::mix::{MIXES, Mix, Records};
use crate::options::Options;
use crate::progress::Progress;
use crate::store::Store;
use crate::worker::{Load, Loader, Meter, Worker};
use crate::{Result, busy, check, compare, table};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(100);

/// What a run did in the time that counts.
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) seconds: f64,
    pub(crate) operations: u64,
    pub(crate) commits: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) latency: Latency,
    /// Of the whole run, warm-up included.
    pub(crate) all_operations: u64,
    pub(crate) counts: Counts,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let (_temporary, dir) = options.store_or_temporary()?;
    let busy = busy::Busy::start(options.noise)?;
    if options.compare {
        compare::drivers(&dir, options)?;
    } else if options.gets {
        compare::gets(&dir, options)?;
    } else {
        mixes(&dir, options)?;
    }
    drop(busy);
    Ok(())
}

fn mixes(dir: &Path, options: &Options) -> Result<()> {
    load(dir, options)?;
    let mixes: Vec<Mix> = MIXES
        .into_iter()
        .filter(|mix| options.mixes.contains(mix.name))
        .collect();
    let time = total(options) * u32::try_from(mixes.len())?;
    let progress = Progress::of(u64::try_from(time.as_millis())?);
    let mut outcomes = Vec::new();
    for mix in mixes {
        outcomes.push(measure(dir, options, options.driver(), mix, &progress)?);
    }
    progress.finish();
    table::heading(options, dir);
    table::show(&outcomes);
    table::plot(options, &outcomes)?;
    let store = Store::open(dir, config(options))?;
    let found = check::check(&store.files, &store.meta)?;
    println!(
        "check: {} pages are whole, {} keys in order",
        found.pages, found.keys
    );
    Ok(())
}

/// Makes a store with so many records, unless there is one.
pub(crate) fn load(dir: &Path, options: &Options) -> Result<()> {
    if files::exists(dir) {
        return Ok(());
    }
    Files::create(dir, shape(options))?;
    let (progress, next) = (Progress::of(options.records()), Arc::new(AtomicU64::new(0)));
    progress.name("loading");
    let meters: Vec<_> = (0..options.clients).map(|_| Meter::new()).collect();
    let loader = |meter: &Arc<Meter>| {
        let loader = Loader {
            meter: Arc::clone(meter),
            next: Arc::clone(&next),
            end: options.records(),
        };
        Box::new(loader) as Box<dyn Client>
    };
    let clients = meters.iter().map(loader).collect();
    let loading = start(dir, options, options.driver(), clients)?;
    let begin = Instant::now();
    while !loading.is_finished() {
        thread::sleep(TICK);
        let done = sum(&meters).0;
        let rate = done as f64 / begin.elapsed().as_secs_f64();
        progress.at(done, &format!("{rate:.0} records/s"));
    }
    end(loading, &meters)?;
    progress.finish();
    Ok(())
}

pub(crate) fn total(options: &Options) -> Duration {
    warm_up(options) + Duration::from_secs_f64(options.seconds)
}

fn warm_up(options: &Options) -> Duration {
    Duration::from_secs_f64((options.seconds / 5.0).min(1.0))
}

/// Runs a mix on a store, and watches it from outside.
pub(crate) fn measure(
    dir: &Path,
    options: &Options,
    driver: Driver,
    mix: Mix,
    progress: &Progress,
) -> Result<Outcome> {
    let load = Arc::new(Load {
        mix,
        records: Records::new(options.records()),
        stop: AtomicBool::new(false),
    });
    let meters: Vec<_> = (0..options.clients).map(|_| Meter::new()).collect();
    let worker = |(meter, seed)| Box::new(Worker::new(&load, meter, seed)) as Box<dyn Client>;
    let clients = meters.iter().zip(1..).map(worker).collect();
    progress.name(mix.name);
    let running = start(dir, options, driver, clients)?;
    watch(warm_up(options), &meters, progress);
    for meter in &meters {
        *meter.latency.lock().unwrap() = Latency::new();
    }
    let (begin, cpu, before) = (Instant::now(), cpu::nanos(), sum(&meters));
    watch(Duration::from_secs_f64(options.seconds), &meters, progress);
    let (seconds, cpu, after) = (
        begin.elapsed().as_secs_f64(),
        cpu::nanos() - cpu,
        sum(&meters),
    );
    load.stop.store(true, Relaxed);
    let counts = end(running, &meters)?;
    Ok(Outcome {
        name: mix.name.to_owned(),
        seconds,
        operations: after.0 - before.0,
        commits: after.1 - before.1,
        cpu_seconds: cpu / 1e9,
        latency: latency(&meters),
        all_operations: sum(&meters).0,
        counts,
    })
}

type Running = thread::JoinHandle<Result<Counts>>;

/// Opens the store and runs the clients on a thread of their own.
fn start(dir: &Path, options: &Options, driver: Driver, clients: Clients) -> Result<Running> {
    let store = Store::open(dir, config(options))?;
    Ok(thread::spawn(move || driver.run(store, clients)))
}

fn end(running: Running, meters: &[Arc<Meter>]) -> Result<Counts> {
    let counts = running.join().expect("no panic")?;
    let error = meters
        .iter()
        .find_map(|meter| meter.error.lock().unwrap().take());
    error.map_or(Ok(counts), |error| Err(error.into()))
}

/// Operations and commits.
fn sum(meters: &[Arc<Meter>]) -> (u64, u64) {
    let all = |counter: fn(&Meter) -> &AtomicU64| {
        meters
            .iter()
            .map(|meter| counter(meter).load(Relaxed))
            .sum()
    };
    (all(|meter| &meter.operations), all(|meter| &meter.commits))
}

fn latency(meters: &[Arc<Meter>]) -> Latency {
    let mut all = Latency::new();
    for meter in meters {
        all.merge(&meter.latency.lock().unwrap());
    }
    all
}

fn watch(time: Duration, meters: &[Arc<Meter>], progress: &Progress) {
    let end = Instant::now() + time;
    let (mut then, mut before) = (Instant::now(), sum(meters).0);
    while let Some(left) = end
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        thread::sleep(left.min(TICK));
        let (now, done) = (Instant::now(), sum(meters).0);
        let rate = (done - before) as f64 / (now - then).as_secs_f64();
        progress.step(
            u64::try_from((now - then).as_millis()).unwrap_or(0),
            &format!("{rate:.0} operations/s"),
        );
        (then, before) = (now, done);
    }
}

/// The program beside this one.
pub(crate) fn beside(name: &str) -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?.with_file_name(name);
    program.exists().then_some(program)
}
