//! Which engines run where: the cells of a record.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::engines::{ENGINES, Engine};

/// What is asked of the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    /// Every engine, by medium, depth and threads.
    Table,
    /// 64 clients, as one loop and as 64 threads, beside busy tasks.
    Contention,
    /// Threads that each wait for their own block.
    Readers,
    /// Threads that each keep many requests in flight, on one context and on one for each.
    Submitters,
}

pub(crate) struct Plan {
    pub(crate) mode: Mode,
    /// Names and files.
    pub(crate) media: Vec<(String, PathBuf)>,
    /// Empty: those of the mode. So are the next two.
    pub(crate) engines: Vec<&'static Engine>,
    pub(crate) depths: Vec<usize>,
    pub(crate) threads: Vec<usize>,
    /// How many busy tasks the mode `contention` has.
    pub(crate) busy: usize,
}

/// What is measured in turns, so that all of it has the same mood of the machine.
pub(crate) struct Cell {
    pub(crate) medium: String,
    pub(crate) file: PathBuf,
    pub(crate) depth: usize,
    pub(crate) threads: usize,
    /// Tasks that keep the processors busy meanwhile.
    pub(crate) busy: usize,
    pub(crate) runs: Vec<Run>,
}

#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) engine: &'static Engine,
    pub(crate) group: Option<usize>,
}

/// A cell without its medium.
#[derive(Clone, Copy)]
struct Shape {
    depth: usize,
    threads: usize,
    busy: usize,
    engines: &'static [&'static str],
}

const CLIENTS: usize = 64;
const TABLE: &[&str] = &[
    "raw",
    "callback",
    "manual",
    "future",
    "await",
    "batch",
    "wait",
    "io-uring",
    "tokio-uring",
    "compio",
    "linux-aio-tokio",
    "vmm-sys-util",
    "tokio::fs",
    "pread",
];
const ONE_LOOP: &[&str] = &["raw", "callback", "manual", "io-uring"];
const A_THREAD_EACH: &[&str] = &["raw", "wait", "read_at", "pread"];
const READERS: &[&str] = &["raw", "read_at", "wait", "pread"];
const SUBMITTERS: &[&str] = &["raw", "batch", "batch on one context"];

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        match text {
            "table" => Ok(Mode::Table),
            "contention" => Ok(Mode::Contention),
            "readers" => Ok(Mode::Readers),
            "submitters" => Ok(Mode::Submitters),
            other => Err(format!(
                "{other}: the modes are table, contention, readers, submitters"
            )),
        }
    }
}

impl Shape {
    const fn idle(depth: usize, threads: usize, engines: &'static [&'static str]) -> Shape {
        Shape {
            depth,
            threads,
            busy: 0,
            engines,
        }
    }
}

impl Plan {
    pub(crate) fn cells(&self) -> Vec<Cell> {
        let media = self.media.iter();
        media
            .flat_map(|(name, file)| self.cells_of(name, file))
            .collect()
    }

    fn cells_of(&self, name: &str, file: &Path) -> Vec<Cell> {
        let shapes = self.shapes().into_iter();
        let cells = shapes.map(|shape| Cell {
            medium: match shape.busy {
                0 => name.to_owned(),
                busy => format!("{name} beside {busy} tasks"),
            },
            file: file.to_owned(),
            depth: shape.depth,
            threads: shape.threads,
            busy: shape.busy,
            runs: self.runs(shape.engines, shape.depth),
        });
        cells.filter(|cell| !cell.runs.is_empty()).collect()
    }

    fn shapes(&self) -> Vec<Shape> {
        match self.mode {
            Mode::Table => {
                let depths = or(&self.depths, &[1, 8, 32, 128, 512]);
                let threads = or(&self.threads, &[1, 2]).into_iter();
                threads
                    .flat_map(|threads| {
                        let depths = depths.iter();
                        depths.map(move |&depth| Shape::idle(depth, threads, TABLE))
                    })
                    .collect()
            }
            Mode::Contention => {
                let clients = [
                    Shape::idle(CLIENTS, 1, ONE_LOOP),
                    Shape::idle(1, CLIENTS, A_THREAD_EACH),
                ];
                let beside = |busy| clients.map(|shape| Shape { busy, ..shape });
                [beside(0), beside(self.busy)].concat()
            }
            Mode::Readers => self.by_threads(&[1, 2, 8, 32], 1, READERS),
            Mode::Submitters => self.by_threads(&[1, 2, 8], 32, SUBMITTERS),
        }
    }

