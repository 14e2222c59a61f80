//! The command line.

use crate::Result;
use crate::driver::{DRIVERS, Driver};
use crate::files::{Fault, LogSync};
use crate::meta::PAGE_SIZES;
use crate::units;
use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;
use tempfile::TempDir;

/// What to do.
pub(crate) struct Command {
    pub(crate) name: String,
    /// A key, a key and a value, …
    pub(crate) words: Vec<OsString>,
    pub(crate) options: Options,
}

pub(crate) struct Options {
    pub(crate) store: Option<PathBuf>,
    pub(crate) driver: Option<Driver>,
    pub(crate) page_size: usize,
    /// Pages in memory.
    pool: Option<usize>,
    pub(crate) log_sync: LogSync,
    pub(crate) atomic: bool,
    pub(crate) records: Option<u64>,
    pub(crate) clients: usize,
    pub(crate) seconds: f64,
    pub(crate) mixes: String,
    pub(crate) plot: Option<PathBuf>,
    pub(crate) noise: usize,
    pub(crate) compare: bool,
    pub(crate) gets: bool,
    pub(crate) seed: u64,
    pub(crate) round: u64,
    pub(crate) rounds: u64,
    pub(crate) acked: Option<PathBuf>,
    pub(crate) limit: usize,
    /// Hidden: for proving that `torture` finds it.
    pub(crate) fault: Option<Fault>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            store: None,
            driver: None,
            page_size: PAGE_SIZES[0],
            pool: None,
            log_sync: LogSync::Dsync,
            atomic: false,
            records: None,
            clients: 64,
            seconds: 3.0,
            mixes: "ABCF".into(),
            plot: None,
            noise: 0,
            compare: false,
            gets: false,
            seed: 1,
            round: 0,
            rounds: 20,
            acked: None,
            limit: 20,
            fault: None,
        }
    }
}

impl Options {
    /// The driver asked for, or callbacks.
    pub(crate) fn driver(&self) -> Driver {
        self.driver.unwrap_or(Driver::Callbacks)
    }

    /// How many records a bench has: in its comparisons all of them are in memory, or nearly none.
    pub(crate) fn records(&self) -> u64 {
        let usual = match (self.compare, self.gets) {
            (true, _) => 20_000,
            (_, true) => 1_000_000,
            _ => 100_000,
        };
        self.records.unwrap_or(usual)
    }

    /// Pages in memory.
    pub(crate) fn pool(&self) -> usize {
        self.pool.unwrap_or(if self.gets { 1024 } else { 2048 })
    }

    /// The store that is named, or one in a new directory beside, which goes with what is returned first.
    pub(crate) fn store_or_temporary(&self) -> Result<(Option<TempDir>, PathBuf)> {
        if let Some(store) = &self.store {
            return Ok((None, store.clone()));
        }
        let temporary = tempfile::tempdir_in(std::env::current_dir()?)?;
        let store = temporary.path().join("store");
        Ok((Some(temporary), store))
    }

    /// The directory, which has to be named.
    pub(crate) fn store(&self) -> Result<&std::path::Path> {
        let store = self.store.as_deref();
        store.ok_or_else(|| "say which store: --store DIR".into())
    }

    pub(crate) fn fault_name(&self) -> Option<&'static str> {
        let named = FAULTS.iter().find(|(_, fault)| Some(*fault) == self.fault);
        named.map(|(name, _)| *name)
    }

    fn take(&mut self, name: &str, args: &mut lexopt::Parser) -> Result<()> {
        match name {
            "store" => self.store = Some(args.value()?.into()),
            "driver" => self.driver = Some(choice(name, args, &DRIVERS)?),
            "page-size" => self.page_size = page_size(args)?,
            "pool" => self.pool = Some(number(name, args, 64..=1 << 22)?),
            "log-sync" => self.log_sync = choice(name, args, &SYNCS)?,
            "atomic" => self.atomic = true,
            "records" => self.records = Some(number(name, args, 1..=1 << 40)?),
            "clients" => self.clients = number(name, args, 1..=10_000)?,
            "seconds" => self.seconds = number(name, args, 0.05..=86_400.0)?,
            "mix" => self.mixes = mixes(args)?,
            "plot" => self.plot = Some(args.value()?.into()),
            "noise" => self.noise = number(name, args, 0..=1000)?,
            "compare" => self.compare = true,
            "get" => self.gets = true,
            "seed" => self.seed = number(name, args, 0..=u64::MAX)?,
            "round" => self.round = number(name, args, 0..=u64::MAX)?,
            "rounds" => self.rounds = number(name, args, 1..=u64::MAX)?,
            "acked" => self.acked = Some(args.value()?.into()),
            "limit" => self.limit = number(name, args, 1..=1000)?,
            "break" => self.fault = Some(choice(name, args, &FAULTS)?),
            other => return Err(format!("there is no option --{other}; --help lists them").into()),
        }
        Ok(())
    }
}

