//! The command line.

use std::error::Error;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use lexopt::prelude::*;

use crate::Result;
use crate::block::BLOCK;
use crate::engines::{ENGINES, Engine};
use crate::room;
use crate::rw::Rw;
use crate::slot::SAMPLE_EVERY;
use crate::units;

/// What a kernel context may be made for.
const MAX_DEPTH: usize = 65_535;
const MAX_THREADS: usize = 1024;
const MAX_BS: u64 = 1 << 30;
const SECTOR: usize = 512;

pub(crate) struct Options {
    pub(crate) file: Option<PathBuf>,
    pub(crate) size: Option<u64>,
    pub(crate) rw: Rw,
    pub(crate) bs: usize,
    pub(crate) depth: usize,
    pub(crate) threads: usize,
    pub(crate) seconds: f64,
    /// How many submissions `raw` collects; all that are ready without.
    pub(crate) group: Option<usize>,
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

    /// Where the plot was asked to go.
    pub(crate) fn plot(&self) -> Option<&Path> {
        self.plot.as_deref()
    }

    /// How many runs all engines take together.
    pub(crate) fn runs(&self) -> usize {
        let engines = self.engines.iter();
        engines.map(|engine| engine.groups(self).len()).sum()
    }

    fn take(&mut self, name: &str, args: &mut lexopt::Parser) -> Result<()> {
        match name {
            "file" => self.file = Some(file(args)?),
            "size" => self.size = Some(size(name, args)?),
            "rw" => self.rw = args.value()?.string()?.parse()?,
            "bs" => self.bs = usize::try_from(size(name, args)?)?,
            "depth" => self.depth = whole(name, args, MAX_DEPTH)?,
            "threads" => self.threads = whole(name, args, MAX_THREADS)?,
            "group" => self.group = Some(whole(name, args, MAX_DEPTH)?),
            "seconds" => self.seconds = seconds(args)?,
            "engine" => self.engines.extend(engines(&args.value()?.string()?)?),
            "plot" => self.plot = Some(svg(args)?),
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
        if self.group.is_some() && !self.engines.iter().any(|engine| engine.takes_group()) {
            return Err("--group is an option of the engine raw; add --engine raw".into());
        }
        self.check_bs()?;
        self.check_memory()?;
        Ok(self)
    }

    fn check_bs(&self) -> Result<()> {
        let (unit, why) = match self.verify {
            true => (BLOCK, "4k, the unit of checking (512 with --no-verify)"),
            false => (SECTOR, "512, the smallest unit of O_DIRECT"),
        };
        let allowed = unit as u64..=MAX_BS;
        if !self.bs.is_multiple_of(unit) || !allowed.contains(&(self.bs as u64)) {
            let bs = self.bs;
            return Err(format!("--bs {bs}: a multiple of {why}, up to 1G").into());
        }
        Ok(())
    }

    /// Before the kernel's way of saying so, which is to end the process.
    fn check_memory(&self) -> Result<()> {
        let buffers = self.bs as u128 * self.depth as u128 * self.threads as u128;
        let most = room::available_memory() / 2;
        if buffers <= most.into() {
            return Ok(());
        }
        let buffers = units::size(u64::try_from(buffers).unwrap_or(u64::MAX));
        Err(format!(
            "--bs, --depth and --threads together ask for {buffers} of buffers; lower one, to {} at most",
            units::size(most)
        )
        .into())
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
            group: None,
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

fn whole(name: &str, args: &mut lexopt::Parser, most: usize) -> Result<usize> {
    let text = args.value()?.string()?;
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("--{name} {text}: a whole number, 1 to {most}").into())
}

fn seconds(args: &mut lexopt::Parser) -> Result<f64> {
    let text = args.value()?.string()?;
    let number = text
        .parse()
        .ok()
        .filter(|number| (0.1..=86_400.0).contains(number));
    number.ok_or_else(|| format!("--seconds {text}: a number, 0.1 to 86400").into())
}

fn size(name: &str, args: &mut lexopt::Parser) -> Result<u64> {
    let text = args.value()?.string()?;
    let bytes = units::parse_size(&text).filter(|&bytes| bytes > 0);
    bytes.ok_or_else(|| format!("--{name} {text}: a size such as 4096, 4k, 512M or 1G").into())
}

fn file(args: &mut lexopt::Parser) -> Result<PathBuf> {
    let path = PathBuf::from(args.value()?);
    if path.as_os_str().is_empty() {
        return Err("--file: the path of a file or block device is missing".into());
    }
    Ok(path)
}

/// What is drawn is an SVG, and the name is to say so.
fn svg(args: &mut lexopt::Parser) -> Result<PathBuf> {
    let path = PathBuf::from(args.value()?);
    let extension = path.extension().unwrap_or_default();
    if !extension.eq_ignore_ascii_case("svg") {
        let path = path.display();
        return Err(
            format!("--plot {path}: what is drawn is an SVG; choose a name in .svg").into(),
        );
    }
    Ok(path)
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

With no option: makes a file of 1 GiB, or what fits, beside the build (in TMPDIR where that can't be written), reads it
at random in 4 KiB blocks for 3 seconds per engine, checks every block, prints a table and draws the latency
distribution.

  --file PATH      a file or block device; made when it does not exist. What iobench did not make is only read,
                   unless --rw writes and --yes is given; its blocks can't be checked (--no-verify)
  --size SIZE      how much of the file is used (1G, 512M, ...)                                [1G, or all of an existing file]
  --rw KIND        randread, randwrite, read, write                                            [randread]
  --bs SIZE        bytes per request: a multiple of 4k, or of 512 with --no-verify             [4k]
  --depth N        requests in flight per loop, 1 to {MAX_DEPTH}                                     [32]
  --threads N      independent loops, 1 to {MAX_THREADS}                                                [1]
  --seconds S      measured time per engine, after a short warm-up                             [3]
  --engine NAME    which engine, a way to drive the file; or all; may be given several times   [those with a star]
{engines}\
\x20 --group N        engine raw: how many submissions it collects before an io_submit            [all that are ready]
  --no-verify      don't check what is read, don't stamp what is written: pure overhead
  --yes            yes, overwrite a file or device that iobench did not make
  --json           one JSON object per engine and line on stdout instead of the table
  --plot FILE.svg  where the latency plot goes                                                 [iobench.svg beside the build]

The file system is never filled: 5 % of it stay free, and at least 512 MiB, or an eighth of a small one. A file that
this run made, or made longer, is removed or cut back when the run fails or is interrupted. What iobench only
overwrote (--yes) stays as long as it is, and stays somebody else's.

What the columns mean: threads are those that keep requests going: the loops, or one for each request in flight
(pread). CPUs is how many processors the whole process kept busy, CPU ns/IO its user and system time per request.
Syscalls are counted where they are made. Allocations are counted by the global allocator. Latency is taken from one
request in {SAMPLE_EVERY}, chosen at random, from just before it is asked for until its answer is there; \"-\" means too few samples
for one to lie above the quantile. Everything is counted after the warm-up, errors always.

What a JSON object has (numbers, but for the first four; null where the table says \"-\"):
  engine, rw, file, medium    the engine's name, --rw, the path, the file system and device under it
  group                       raw, raw-best: submissions in an io_submit; null: all that are ready, or another engine
  bs, depth, loops, threads   bytes per request, requests in flight per loop, loops (--threads), threads (the column)
  iops, mib_s                 requests and MiB per second
  cpus, cpu_ns_per_io, syscalls_per_io, allocs_per_io
  samples                     requests whose latency was taken
  p50_us, p99_us, p999_us     microseconds
  errors                      requests that failed, came back short or with wrong data
"
    )
}