    fn by_threads(
        &self,
        usual: &[usize],
        depth: usize,
        engines: &'static [&'static str],
    ) -> Vec<Shape> {
        let threads = or(&self.threads, usual).into_iter();
        threads
            .map(|threads| Shape::idle(depth, threads, engines))
            .collect()
    }

    fn runs(&self, engines: &[&str], depth: usize) -> Vec<Run> {
        let known = ENGINES
            .iter()
            .filter(|engine| engines.contains(&engine.name));
        known
            .filter(|engine| !engine.one_at_a_time || depth == 1)
            .filter(|engine| self.is_wanted(engine))
            .flat_map(|engine| {
                let groups = self.groups(engine, depth).into_iter();
                groups.map(move |group| Run { engine, group })
            })
            .collect()
    }

    /// Only in the table is the best group looked for.
    fn groups(&self, engine: &Engine, depth: usize) -> Vec<Option<usize>> {
        match self.mode {
            Mode::Table => engine.groups(depth),
            Mode::Contention | Mode::Readers | Mode::Submitters => vec![None],
        }
    }

    /// The yardstick always is.
    fn is_wanted(&self, engine: &Engine) -> bool {
        let mut wanted = self.engines.iter();
        self.engines.is_empty()
            || engine.name == "raw"
            || wanted.any(|other| other.name == engine.name)
    }
}

fn or(chosen: &[usize], usual: &[usize]) -> Vec<usize> {
    if chosen.is_empty() { usual } else { chosen }.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(mode: Mode) -> Plan {
        Plan {
            mode,
            media: vec![("a".into(), "a".into()), ("b".into(), "b".into())],
            engines: vec![],
            depths: vec![],
            threads: vec![],
            busy: 20,
        }
    }

    #[test]
    fn the_table_has_each_medium_depth_and_number_of_threads() {
        assert_eq!(plan(Mode::Table).cells().len(), 2 * 5 * 2);
    }

    #[test]
    fn contention_is_measured_with_and_without_busy_tasks() {
        let cells = plan(Mode::Contention).cells();
        let busy: Vec<_> = cells.iter().map(|cell| cell.busy).collect();
        assert_eq!(busy, [0, 0, 20, 20, 0, 0, 20, 20]);
        assert_eq!(cells[0].medium, "a");
        assert_eq!(cells[2].medium, "a beside 20 tasks");
    }

    #[test]
    fn every_engine_that_a_mode_names_is_there() {
        let names = [TABLE, ONE_LOOP, A_THREAD_EACH, READERS, SUBMITTERS].concat();
        for name in names {
            assert!(Engine::named(name).is_some(), "{name}");
        }
    }

    #[test]
    fn one_request_at_a_time_is_for_depth_one() {
        for cell in plan(Mode::Table).cells() {
            let waits = cell.runs.iter().any(|run| run.engine.name == "wait");
            assert_eq!(waits, cell.depth == 1, "depth {}", cell.depth);
        }
    }

    #[test]
    fn the_yardstick_is_tried_with_every_group_below_the_depth() {
        let engine = Engine::named("raw").unwrap();
        assert_eq!(engine.groups(1), [None]);
        assert_eq!(engine.groups(8), [Some(1), Some(2), Some(4), None]);
        assert_eq!(engine.groups(512).len(), 7);
    }

    #[test]
    fn a_choice_of_engines_keeps_the_yardstick() {
        let mut plan = plan(Mode::Table);
        plan.engines = vec![Engine::named("compio").unwrap()];
        plan.depths = vec![1];
        let names = |cell: &Cell| {
            cell.runs
                .iter()
                .map(|run| run.engine.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&plan.cells()[0]), ["raw", "compio"]);
    }
}