const SYNCS: [(&str, LogSync); 2] = [("dsync", LogSync::Dsync), ("fdatasync", LogSync::Fdatasync)];

const FAULTS: [(&str, Fault); 4] = [
    ("no-log-sync", Fault::LogSync),
    ("no-checkpoint-sync", Fault::CheckpointSync),
    ("page-before-log", Fault::PageBeforeLog),
    ("no-full-page-images", Fault::Images),
];

pub(crate) fn command() -> Result<Command> {
    let (mut words, mut options) = (Vec::new(), Options::default());
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => words.insert(0, "help".into()),
            Long(name) => {
                let name = name.to_owned();
                options.take(&name, &mut args)?;
            }
            Value(word) => words.push(word),
            other @ Short(_) => return Err(other.unexpected().into()),
        }
    }
    let name = match words.is_empty() {
        true => "bench".into(),
        false => words.remove(0).string()?,
    };
    Ok(Command {
        name,
        words,
        options,
    })
}

fn choice<T: Copy>(name: &str, args: &mut lexopt::Parser, among: &[(&str, T)]) -> Result<T> {
    let text = args.value()?.string()?;
    let found = among.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = among.iter().map(|(name, _)| *name).collect();
        format!("--{name} {text}: {}", names.join(", ")).into()
    })
}

fn number<T>(name: &str, args: &mut lexopt::Parser, range: std::ops::RangeInclusive<T>) -> Result<T>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let text = args.value()?.string()?;
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        format!("--{name} {text}: a number, {least} to {most}").into()
    })
}

fn page_size(args: &mut lexopt::Parser) -> Result<usize> {
    let text = args.value()?.string()?;
    let bytes = units::parse_size(&text).and_then(|bytes| usize::try_from(bytes).ok());
    let known = bytes.filter(|bytes| PAGE_SIZES.contains(bytes));
    known.ok_or_else(|| format!("--page-size {text}: 4k, 8k or 16k").into())
}

fn mixes(args: &mut lexopt::Parser) -> Result<String> {
    let text = args.value()?.string()?.to_ascii_uppercase();
    match text.chars().all(|mix| "ABCF".contains(mix)) {
        true => Ok(text),
        false => Err(format!("--mix {text}: of A, B, C and F").into()),
    }
}

pub(crate) const HELP: &str = "\
pagestore: a transactional page store on kernel AIO

  cargo run --release --example pagestore -- [COMMAND] [OPTIONS]

  bench              loads a store and runs mixes on it (the default); in a directory of its own unless --store
  check              opens a store, with recovery, and verifies every checksum and the tree
  get KEY            prints the value of a key
  put KEY VALUE      sets it
  delete KEY         removes it
  scan [KEY]         prints rows from the key on (--limit N)                            [20]
  create             makes an empty store; put and bench do so where there is none
  torture            runs transactions in a child process, kills it, recovers, verifies, and again
  torture-child, torture-verify   its parts, for other ways to crash

  --store DIR        the store's directory
  --driver NAME      callbacks, per-core, threads                                       [callbacks]
  --page-size SIZE   of a new store: 4k, 8k, 16k                                        [4k]
  --pool N           pages in memory                                     [2048; 1024 with bench --get]
  --log-sync HOW     dsync: one write that is durable; fdatasync: a write and a sync    [dsync]
  --atomic           atomic page writes where the file offers them, and no images of pages in the log

bench:
  --records N        records of 100 bytes           [100000; 20000 with --compare, 1000000 with --get]
  --clients N        one transaction at a time each                                     [64]
  --seconds S        for each mix                                                       [3]
  --mix LETTERS      A: half updates, B: 5 %, C: none, F: half read-modify-write        [ABCF]
  --plot FILE.svg    where the latency plot goes                                        [pagestore.svg beside the build]
  --compare          commits a second and per second of processor time, of all drivers by turns
  --get              random gets that miss the pool, beside iobench --engine callback on the same file
  --noise N          tasks that keep processors busy meanwhile                          [0]

torture:
  --seed N           of the moments and the transactions                                [1]
  --rounds N         how often                                                          [20]
  --round N          torture-child: which round this is
  --acked FILE       torture-verify: what torture-child has printed in all rounds: client and sequence, a line each
";
