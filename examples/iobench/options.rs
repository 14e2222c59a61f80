//! The command line.

use std::error::Error;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use lexopt::prelude::*;

use crate::Result;
use crate::block::BLOCK;
use crate::engines::{ENGINES, Engine};
use crate::slot::SAMPLE_EVERY;
use crate::target;
use crate::units;

const MAX_DEPTH: usize = 65_536;
const MAX_THREADS: usize = 1024;
const MAX_BS: usize = 1 << 30;
const SECTOR: usize = 512;

pub(crate) struct Options {
    pub(crate) file: Option<PathBuf>,
    pub(crate) size: Option<u64>,
    pub(crate) rw: Rw,
    pub(crate) bs: usize,
    pub(crate) depth: usize,
    pub(crate) threads: usize,
    pub(crate) seconds: f64,
    pub(crate) engines: Vec<&'static Engine>,
    pub(crate) verify: bool,
    pub(crate) yes: bool,
    pub(crate) json: bool,
    plot: Option<PathBuf>,
}

impl Options {
    /// `None` when help was asked for and given.
    pub(crate) fn from_args() -> Result<Option<Options>> {
        let mut options = Options::default();
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            let name = match arg {
                Short('h') | Long("help") => {
                    print!("{}", help());
                    return Ok(None);
                }
                Long(name) => name.to_string(),
                other => return Err(unknown(&other.unexpected())),
            };
            options.take(&name, &mut args)?;
        }
        options.complete().map(Some)
    }

    /// Where the plot goes; nowhere for `--json` unless asked for.
    pub(crate) fn plot_path(&self) -> Option<PathBuf> {
        self.plot
            .clone()
            .or_else(|| (!self.json).then(|| target::beside_the_build("iobench.svg")))
    }

    fn take(&mut self, name: &str, args: &mut lexopt::Parser) -> Result<()> {
        match name {
            "file" => self.file = Some(args.value()?.into()),
            "size" => self.size = Some(size(args)?),
            "rw" => self.rw = args.value()?.parse()?,
            "bs" => self.bs = usize::try_from(size(args)?)?,
            "depth" => self.depth = number(name, args)?,
            "threads" => self.threads = number(name, args)?,
            "seconds" => self.seconds = number(name, args)?,
            "engine" => self.engines.extend(engines(&args.value()?.string()?)?),
            "plot" => self.plot = Some(args.value()?.into()),
            "no-verify" => self.verify = false,
            "yes" => self.yes = true,
            "json" => self.json = true,
            other => return Err(unknown(&format_args!("there is no option --{other}"))),
        }
        Ok(())
    }

    fn complete(mut self) -> Result<Options> {
        if self.engines.is_empty() {
            self.engines = ENGINES.iter().filter(|engine| engine.by_default).collect();
        }
        within("--depth", self.depth, MAX_DEPTH)?;
        within("--threads", self.threads, MAX_THREADS)?;
        within("--bs", self.bs, MAX_BS)?;
        if !(0.1..=86_400.0).contains(&self.seconds) {
            return Err("--seconds must be between 0.1 and 86400".into());
        }
        self.check_alignment()?;
        Ok(self)
    }

    fn check_alignment(&self) -> Result<()> {
        if !self.bs.is_multiple_of(SECTOR) {
            return Err("--bs must be a multiple of 512, the smallest unit of O_DIRECT".into());
        }
        if self.verify && !self.bs.is_multiple_of(BLOCK) {
            return Err(
                "--bs must be a multiple of 4k, the unit of checking; or add --no-verify".into(),
            );
        }
        Ok(())
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            file: None,
            size: None,
            rw: Rw::RandRead,
            bs: BLOCK,
            depth: 32,
            threads: 1,
            seconds: 3.0,
            engines: Vec::new(),
            verify: true,
            yes: false,
            json: false,
            plot: None,
        }
    }
}

fn unknown(what: &dyn Display) -> Box<dyn Error + Send + Sync> {
    format!("{what}; --help lists the options").into()
}

