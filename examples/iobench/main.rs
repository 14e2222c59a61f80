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
//! How it is put together: [`options`] says what to do, [`target`] finds the file or has it made and
//! [`fill`]ed; its [`block`]s describe themselves. An engine (one file in [`engines`]) keeps requests in
//! flight; each request is a [`slot`], which picks the offset, checks the data and samples the latency in the
//! same way for all engines. [`measure`] watches from outside and takes the difference of two snapshots;
//! [`report`] and [`plot`] show it.

mod alloc_count;
mod block;
mod engines;
mod fill;
mod job;
mod latency;
mod measure;
mod options;
mod plot;
mod progress;
mod report;
mod rng;
mod slot;
mod target;
mod units;

use std::error::Error;
use std::process::ExitCode;

use job::Job;
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
    match bench(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => complain(&*error, 1),
    }
}

fn complain(error: &(dyn Error + Send + Sync), code: u8) -> ExitCode {
    eprintln!("iobench: {error}");
    ExitCode::from(code)
}

/// Runs every engine asked for; false when one failed or one answer was wrong.
fn bench(options: &Options) -> Result<bool> {
    let target = Target::prepare(options)?;
    report::heading(options, &target);
    let outcomes = run_engines(options, &target);
    report::table(options, &outcomes);
    if let Some(path) = options.plot_path() {
        plot::write(&path, options, &target, &outcomes)?;
        report::plotted(options, &path);
    }
    Ok(outcomes.len() == options.engines.len() && outcomes.iter().all(report::blame))
}

/// An engine that can't run here (no kernel AIO, say) is reported and left out; the others still tell
/// something.
fn run_engines(options: &Options, target: &Target) -> Vec<Outcome> {
    let progress = Progress::measuring(options);
    let mut outcomes = Vec::new();
    for &engine in &options.engines {
        let job = Job::new(options, target, engine);
        match measure::run(engine, &job, options, &progress) {
            Ok(outcome) => {
                report::row(options, &outcome);
                outcomes.push(outcome);
            }
            Err(error) => progress.say(&format!("iobench: engine {}: {error}", engine.name)),
        }
    }
    progress.finish();
    outcomes
}
