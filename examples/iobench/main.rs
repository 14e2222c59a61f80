//! `iobench`: how fast is this file, and what does kiocb cost on top of the bare system calls?
//!
//! ```text
//! cargo run --release --example iobench
//! ```
//!
//! makes a file of its own beside the build, reads it at random for a few seconds through each engine, checks
//! every block that comes back, and prints one table; the latency distribution goes into an SVG. `-- --help`
//! lists the options.
//!
//! How it is put together: [`options`] says what to do, [`target`] finds the file and has it made and
//! [`fill`]ed as its [`plan`] says, if there is [`room`]; its [`block`]s describe themselves. What was added
//! goes again ([`growth`]) if the run fails or is [`interrupt`]ed. An engine (one file in [`engines`]) keeps
//! requests in flight; each request is a [`slot`], which picks the offset, checks the data and samples the
//! latency in the same way for all engines. [`measure`] watches from outside and takes the difference of two
//! snapshots; [`report`] and [`plot`] show it.

mod alloc_count;
mod block;
mod chart;
mod cpu;
mod engines;
mod fill;
mod growth;
mod interrupt;
mod job;
mod latency;
mod measure;
mod medium;
mod options;
mod place;
mod plan;
mod plot;
mod progress;
mod report;
mod rng;
mod room;
mod rw;
mod slot;
mod svg;
mod target;
mod units;

use std::error::Error;
use std::process::ExitCode;

use engines::Engine;
use measure::Outcome;
use options::Options;
use progress::Progress;
use target::Target;

/// Anything that goes wrong, as a sentence for the user: the cause, then the cure.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[global_allocator]
static ALLOCATOR: alloc_count::Counting = alloc_count::Counting;

fn main() -> ExitCode {
    // This thread draws the progress bar; what that allocates is not the engines' doing.
    alloc_count::exempt_this_thread();
    let options = match Options::from_args() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => return complain(&*error, 2),
    };
    let ended = interrupt::watch().and_then(|()| bench(&options));
    let code = match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => complain(&*error, 1),
    };
    interrupt::pass_on();
    code
}

fn complain(error: &(dyn Error + Send + Sync), code: u8) -> ExitCode {
    eprintln!("iobench: {error}");
    ExitCode::from(code)
}

/// Runs every engine asked for; false when one failed or one answer was wrong. What was added to a file
/// system stays only if all went well.
fn bench(options: &Options) -> Result<bool> {
    let plot = plot::place(options)?;
    let target = Target::prepare(options)?;
    report::heading(options, &target);
    let outcomes = run_engines(options, &target)?;
    report::table(options, &outcomes);
    report::notes(options, &target, &outcomes);
    if let Some(path) = plot {
        plot::write(&path, options, &target, &outcomes)?;
        report::plotted(options, &path);
    }
    let all_is_well = outcomes.len() == options.engines.len() && outcomes.iter().all(report::blame);
    if all_is_well {
        target.keep();
    }
    Ok(all_is_well)
}

/// An engine that can't run here (no kernel AIO, say) is reported and left out; the others still tell
/// something.
fn run_engines(options: &Options, target: &Target) -> Result<Vec<Outcome>> {
    let progress = Progress::of(measure::total_millis(options));
    let mut outcomes = Vec::new();
    for &engine in &options.engines {
        match run_engine(engine, options, target, &progress) {
            Ok(outcome) => {
                report::row(options, target, &outcome);
                outcomes.push(outcome);
            }
            Err(error) => {
                interrupt::check()?;
                progress.say(&format!("iobench: engine {}: {error}", engine.name));
            }
        }
    }
    progress.finish();
    Ok(outcomes)
}

/// One run, or the best of several.
fn run_engine(
    engine: &'static Engine,
    options: &Options,
    target: &Target,
    progress: &Progress,
) -> Result<Outcome> {
    let mut best: Option<Outcome> = None;
    for group in engine.groups(options) {
        let job = engine.job(options, target, group);
        let next = measure::run(engine, &job, options, progress)?;
        interrupt::check()?;
        best = Some(match best {
            Some(best) => best.better(next),
            None => next,
        });
    }
    Ok(best.expect("an engine is at least one run"))
}
