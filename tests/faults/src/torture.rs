//! Power cuts under a store that promises durability: transactions run until the power fails, and then each one
//! that was acknowledged has to be there, and none by half.
//!
//! The store is a program of its own (the example `pagestore`), with two commands. `torture-child` runs
//! transactions and prints `client sequence` for each that the store has acknowledged; `torture-verify` recovers
//! the store and compares it with what was printed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::random::Random;
use crate::volatile::VolatileFs;
use crate::watchdog::PATIENCE;

/// How the rounds are run.
#[derive(Clone, Debug)]
pub struct Torture {
    /// The store.
    pub program: PathBuf,
    /// Further words of both commands.
    pub arguments: Vec<String>,
    /// Decides when the power fails and what is lost.
    pub seed: u64,
    /// How many lines a child prints at most, which is how many transactions it may have acknowledged. A time would
    /// leave none of them on a busy machine.
    pub most_lines: usize,
    /// After so many rounds an empty disk takes the place of the old one.
    pub disk_every: u64,
}

/// The power fails so long after the last line at most.
const AFTER_A_LINE: Duration = Duration::from_millis(3);

/// Rounds that are under way.
#[derive(Debug)]
pub struct Rounds {
    torture: Torture,
    random: Random,
    round: u64,
    disk: Disk,
    /// How long the last child took until its first acknowledged transaction.
    beginning: Duration,
}

/// A disk with a store, and the last sequence number that each client was acknowledged on it.
#[derive(Debug)]
struct Disk {
    fs: VolatileFs,
    seed: u64,
    acknowledged: BTreeMap<u64, u64>,
    directory: tempfile::TempDir,
}

impl Torture {
    /// Makes the disk.
    ///
    /// # Errors
    /// Those of [`VolatileFs::new`] and of a temporary directory.
    pub fn start(self) -> io::Result<Rounds> {
        let mut random = Random(self.seed);
        let disk = Disk::new(random.next())?;
        Ok(Rounds {
            beginning: Duration::from_millis(50),
            torture: self,
            random,
            round: 0,
            disk,
        })
    }

    fn command(&self, command: &str, disk: &Disk, round: u64) -> Command {
        let mut program = Command::new(&self.program);
        program.arg(command).arg("--store").arg(disk.fs.path());
        program.args(["--seed", &disk.seed.to_string()]);
        program.args(["--round", &round.to_string()]);
        program.args(&self.arguments).stdin(Stdio::null());
        program
    }
}

impl Rounds {
    /// How many rounds were begun.
    pub fn begun(&self) -> u64 {
        self.round
    }

    /// How many transactions have been acknowledged on this disk.
    pub fn acknowledged(&self) -> u64 {
        self.disk.acknowledged.values().sum()
    }

    /// One round: transactions, a power cut, and the verdict.
    ///
    /// # Errors
    /// What the store has broken, in its own words; or a program that can't be run or does not end.
    pub fn next_round(&mut self) -> io::Result<()> {
        let round = self.round;
        if round > 0 && round.is_multiple_of(self.torture.disk_every) {
            self.disk = Disk::new(self.random.next())?;
        }
        self.round += 1;
        self.run_until_the_cut(round)?;
        self.disk.fs.restore();
        if self.disk.acknowledged.is_empty() {
            return Ok(()); // perhaps there is no store yet; the next child makes one, or goes on with it
        }
        self.verify(round)
    }

    fn run_until_the_cut(&mut self, round: u64) -> io::Result<()> {
        let mut command = self.torture.command("torture-child", &self.disk, round);
        let mut child = Running::start(&mut command)?;
        self.wait_for_the_moment(&child);
        let has_ended = child.process.try_wait()?;
        self.disk.fs.cut();
        let (printed, said) = child.kill()?;
        if let Some(status) = has_ended {
            let text = format!("torture-child has ended by itself: {status}\n{said}");
            return Err(io::Error::other(text));
        }
        acknowledge(&mut self.disk.acknowledged, &printed);
        Ok(())
    }

