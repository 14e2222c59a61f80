//! Mutants of the crate, all in one build: each is a switch in a copy of the sources, and the environment says which
//! is on (`KIOCB_MUTANT`). `.ci/mutants` makes the copy and the builds.
//!
//! | command | |
//! | --- | --- |
//! | `plant LIST COPY` | plants what `cargo mutants --list --json` has listed into the sources below COPY |
//! | `unfit LIST COPY` | reads what cargo says of the copy, and notes the mutants that it can't be compiled with |
//! | `try LIST COPY ORACLES` | tries each mutant with the programs that reach it, until one notices |
//! | `record LIST COPY` | the record, as a table |

mod edit;
mod mutant;
mod oracle;
mod place;
mod plant;
mod record;
mod trial;
mod unfit;

use std::path::{self, Path};
use std::process::ExitCode;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mutants: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<()> {
    let (&[command, list, copy], rest) = args.split_at_checked(3).ok_or(COMMANDS)? else {
        return Err(COMMANDS.into());
    };
    // Absolute: the programs run in folders of their own.
    let (mutants, copy) = (mutant::read(list)?, path::absolute(copy)?);
    match (command, rest) {
        ("plant", []) => plant::all(&mutants, &copy),
        ("unfit", []) => unfit::note(&mutants, &copy),
        ("try", [oracles]) => trial::of_all(&mutants, &copy, Path::new(oracles)),
        ("record", []) => record::print(&mutants, &copy),
        _ => Err(COMMANDS.into()),
    }
}

const COMMANDS: &str = "the commands are: plant, unfit, try, record";
