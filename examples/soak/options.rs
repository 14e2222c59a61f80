//! The command line.

use crate::Result;
use lexopt::prelude::*;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) struct Options {
    pub(crate) time: Duration,
    pub(crate) seed: u64,
    pub(crate) dirs: Vec<PathBuf>,
    pub(crate) threads: usize,
    /// The medium fails at random: errors are counted, and not wrong.
    pub(crate) faults: bool,
}

const HELP: &str = "\
soak: all of kiocb at once on real files, every byte checked

  cargo run --release --example soak -- [OPTIONS]

  --minutes N    for how long, also in parts (0.5)                                   [1]
  --seed S       which choices; the order in which threads run is the machine's      [the time]
  --dir DIR      where the files are; several may be given                           [the current directory]
  --threads N    how many use the context at once, 1 to 64                           [4]
  --faults       the medium fails at random: errors are counted, wrong bytes are not allowed
";

impl Options {
    /// `None` when help was asked for and given.
    pub(crate) fn from_args() -> Result<Option<Options>> {
        let mut options = Options {
            time: Duration::from_secs(60),
            seed: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
            dirs: Vec::new(),
            threads: 4,
            faults: false,
        };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                Short('h') | Long("help") => {
                    print!("{HELP}");
                    return Ok(None);
                }
                Long("minutes") => {
                    let minutes: f64 = args.value()?.parse()?;
                    options.time = Duration::try_from_secs_f64(minutes * 60.0)?;
                }
                Long("seed") => options.seed = args.value()?.parse()?,
                Long("dir") => options.dirs.push(args.value()?.into()),
                Long("threads") => options.threads = args.value()?.parse::<usize>()?.clamp(1, 64),
                Long("faults") => options.faults = true,
                other => return Err(other.unexpected().into()),
            }
        }
        if options.dirs.is_empty() {
            options.dirs.push(PathBuf::from("."));
        }
        Ok(Some(options))
    }
}
