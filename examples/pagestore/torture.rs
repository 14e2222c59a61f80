//! `torture`: clients run transactions in a child process, which is killed at a random moment; then the store is
//! recovered, and has to have each acknowledged transaction, and none by half.
//!
//! The three commands are parts that other ways to crash can use: `torture-child` prints `client sequence` for what
//! it finds, and then for each transaction that the store has acknowledged, and `torture-verify` compares what was printed with the store.

use crate::actor::{Reader, actors, note};
use crate::command::config;
use crate::deed::{self, Acked, CLIENTS, Rows, sequence};
use crate::files::{self, Config, Files, Shape};
use crate::options::Options;
use crate::rng::{Rng, below};
use crate::store::Store;
use crate::tree::Row;
use crate::{Result, check};
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio, exit};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// Milliseconds after which a child is killed at the latest.
const LONGEST: u64 = 800;

/// Kills, recovers and verifies, round after round.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (_temporary, dir) = options.store_or_temporary()?;
    create_if_missing(&dir, options)?;
    let (file, mut acked) = (dir.join("acked"), Acked::new());
    let mut rng = Rng::new(options.seed);
    for round in options.round..options.round + options.rounds {
        let child = spawn("torture-child", &dir, round, options)?;
        // Some are killed while they recover.
        let longest = if rng.next().is_multiple_of(4) {
            LONGEST / 10
        } else {
            LONGEST
        };
        let time = Duration::from_millis(below(rng.next(), longest));
        let printed = kill_after(child, time)?;
        acked.extend(parse(&printed));
        let lines = acked
            .iter()
            .map(|(client, sequence)| format!("{client} {sequence}\n"));
        fs::write(&file, lines.collect::<String>())?;
        let verified = spawn("torture-verify", &dir, round, options)?.wait()?;
        if !verified.success() {
            let seed = options.seed;
            return Err(
                format!("seed {seed}, round {round}: a promise is broken; see above").into(),
            );
        }
        let (seed, total) = (options.seed, acked.values().sum::<u64>());
        println!(
            "seed {seed} round {round}: killed after {time:?}; {total} transactions acknowledged by now, all there"
        );
    }
    println!("{} rounds, no promise broken", options.rounds);
    Ok(())
}

fn create_if_missing(dir: &Path, options: &Options) -> Result<()> {
    if files::exists(dir) {
        return Ok(());
    }
    let shape = Shape {
        page_size: options.page_size,
        segments: 6,
    };
    Files::create(dir, shape)
}

/// Little memory and many checkpoints, other ones in each round.
fn small(options: &Options) -> Config {
    let mut rng = Rng::new(options.seed ^ options.round << 20);
    Config {
        frames: 384 + usize::try_from(below(rng.next(), 400)).expect("small"),
        // A planted fault is to have many chances.
        checkpoint_after: match options.fault {
            None => (64 << 10) << below(rng.next(), 6),
            Some(_) => 32 << 10,
        },
        depth: 1 << below(rng.next(), 6),
        ..config(options)
    }
}

fn spawn(command: &str, dir: &Path, round: u64, options: &Options) -> Result<Child> {
    let mut child = Command::new(std::env::current_exe()?);
    child.arg(command).arg("--store").arg(dir);
    child.args([
        "--seed",
        &options.seed.to_string(),
        "--round",
        &round.to_string(),
    ]);
    child.args(["--driver", options.driver().name()]);
    child.arg("--acked").arg(dir.join("acked"));
    if let Some(fault) = options.fault_name() {
        child.args(["--break", fault]);
    }
    if options.atomic {
        child.arg("--atomic");
    }
    Ok(child.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
}

/// What the child has printed.
fn kill_after(mut child: Child, time: Duration) -> Result<String> {
    let output = child.stdout.take().expect("a pipe");
    let reader = thread::spawn(move || io::read_to_string(output));
    thread::sleep(time);
    let had_ended = child.try_wait()?;
    child.kill()?;
    child.wait()?;
    let printed = reader.join().expect("no panic")?;
    match had_ended {
        Some(status) => Err(format!("torture-child has ended by itself: {status}").into()),
        None => Ok(printed),
    }
}

/// The highest number of each client; what is no whole line was not acknowledged.
fn parse(printed: &str) -> Acked {
    let mut acked = Acked::new();
    let whole = printed.rfind('\n').map_or("", |end| &printed[..end]);
    for line in whole.lines() {
        let numbers: Vec<u64> = line
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        if let [client, sequence] = numbers[..] {
            note(&mut acked, client, sequence);
        }
    }
    acked
}

// ---- the child

/// Runs transactions until it is killed.
pub(crate) fn child(options: &Options) -> Result<()> {
    let dir = options.store()?;
    create_if_missing(dir, options)?;
    let rows = rows(dir, options)?;
    // What was under way when the last child ended and was not acknowledged may be there, and stays then.
    for client in 0..CLIENTS {
        say(&format!("{client} {}\n", sequence(&rows, client)));
    }
    let store = Store::open(dir, small(options))?;
    let acknowledged = |client, sequence| match sequence {
        Ok(sequence) => say(&format!("{client} {sequence}\n")),
        Err(error) => {
            eprintln!("pagestore: client {client}: {error}");
            exit(1);
        }
    };
    let clients = actors(options.seed, &rows, &acknowledged);
    options.driver().run(store, clients)?;
    Ok(())
}

/// One write, so that lines are whole whoever else prints.
fn say(line: &str) {
    if io::stdout().lock().write_all(line.as_bytes()).is_err() {
        exit(0); // nobody listens any more
    }
}

// ---- the verifier

/// Opens the store, with recovery, and compares it with what was acknowledged.
pub(crate) fn verify(options: &Options) -> Result<()> {
    let dir = options.store()?;
    let acked = match &options.acked {
        Some(file) => read_acked(file)?,
        None => return Err("say what was acknowledged: --acked FILE".into()),
    };
    let store = Store::open(dir, small(options))?;
    check::check(&store.files, &store.meta)?;
    drop(store);
    deed::verify(options.seed, &acked, &rows(dir, options)?)
}

fn read_acked(file: &Path) -> Result<Acked> {
    let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

/// All rows of the store.
fn rows(dir: &Path, options: &Options) -> Result<Rows> {
    let (sender, rows) = channel();
    let store = Store::open(dir, small(options))?;
    options
        .driver()
        .run(store, vec![Box::new(Reader::new(sender))])?;
    let parts: Result<Vec<Vec<Row>>, String> = rows.iter().collect();
    Ok(parts?.into_iter().flatten().collect())
}
