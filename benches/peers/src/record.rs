//! Carries out a plan: the engines of a cell by turns, round after round, each slice in a process of its own,
//! and the medians at the end.

use std::env;
use std::fs::{self, File};
use std::io::{BufWriter, IsTerminal, Read, Write, stderr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Result;
use crate::busy::Busy;
use crate::machine;
use crate::plan::{Cell, Mode, Plan, Run};
use crate::row::{self, Row};
use crate::slice::{Figures, Slice};

/// A slice that takes longer than its time and this hangs.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Record {
    pub(crate) out: PathBuf,
    pub(crate) plan: Plan,
    pub(crate) rounds: usize,
    pub(crate) time: Duration,
}

impl Default for Record {
    fn default() -> Record {
        Record {
            out: PathBuf::new(),
            plan: Plan {
                mode: Mode::Table,
                media: Vec::new(),
                engines: Vec::new(),
                depths: Vec::new(),
                threads: Vec::new(),
                busy: 0,
            },
            rounds: 7,
            time: Duration::from_millis(50),
        }
    }
}

/// The file gets its name when it is complete.
pub(crate) fn run(record: &Record) -> Result<()> {
    let cells = record.plan.cells();
    let slices: usize = cells
        .iter()
        .map(|cell| cell.runs.len() * record.rounds)
        .sum();
    let unfinished = record.out.with_extension("unfinished");
    let mut out = BufWriter::new(File::create(&unfinished)?);
    write!(out, "{}", machine::about())?;
    let milliseconds = record.time.as_millis();
    writeln!(
        out,
        "# slices of {milliseconds} ms, {} rounds",
        record.rounds
    )?;
    writeln!(out, "{}", row::HEADING)?;
    let mut progress = Progress::new(slices);
    for cell in &cells {
        for row in measure(record, cell, &mut progress)? {
            writeln!(out, "{}", row.to_csv())?;
        }
    }
    writeln!(
        out,
        "# load average at the end: {}",
        machine::load_average()
    )?;
    out.flush()?;
    progress.end();
    fs::rename(&unfinished, &record.out)?;
    Ok(())
}

fn measure(record: &Record, cell: &Cell, progress: &mut Progress) -> Result<Vec<Row>> {
    let _busy = Busy::start(cell.busy).map_err(|error| format!("a busy task: {error}"))?;
    let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); cell.runs.len()];
    let mut failed = vec![false; cell.runs.len()];
    for _ in 0..record.rounds {
        for (number, run) in cell.runs.iter().enumerate() {
            progress.next(cell, *run);
            if failed[number] {
                continue;
            }
            match in_its_own_process(&slice(record, cell, *run)) {
                Ok(slice) => figures[number].push(slice),
                Err(error) => {
                    failed[number] = true;
                    progress.say(&format!("{}: left out: {error}", name(cell, *run)));
                }
            }
        }
    }
    let rows = cell.runs.iter().zip(&figures).zip(&failed);
    let rows = rows.filter(|(_, failed)| !**failed);
    Ok(rows
        .filter_map(|((run, figures), _)| Row::of(cell, *run, figures))
        .collect())
}

fn slice(record: &Record, cell: &Cell, run: Run) -> Slice {
    Slice {
        file: cell.file.clone(),
        depth: cell.depth,
        threads: cell.threads,
        group: run.group,
        time: record.time,
        buffered: cell.medium.ends_with("cached"),
        ..Slice::new(run.engine)
    }
}

fn in_its_own_process(slice: &Slice) -> Result<Figures> {
    let mut child = Command::new(env::current_exe()?)
        .args(slice.args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let ended = wait(&mut child, PATIENCE + slice.time);
    let (mut said, mut complained) = (String::new(), String::new());
    child
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut said)?;
    child
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut complained)?;
    match ended {
        true => said.parse().map_err(|_| complained.trim().into()),
        false => Err("it hung and was killed".into()),
    }
}

/// Whether it came to an end by itself.
fn wait(child: &mut Child, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

fn name(cell: &Cell, run: Run) -> String {
    let Cell {
        medium,
        depth,
        threads,
        ..
    } = cell;
    let group = run
        .group
        .map(|group| format!("/{group}"))
        .unwrap_or_default();
    format!(
        "{medium}, depth {depth}, threads {threads}: {}{group}",
        run.engine.name
    )
}

/// One line on stderr, overwritten; nothing where that is not a terminal, but for each cell's beginning.
struct Progress {
    started: Instant,
    done: usize,
    all: usize,
    shown: String,
}

impl Progress {
    fn new(all: usize) -> Progress {
        Progress {
            started: Instant::now(),
            done: 0,
            all,
            shown: String::new(),
        }
    }

    fn next(&mut self, cell: &Cell, run: Run) {
        let passed = self.started.elapsed().as_secs_f64();
        let left = passed / self.done.max(1) as f64 * (self.all - self.done) as f64;
        let share = 100 * self.done / self.all;
        let place = name(cell, run);
        self.done += 1;
        if stderr().is_terminal() {
            eprint!("\r\x1b[K{share:3} %, {left:.0} s left: {place}");
            return;
        }
        let place = place.split(':').next().unwrap_or_default();
        if self.shown != place {
            self.shown = place.to_owned();
            eprintln!("{share:3} %, {left:.0} s left: {place}");
        }
    }

    fn say(&self, line: &str) {
        let clear = if stderr().is_terminal() {
            "\r\x1b[K"
        } else {
            ""
        };
        eprintln!("{clear}{line}");
    }

    fn end(&self) {
        self.say(&format!(
            "{} slices in {:.0} s",
            self.done,
            self.started.elapsed().as_secs_f64()
        ));
    }
}