fn number<T: FromStr<Err: Display>>(name: &str, args: &mut lexopt::Parser) -> Result<T> {
    let text = args.value()?.string()?;
    text.parse()
        .map_err(|error| format!("--{name} {text}: {error}").into())
}

fn size(args: &mut lexopt::Parser) -> Result<u64> {
    let text = args.value()?.string()?;
    units::parse_size(&text)
        .ok_or_else(|| format!("{text:?} is not a size; write 4096, 4k, 512M or 1G").into())
}

fn engines(name: &str) -> Result<Vec<&'static Engine>> {
    if name == "all" {
        return Ok(ENGINES.iter().collect());
    }
    let engine = Engine::named(name).ok_or_else(|| {
        let names: Vec<_> = ENGINES.iter().map(|engine| engine.name).collect();
        format!(
            "there is no engine {name:?}; there are {}",
            names.join(", ")
        )
    })?;
    Ok(vec![engine])
}

fn within(option: &str, value: usize, most: usize) -> Result<()> {
    if (1..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!("{option} must be between 1 and {most}").into())
    }
}

/// What is done to the file.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Rw {
    RandRead,
    RandWrite,
    Read,
    Write,
}

impl Rw {
    const ALL: [Rw; 4] = [Rw::RandRead, Rw::RandWrite, Rw::Read, Rw::Write];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Rw::RandRead => "randread",
            Rw::RandWrite => "randwrite",
            Rw::Read => "read",
            Rw::Write => "write",
        }
    }

    pub(crate) fn verb(self) -> &'static str {
        if self.writes() { "write" } else { "read" }
    }

    pub(crate) fn writes(self) -> bool {
        matches!(self, Rw::RandWrite | Rw::Write)
    }

    pub(crate) fn random(self) -> bool {
        matches!(self, Rw::RandRead | Rw::RandWrite)
    }
}

impl FromStr for Rw {
    type Err = String;

    fn from_str(text: &str) -> Result<Rw, String> {
        let known = Rw::ALL.into_iter().find(|rw| rw.name() == text);
        known.ok_or_else(|| "--rw is one of randread, randwrite, read, write".into())
    }
}

fn help() -> String {
    let engine = |engine: &Engine| {
        let mark = if engine.by_default { "*" } else { " " };
        format!(
            "                   {mark} {:<9} {}\n",
            engine.name, engine.about
        )
    };
    let engines: String = ENGINES.iter().map(engine).collect();
    format!(
        "\
iobench: what this file can do, and what kiocb costs on top of bare system calls

  cargo run --release --example iobench -- [OPTIONS]

With no option: makes a file of 1 GiB beside the build, reads it at random in 4 KiB blocks for 3 seconds per engine,
checks every block, prints a table and draws the latency distribution.

  --file PATH      a file or block device; made when it does not exist. What iobench did not make is only read,
                   unless --rw writes and --yes is given; its blocks can't be checked (--no-verify)
  --size SIZE      how much of the file is used (1G, 512M, ...)                                [1G, or all of an existing file]
  --rw KIND        randread, randwrite, read, write                                            [randread]
  --bs SIZE        bytes per request                                                           [4k]
  --depth N        requests in flight per thread                                               [32]
  --threads N      independent loops                                                           [1]
  --seconds S      measured time per engine, after a short warm-up                             [3]
  --engine NAME    which engine, or all; may be given several times                            [those with a star]
{engines}\
\x20 --no-verify      don't check what is read, don't stamp what is written: pure overhead
  --yes            yes, overwrite a file or device that iobench did not make
  --json           one JSON object per engine and line on stdout instead of the table
  --plot FILE.svg  where the latency plot goes                                                 [iobench.svg beside the build]

What the columns mean: CPU is user and system time of the whole process, per request. Syscalls are counted where they
are made. Allocations are counted by the global allocator. Latency is taken from one request in {SAMPLE_EVERY}, chosen at random, from
just before it is asked for until its answer is in hand. Everything is counted after the warm-up, errors always.
"
    )
}
