//! `torture`: clients run transactions in a child process, which is killed at a random moment; then the store is
//! recovered, and has to have each acknowledged transaction, and none by half.
//!
//! The three commands are parts that other ways to crash can use: `torture-child` prints `client sequence` for each
//! transaction that the store has acknowledged, and `torture-verify` compares what was printed with the store.

use crate::command::{config, open};
use crate::deed::{CLIENTS, Deed, counter};
use crate::driver::Client;
use crate::files::{self, Config, Files, Shape};
use crate::options::Options;
use crate::rng::{Rng, below};
use crate::tree::Row;
use crate::tx::{self, Answer, Body, Reply};
use crate::{Result, check};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, exit};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

/// The last sequence number of each client.
type Acked = BTreeMap<u64, u64>;

/// Milliseconds after which a child is killed at the latest.
const LONGEST: u64 = 800;

/// Kills, recovers and verifies, round after round.
pub(crate) fn run(options: &Options) -> Result<()> {
    let temporary = tempfile::tempdir_in(std::env::current_dir()?)?;
    let dir = options
        .store
        .clone()
        .unwrap_or_else(|| temporary.path().join("store"));
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
            let last = acked.entry(client).or_default();
            *last = sequence.max(*last);
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
    let store = open(dir, small(options))?;
    let actor = |client| {
        let actor = Actor {
            deed: Deed {
                seed: options.seed,
                client,
                sequence: sequence(&rows, client),
            },
        };
        Box::new(actor) as Box<dyn Client>
    };
    options
        .driver()
        .run(store, (0..CLIENTS).map(actor).collect())?;
    Ok(())
}

struct Actor {
    deed: Deed,
}

impl Client for Actor {
    fn next(&mut self, answer: Option<Reply>) -> Option<Body> {
        let Deed {
            client, sequence, ..
        } = self.deed;
        match answer {
            Some(Err(error)) => {
                eprintln!("client {client}: {error}");
                exit(1);
            }
            // One write, so that lines are whole whoever else prints.
            Some(Ok(_)) => io::stdout()
                .lock()
                .write_all(format!("{client} {sequence}\n").as_bytes())
                .ok()?,
            None => {}
        }
        self.deed.sequence += 1;
        Some(self.deed.body())
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
    let store = open(dir, small(options))?;
    check::check(&store.files, &store.meta)?;
    drop(store);
    let rows = rows(dir, options)?;
    let mut expected = BTreeMap::new();
    for client in 0..CLIENTS {
        let (last, found) = (
            acked.get(&client).copied().unwrap_or(0),
            sequence(&rows, client),
        );
        if !(last..=last + 1).contains(&found) {
            return Err(format!(
                "client {client}: transaction {last} was acknowledged, and at most {} begun; the store has {found}",
                last + 1
            )
            .into());
        }
        let deed = Deed {
            seed: options.seed,
            client,
            sequence: found,
        };
        expected.append(&mut deed.state());
    }
    compare(&rows, &expected)
}

fn read_acked(file: &PathBuf) -> Result<Acked> {
    let text = BufReader::new(fs::File::open(file)?);
    let mut all = Acked::new();
    for line in text.split(b'\n') {
        let line = format!("{}\n", String::from_utf8_lossy(&line?));
        for (client, sequence) in parse(&line) {
            let last = all.entry(client).or_default();
            *last = sequence.max(*last);
        }
    }
    Ok(all)
}

fn compare(rows: &BTreeMap<Vec<u8>, Vec<u8>>, expected: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<()> {
    let text = |bytes: Option<&Vec<u8>>| match bytes {
        Some(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        None => "nothing".into(),
    };
    for key in rows.keys().chain(expected.keys()) {
        let (found, expected) = (rows.get(key), expected.get(key));
        if found != expected {
            return Err(format!(
                "a transaction is half there: key {} has {}, and not {}",
                text(Some(key)),
                text(found),
                text(expected)
            )
            .into());
        }
    }
    Ok(())
}

fn sequence(rows: &BTreeMap<Vec<u8>, Vec<u8>>, client: u64) -> u64 {
    let value = rows.get(&counter(client));
    let text = value.map(|value| String::from_utf8_lossy(value));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// All rows of the store.
fn rows(dir: &Path, options: &Options) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let (sender, rows) = channel();
    let reader = Reader {
        from: Vec::new(),
        rows: sender,
    };
    let store = open(dir, small(options))?;
    options.driver().run(store, vec![Box::new(reader)])?;
    let parts: Result<Vec<Vec<Row>>, String> = rows.iter().collect();
    Ok(parts?.into_iter().flatten().collect())
}

/// Reads the store from end to end.
struct Reader {
    from: Vec<u8>,
    rows: Sender<Result<Vec<Row>, String>>,
}

const AT_ONCE: usize = 200;

impl Client for Reader {
    fn next(&mut self, answer: Option<Reply>) -> Option<Body> {
        match answer {
            Some(Ok(Answer::Rows(rows))) => {
                let last = (rows.len() == AT_ONCE)
                    .then(|| rows.last().cloned())
                    .flatten();
                let _ = self.rows.send(Ok(rows));
                self.from = last?.0;
                self.from.push(0); // the next key that there can be
            }
            Some(Err(error)) => {
                let _ = self.rows.send(Err(error));
                return None;
            }
            _ => {}
        }
        Some(tx::scan(self.from.clone(), AT_ONCE))
    }
}
