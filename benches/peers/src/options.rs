//! The command line.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::prelude::*;

use crate::Result;
use crate::engines::{ENGINES, Engine};
use crate::plan::Mode;
use crate::record::Record;
use crate::slice::Slice;

pub(crate) enum Command {
    Help,
    Fill { path: PathBuf, length: u64 },
    Slice(Slice),
    Record(Record),
    Verdict(PathBuf),
    Plot { from: PathBuf, to: PathBuf },
    Machine,
    Idle,
    Busy,
}

pub(crate) fn help() {
    let names: Vec<_> = ENGINES.iter().map(|engine| engine.name).collect();
    print!(
        "\
The same loop on kiocb and on other crates. benches/record runs the whole; by hand:

  peers fill FILE BYTES          writes blocks that can be checked
  peers slice --engine NAME --file FILE [--depth N] [--threads N] [--group N] [--milliseconds N] [--buffered]
                                 one engine for a short time: IOPS, CPU ns per read, CPUs, p50 and p99 in us
  peers record --out FILE.csv --medium NAME=FILE ... [--mode table|contention|readers|submitters] [--engine NAME ...]
               [--depth N ...] [--threads N ...] [--rounds N] [--milliseconds N] [--busy N]
                                 many slices by turns; a medium whose name ends in \"cached\" is read without O_DIRECT
  peers verdict FILE.csv         the ratios to raw-best, and where another crate is ahead
  peers plot FILE.csv FILE.svg   the same as a picture
  peers machine                  what this machine is
  peers idle                     memory of an idle Aio, time to make and end one
  peers busy                     keeps a processor busy until its standard input ends

The engines are {}.
",
        names.join(", ")
    );
}

pub(crate) fn command() -> Result<Command> {
    let mut args = lexopt::Parser::from_env();
    let name = match args.next()? {
        Some(Value(name)) => name.string()?,
        _ => return Ok(Command::Help),
    };
    Ok(match &*name {
        "fill" => Command::Fill {
            path: file(&mut args)?,
            length: args.value()?.parse()?,
        },
        "slice" => Command::Slice(slice(&mut args)?),
        "record" => Command::Record(record(&mut args)?),
        "verdict" => Command::Verdict(file(&mut args)?),
        "plot" => Command::Plot {
            from: file(&mut args)?,
            to: file(&mut args)?,
        },
        "machine" => Command::Machine,
        "idle" => Command::Idle,
        "busy" => Command::Busy,
        "help" => Command::Help,
        other => return Err(format!("there is no command {other}; see `peers help`").into()),
    })
}

fn file(args: &mut lexopt::Parser) -> Result<PathBuf> {
    Ok(args.value()?.into())
}

fn slice(args: &mut lexopt::Parser) -> Result<Slice> {
    let (mut engine, mut slice) = (None, Slice::new(&ENGINES[0]));
    while let Some(arg) = args.next()? {
        match arg {
            Long("engine") => engine = Some(named(&args.value()?.string()?)?),
            Long("file") => slice.file = args.value()?.into(),
            Long("depth") => slice.depth = args.value()?.parse()?,
            Long("threads") => slice.threads = args.value()?.parse()?,
            Long("group") => slice.group = Some(args.value()?.parse()?),
            Long("milliseconds") => slice.time = milliseconds(args)?,
            Long("buffered") => slice.buffered = true,
            other => return Err(other.unexpected().into()),
        }
    }
    slice.engine = engine.ok_or("--engine is missing")?;
    Ok(slice)
}

fn record(args: &mut lexopt::Parser) -> Result<Record> {
    let mut record = Record::default();
    while let Some(arg) = args.next()? {
        match arg {
            Long("out") => record.out = args.value()?.into(),
            Long("mode") => record.plan.mode = args.value()?.parse_with(Mode::from_str)?,
            Long("medium") => record.plan.media.push(medium(&args.value()?.string()?)?),
            Long("engine") => extend(&mut record.plan.engines, args, named)?,
            Long("depth") => extend(&mut record.plan.depths, args, number)?,
            Long("threads") => extend(&mut record.plan.threads, args, number)?,
            Long("rounds") => record.rounds = args.value()?.parse()?,
            Long("milliseconds") => record.time = milliseconds(args)?,
            Long("busy") => record.plan.busy = args.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(record)
}

/// A list with commas.
fn extend<T>(
    list: &mut Vec<T>,
    args: &mut lexopt::Parser,
    read: impl Fn(&str) -> Result<T>,
) -> Result<()> {
    let text = args.value()?.string()?;
    for part in text.split(',') {
        list.push(read(part)?);
    }
    Ok(())
}

fn number(text: &str) -> Result<usize> {
    text.parse().map_err(|error| complaint(text, &error).into())
}

fn complaint(text: &str, error: &dyn Display) -> String {
    format!("{text}: {error}")
}

fn named(name: &str) -> Result<&'static Engine> {
    Engine::named(name).ok_or_else(|| format!("there is no engine {name}; see `peers help`").into())
}

fn medium(text: &str) -> Result<(String, PathBuf)> {
    let (name, path) = text
        .split_once('=')
        .ok_or("--medium has the form NAME=FILE")?;
    Ok((name.to_owned(), path.into()))
}

fn milliseconds(args: &mut lexopt::Parser) -> Result<Duration> {
    Ok(Duration::from_millis(args.value()?.parse()?))
}
