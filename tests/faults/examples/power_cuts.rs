//! Cuts the power under the example `pagestore`, round after round: see `.ci/power-cuts`.
//!
//! `power_cuts --program PATH [--rounds N] [--seed S] [--most-lines N] [--disk-every N] [-- WORDS]`; the
//! words go to the store (`--driver`, `--break`). Prints its progress each second, and its totals at the end and
//! after Ctrl-C. Exits with 1 when the store has broken a promise.

use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use kiocb_faults::{Rounds, Torture};
use lexopt::{Arg, ValueExt as _};
use nix::sys::signal::{SigSet, Signal};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ctrl-C is told to the loop; the second one ends the process.
fn watch_for_interrupts() -> Result<()> {
    let interrupt = SigSet::from(Signal::SIGINT);
    interrupt.thread_block()?;
    std::thread::spawn(move || {
        let _ = interrupt.wait();
        INTERRUPTED.store(true, Relaxed); // it guards no data
        let _ = interrupt.thread_unblock();
        loop {
            std::thread::park();
        }
    });
    Ok(())
}

fn options() -> Result<(Torture, u64)> {
    let mut torture = Torture {
        program: "target/release/examples/pagestore".into(),
        arguments: Vec::new(),
        seed: 1,
        most_lines: 200,
        disk_every: 100,
    };
    let mut rounds = 100;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("program") => torture.program = parser.value()?.into(),
            Arg::Long("rounds") => rounds = parser.value()?.parse()?,
            Arg::Long("seed") => torture.seed = parser.value()?.parse()?,
            Arg::Long("most-lines") => torture.most_lines = parser.value()?.parse()?,
            Arg::Long("disk-every") => torture.disk_every = parser.value()?.parse()?,
            Arg::Value(word) => torture.arguments.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok((torture, rounds))
}

struct Tally {
    start: Instant,
    shown: Instant,
    /// On disks that are gone.
    acknowledged: u64,
    on_this_disk: u64,
}

impl Tally {
    fn count(&mut self, rounds: &Rounds) {
        let now = rounds.acknowledged();
        if now < self.on_this_disk {
            self.acknowledged += self.on_this_disk;
        }
        self.on_this_disk = now;
        if self.shown.elapsed() > Duration::from_secs(1) {
            self.shown = Instant::now();
            eprintln!("{}", self.line(rounds));
        }
    }

    fn line(&self, rounds: &Rounds) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        format!(
            "{} power cuts in {seconds:.0} s, {} transactions acknowledged",
            rounds.begun(),
            self.acknowledged + self.on_this_disk,
        )
    }
}

fn run() -> Result<()> {
    watch_for_interrupts()?;
    let (torture, count) = options()?;
    let seed = torture.seed;
    println!("seed {seed}");
    let mut rounds = torture.start()?;
    let mut tally = Tally {
        start: Instant::now(),
        shown: Instant::now(),
        acknowledged: 0,
        on_this_disk: 0,
    };
    while rounds.begun() < count && !INTERRUPTED.load(Relaxed) {
        if let Err(error) = rounds.next_round() {
            let line = tally.line(&rounds);
            return Err(format!("seed {seed}, round {}: {error}\n{line}", rounds.begun()).into());
        }
        tally.count(&rounds);
    }
    println!("{}, and nothing lost", tally.line(&rounds));
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
