//! `bench --compare` and `bench --get`: the drivers by turns, and random gets beside iobench.

use crate::Result;
use crate::bench::{Outcome, beside, load, measure, total};
use crate::driver::{DRIVERS, Driver};
use crate::files::Files;
use crate::mix::{COMMITS, GETS};
use crate::options::Options;
use crate::page;
use crate::progress::Progress;
use crate::table;
use crate::units::grouped;
use std::path::Path;
use std::process::Command;

const ROUNDS: u32 = 5;

/// Commits of one record each, by each driver for a short time, again and again, in the same order.
pub(crate) fn drivers(dir: &Path, options: &Options) -> Result<()> {
    load(dir, options)?;
    let time = total(options) * ROUNDS * 3;
    let progress = Progress::of(u64::try_from(time.as_millis())?);
    let mut sums = DRIVERS.map(|(_, driver)| (driver, Sum::default()));
    for _ in 0..ROUNDS {
        for (driver, sum) in &mut sums {
            sum.add(&measure(dir, options, *driver, COMMITS, &progress)?);
        }
    }
    progress.finish();
    let plain = sums.iter().find(|(driver, _)| *driver == Driver::Threads);
    let plain = plain.expect("a yardstick").1;
    let (clients, noise, seconds) = (options.clients, options.noise, options.seconds);
    println!(
        "{clients} clients, one put each, group commit; {noise} other busy tasks; {ROUNDS} turns of {seconds} s\n"
    );
    let titles = [
        "driver",
        "commits/s",
        "of threads",
        "commits/CPU s",
        "of threads",
        "commits/batch",
    ];
    let row = |(driver, sum): &(Driver, Sum)| {
        [
            driver.name().to_owned(),
            grouped(sum.rate()),
            format!("{:.2}", sum.rate() / plain.rate()),
            grouped(sum.per_cpu()),
            format!("{:.2}", sum.per_cpu() / plain.per_cpu()),
            format!("{:.1}", sum.all as f64 / sum.batches as f64),
        ]
    };
    let rows = [titles.map(str::to_owned)]
        .into_iter()
        .chain(sums.iter().map(row));
    table::lines(&rows.collect::<Vec<_>>());
    Ok(())
}

#[derive(Clone, Copy, Default)]
struct Sum {
    commits: u64,
    seconds: f64,
    cpu: f64,
    all: u64,
    batches: u64,
}

impl Sum {
    fn add(&mut self, run: &Outcome) {
        self.commits += run.commits;
        self.seconds += run.seconds;
        self.cpu += run.cpu_seconds;
        self.all += run.all_operations;
        self.batches += run.counts.batches;
    }

    fn rate(&self) -> f64 {
        self.commits as f64 / self.seconds
    }

    fn per_cpu(&self) -> f64 {
        self.commits as f64 / self.cpu
    }
}

/// Random gets, nearly all of which read a page, and iobench's callbacks on the same pages, by turns.
pub(crate) fn gets(dir: &Path, options: &Options) -> Result<()> {
    load(dir, options)?;
    let (_, meta) = Files::open(dir)?;
    let bytes = page::offset(meta.pages, meta.page_size);
    let iobench = beside("iobench")
        .ok_or("iobench is not beside this program: cargo build --release --examples")?;
    let progress = Progress::of(u64::try_from((total(options) * ROUNDS).as_millis())?);
    let (mut reads, mut seconds, mut cpu) = (0.0, 0.0, 0.0);
    let (mut iops, mut iobench_cpu) = (0.0, 0.0);
    for _ in 0..ROUNDS {
        let run = measure(dir, options, options.driver(), GETS, &progress)?;
        reads += run.operations as f64 * run.counts.page_reads as f64 / run.all_operations as f64;
        seconds += run.seconds;
        cpu += run.cpu_seconds;
        let other = iobench_run(&iobench, &dir.join("data"), bytes, options)?;
        iops += other[0] / f64::from(ROUNDS);
        iobench_cpu += other[1] / f64::from(ROUNDS) / 1e3;
    }
    progress.finish();
    let cpu = cpu * 1e6 / reads;
    let (reads, clients) = (reads / seconds, options.clients);
    println!(
        "{clients} clients, random gets of {} records, {} pages in memory of {}",
        options.records(),
        options.pool(),
        meta.pages
    );
    println!(
        "page reads of gets: {}/s, {cpu:.1} us CPU each; iobench --engine callback --depth {clients}: {}/s, \
         {iobench_cpu:.1} us; ratio {:.2}",
        grouped(reads),
        grouped(iops),
        reads / iops
    );
    Ok(())
}

/// IOPS, and nanoseconds of processor time for each.
fn iobench_run(iobench: &Path, data: &Path, bytes: u64, options: &Options) -> Result<[f64; 2]> {
    let mut command = Command::new(iobench);
    command
        .args(["--engine", "callback", "--no-verify", "--json", "--file"])
        .arg(data);
    command.args([
        "--size",
        &bytes.to_string(),
        "--bs",
        &options.page_size.to_string(),
    ]);
    command.args([
        "--depth",
        &options.clients.to_string(),
        "--seconds",
        &options.seconds.to_string(),
    ]);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figure = |name: &str| {
        let rest = text.split(&format!("\"{name}\":")).nth(1)?;
        rest.split([',', '}']).next()?.trim().parse().ok()
    };
    let figures = figure("iops").zip(figure("cpu_ns_per_io"));
    let figures = figures.map(|(iops, cpu)| [iops, cpu]);
    figures.ok_or_else(|| format!("iobench: {}", String::from_utf8_lossy(&output.stderr)).into())
}