    /// Some children are cut while they recover, or make the store, and the others while they run transactions.
    fn wait_for_the_moment(&mut self, child: &Running) {
        let start = Instant::now();
        if self.random.roll(4) == 0 {
            thread::sleep(self.up_to(self.beginning));
            return;
        }
        let mut left = 1 + self.random.below(self.torture.most_lines);
        let mut is_first = true;
        while left > 0
            && let Ok(lines) = child.lines.recv_timeout(PATIENCE)
        {
            if std::mem::take(&mut is_first) {
                self.beginning = start.elapsed();
            }
            left = left.saturating_sub(lines);
        }
        thread::sleep(self.up_to(AFTER_A_LINE));
    }

    fn up_to(&mut self, longest: Duration) -> Duration {
        let micros = usize::try_from(longest.as_micros()).expect("less than hours");
        Duration::from_micros(self.random.below(micros + 1) as u64)
    }

    fn verify(&self, round: u64) -> io::Result<()> {
        let file = self.disk.directory.path().join("acknowledged");
        let acknowledged = self.disk.acknowledged.iter();
        let lines = acknowledged.map(|(client, sequence)| format!("{client} {sequence}\n"));
        fs::write(&file, lines.collect::<String>())?;
        let mut command = self.torture.command("torture-verify", &self.disk, round);
        let child = Running::start(command.arg("--acked").arg(&file))?;
        child.succeed()
    }
}

impl Disk {
    fn new(seed: u64) -> io::Result<Disk> {
        Ok(Disk {
            fs: VolatileFs::new(seed)?,
            seed,
            acknowledged: BTreeMap::new(),
            directory: tempfile::tempdir()?,
        })
    }
}

/// Takes over what a child has printed. What is no whole line was not acknowledged.
fn acknowledge(acknowledged: &mut BTreeMap<u64, u64>, printed: &str) {
    let whole = printed.rfind('\n').map_or("", |end| &printed[..end]);
    for line in whole.lines() {
        let mut numbers = line.split(' ').map(|word| word.parse().ok());
        if let (Some(Some(client)), Some(Some(sequence))) = (numbers.next(), numbers.next()) {
            let last = acknowledged.entry(client).or_default();
            *last = sequence.max(*last);
        }
    }
}

/// A program that runs, and the threads that read what it prints and says.
struct Running {
    process: Child,
    /// How many lines it has printed, part by part.
    lines: Receiver<usize>,
    printed: JoinHandle<io::Result<String>>,
    said: JoinHandle<io::Result<String>>,
}

impl Running {
    fn start(command: &mut Command) -> io::Result<Running> {
        let name = Path::new(command.get_program()).display().to_string();
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = child
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
        let (out, err) = (process.stdout.take(), process.stderr.take());
        let (sender, lines) = channel();
        Ok(Running {
            process,
            lines,
            printed: read(out.expect("a pipe"), Some(sender)),
            said: read(err.expect("a pipe"), None),
        })
    }

    fn kill(mut self) -> io::Result<(String, String)> {
        self.process.kill()?;
        self.process.wait()?;
        self.words()
    }

    fn words(self) -> io::Result<(String, String)> {
        let printed = self.printed.join().expect("no panic")?;
        Ok((printed, self.said.join().expect("no panic")?))
    }

    /// Waits until it has ended, and is content only with 0.
    fn succeed(mut self) -> io::Result<()> {
        let start = Instant::now();
        let status = loop {
            match self.process.try_wait()? {
                Some(status) => break status,
                None if start.elapsed() > PATIENCE => {
                    self.kill()?;
                    return Err(io::Error::other("torture-verify does not end"));
                }
                None => thread::sleep(Duration::from_micros(500)),
            }
        };
        let (printed, said) = self.words()?;
        if status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "torture-verify: {status}\n{printed}{said}"
        )))
    }
}

/// Reads to the end, and tells how many lines have come.
fn read(
    mut pipe: impl Read + Send + 'static,
    lines: Option<Sender<usize>>,
) -> JoinHandle<io::Result<String>> {
    thread::spawn(move || {
        let (mut text, mut part) = (Vec::new(), [0; 4096]);
        loop {
            let count = pipe.read(&mut part)?;
            if count == 0 {
                return Ok(String::from_utf8_lossy(&text).into_owned());
            }
            text.extend_from_slice(&part[..count]);
            if let Some(lines) = &lines {
                let ends = part[..count].iter().filter(|&&byte| byte == b'\n');
                let _ = lines.send(ends.count());
            }
        }
    })
}
