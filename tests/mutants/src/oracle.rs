//! Programs that may notice a mutant.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::Result;

pub(crate) struct Oracle {
    pub(crate) name: String,
    /// The simulation is asked for seeds, the others for tests.
    pub(crate) seeds: Option<u64>,
    /// From here on the words of the command, from before it the variables of its environment.
    command: Vec<String>,
    variables: Vec<(String, String)>,
    folder: PathBuf,
}

/// How a run ended.
pub(crate) enum End {
    Passed,
    /// What said so.
    Failed(String),
}

/// What a run is for: the mutant that is on, and the file for what was reached.
#[derive(Default)]
pub(crate) struct Run<'a> {
    pub(crate) mutant: usize,
    pub(crate) reached: Option<&'a Path>,
    pub(crate) tests: &'a [&'a str],
    pub(crate) limit: Duration,
}

/// One line each: `NAME seeds=N|tests FOLDER [VARIABLE=VALUE…] COMMAND…`.
pub(crate) fn read(path: &Path) -> Result<Vec<Oracle>> {
    let text = fs::read_to_string(path)?;
    text.lines()
        .map(|line| parse(line).ok_or_else(|| format!("what is {line}?").into()))
        .collect()
}

fn parse(line: &str) -> Option<Oracle> {
    let mut words = line.split_whitespace().map(str::to_owned).peekable();
    let (name, kind, folder) = (words.next()?, words.next()?, words.next()?);
    let mut variables = Vec::new();
    while let Some((name, value)) = words.peek()?.split_once('=') {
        variables.push((name.to_owned(), value.to_owned()));
        words.next();
    }
    Some(Oracle {
        name,
        seeds: kind
            .strip_prefix("seeds=")
            .map(|seeds| seeds.parse().expect("a number of seeds")),
        command: words.collect(),
        variables,
        folder: folder.into(),
    })
}

impl Oracle {
    /// The names of its tests.
    pub(crate) fn tests(&self) -> Result<BTreeSet<String>> {
        let output = self
            .command(&[])
            .args(["--list", "--format", "terse"])
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        Ok(text
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .map(str::to_owned)
            .collect())
    }

    pub(crate) fn run(&self, run: &Run<'_>, scratch: &Path) -> Result<End> {
        fs::create_dir_all(scratch)?;
        let log = scratch.join("log");
        let mut command = self.command(run.tests);
        command
            .env("KIOCB_MUTANT", run.mutant.to_string())
            .env("TMPDIR", scratch);
        command.envs(run.reached.map(|path| ("KIOCB_MUTANTS_REACHED", path)));
        if let Some(seeds) = self.seeds {
            command.env("KIOCB_SEEDS", seeds.to_string());
        }
        command
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?);
        let status = within(command.process_group(0).spawn()?, run.limit)?;
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        fs::remove_dir_all(scratch).ok();
        Ok(match status {
            Some(status) if status.success() => End::Passed,
            status => End::Failed(reason(&text, status)),
        })
    }

    /// Tests are named in full. A mutant that takes all memory, or fills a disk, is stopped.
    fn command(&self, tests: &[&str]) -> Command {
        let mut command = Command::new("prlimit");
        command.args(["--as=6442450944", "--core=0", "--fsize=1073741824", "--"]);
        command
            .args(&self.command)
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder);
        if self.seeds.is_none() && !tests.is_empty() {
            command.arg("--exact").args(tests);
        }
        command
    }
}

/// Waits for it, and ends it with all that it has started. `None` is a run that took too long.
fn within(mut child: Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let group = Pid::from_raw(child.id().cast_signed());
    let end = Instant::now() + limit;
    let status = loop {
        match child.try_wait()? {
            None if Instant::now() < end => thread::sleep(Duration::from_millis(5)),
            status => break status,
        }
    };
    killpg(group, Signal::SIGKILL).ok(); // what a test has left behind, or all of it
    if status.is_none() {
        child.wait()?;
    }
    Ok(status)
}

/// The first test that failed, or the seed, or how it ended.
fn reason(log: &str, status: Option<ExitStatus>) -> String {
    let failed = log
        .lines()
        .find_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    let seed = log
        .lines()
        .find(|line| line.starts_with("seed ") && line.contains(" order "));
    match (failed, seed, status) {
        (_, Some(seed), _) => seed.split(" order").next().unwrap_or_default().to_owned(),
        (Some(test), ..) => test.to_owned(),
        (.., Some(status)) => status.to_string(),
        _ => "no end".to_owned(),
    }
}
