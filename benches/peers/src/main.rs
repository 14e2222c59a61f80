//! The same loop, random reads of 4 KiB at a fixed depth, on kiocb, on bare system calls and on other crates;
//! and the record of who is how fast. `benches/record` calls it; README.md beside Cargo.toml says more.
//!
//! The loop is iobench's: its [`job`], its [`slot`], its blocks, and its engines are its own files, compiled
//! in. A [`mod@slice`] is one engine for a short time in a process of its own. [`record`] carries out the slices of
//! a [`plan`] by turns and writes the medians, one [`row`] each; [`verdict`] says where another crate is
//! ahead, [`plot`] draws it.

#[path = "../../../examples/iobench/block.rs"]
#[allow(dead_code, reason = "what iobench does with marks")]
mod block;
#[path = "../../../examples/pagestore/busy.rs"]
mod busy;
#[path = "../../../examples/iobench/job.rs"]
mod job;
#[path = "../../../examples/iobench/latency.rs"]
#[allow(dead_code, reason = "what iobench draws")]
mod latency;
#[path = "../../../examples/iobench/rng.rs"]
mod rng;
#[path = "../../../examples/iobench/rw.rs"]
#[allow(dead_code, reason = "iobench's command line")]
mod rw;
#[path = "../../../examples/iobench/slot.rs"]
mod slot;
#[path = "../../../examples/iobench/svg.rs"]
mod svg;

mod engines;
mod file;
mod idle;
mod machine;
mod options;
mod plan;
mod plot;
mod record;
mod row;
mod slice;
mod verdict;

use std::error::Error;
use std::process::ExitCode;

use options::Command;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match options::command().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Help => options::help(),
        Command::Fill { path, length } => file::fill(&path, length)?,
        Command::Slice(what) => println!("{}", slice::run(&what)?),
        Command::Record(what) => record::run(&what)?,
        Command::Verdict(path) => verdict::print(&row::read(&path)?),
        Command::Plot { from, to } => plot::write(&to, &row::read(&from)?)?,
        Command::Machine => print!("{}", machine::about()),
        Command::Idle => idle::print()?,
        Command::Busy => busy::spin(),
    }
    Ok(())
}
