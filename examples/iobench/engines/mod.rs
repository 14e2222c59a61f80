//! The ways to drive a file, one per module. To add one: its module, its line in [`ENGINES`], and how it is
//! drawn (`plot.rs`).

mod batch;
mod callback;
mod contexts;
mod flight;
mod future;
mod manual;
mod pread;
mod queue;
mod raw;
mod scope;
mod threads;
mod wait;

use std::io;
use std::sync::Arc;

use crate::job::{Checking, Job, Load};
use crate::options::Options;
use crate::target::Target;
use contexts::{count_syscalls, manual_contexts};
use threads::{on_threads, spawn};

/// One line of the table.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    /// For `--help`.
    pub(crate) about: &'static str,
    /// Whether it runs when nothing else is asked for.
    pub(crate) by_default: bool,
    /// Whether a loop keeps one request in flight, whatever `--depth` says.
    one_at_a_time: bool,
    /// Whether each request in flight has a thread.
    thread_per_request: bool,
    groups: Groups,
    /// Keeps requests in flight until the job enters `Phase::Stop`; returns when the last one is back.
    pub(crate) run: fn(&Arc<Job>) -> io::Result<()>,
}

/// How many submissions are collected before they leave.
#[derive(Clone, Copy, PartialEq)]
enum Groups {
    /// Its own affair.
    None,
    /// As `--group` says.
    One,
    /// The best of several.
    Best,
}

/// What `Groups::Best` tries, beside all that are ready.
const GROUPS: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// In the order in which they run and are shown.
pub(crate) static ENGINES: &[Engine] = &[
    Engine::new(
        "callback",
        "kiocb, each callback submits the next request",
        callback::on_its_thread,
    )
    .by_default(),
    Engine::new(
        "anywhere",
        "the same, callbacks on whichever thread finds the event",
        callback::anywhere,
    ),
    Engine::new(
        "manual",
        "the same, callbacks in a loop of the thread's own",
        manual::run,
    ),
    Engine::new(
        "queue",
        "the same loop, completions as values from a queue",
        queue::run,
    ),
    Engine::new(
        "future",
        "kiocb, one thread, a task per request; submits once a turn",
        future::together,
    ),
    Engine::new(
        "await",
        "the same, each task submits for itself",
        future::one_by_one,
    ),
    Engine::new(
        "batch",
        "kiocb, rounds: submit all in one call, wait for each",
        batch::run,
    ),
    Engine::new(
        "scope",
        "the same over borrowed memory, by read_many and write_many",
        scope::run,
    ),
    Engine::new(
        "wait",
        "kiocb, one blocking request at a time (depth 1)",
        wait::run,
    )
    .by_default()
    .one_at_a_time(),
    Engine::new(
        "raw",
        "system calls by hand, ring read in user space: the yardstick",
        raw::run,
    )
    .by_default()
    .grouped_by(Groups::One),
    Engine::new(
        "raw-best",
        "the best of raw with --group 1, 2, 4, 8, 16, 32 and all, each measured",
        raw::run,
    )
    .grouped_by(Groups::Best),
    Engine::new(
        "pread",
        "pread and pwrite, one thread per request in flight",
        pread::run,
    )
    .by_default()
    .thread_per_request(),
];

impl Engine {
    const fn new(
        name: &'static str,
        about: &'static str,
        run: fn(&Arc<Job>) -> io::Result<()>,
    ) -> Engine {
        Engine {
            name,
            about,
            by_default: false,
            one_at_a_time: false,
            thread_per_request: false,
            groups: Groups::None,
            run,
        }
    }

    const fn by_default(self) -> Engine {
        Engine {
            by_default: true,
            ..self
        }
    }

    const fn one_at_a_time(self) -> Engine {
        Engine {
            one_at_a_time: true,
            ..self
        }
    }

    const fn thread_per_request(self) -> Engine {
        Engine {
            thread_per_request: true,
            ..self
        }
    }

    const fn grouped_by(self, groups: Groups) -> Engine {
        Engine { groups, ..self }
    }

    pub(crate) fn named(name: &str) -> Option<&'static Engine> {
        ENGINES.iter().find(|engine| engine.name == name)
    }

    /// One run.
    pub(crate) fn job(&self, options: &Options, target: &Target, group: Option<usize>) -> Arc<Job> {
        Job::new(Load {
            file: Arc::clone(&target.file),
            length: target.length,
            rw: options.rw,
            bs: options.bs,
            depth: self.depth(options.depth),
            threads: options.threads,
            checking: match options.verify {
                true => Checking::OneIn(1),
                false => Checking::Nothing,
            },
            mark: target.mark,
            group,
        })
    }

    /// The depth that a loop of this engine really has.
    fn depth(&self, asked: usize) -> usize {
        if self.one_at_a_time { 1 } else { asked }
    }

    /// How many threads keep requests going.
    pub(crate) fn threads(&self, job: &Job) -> usize {
        match self.thread_per_request {
            true => job.threads * job.depth,
            false => job.threads,
        }
    }

    pub(crate) fn takes_group(&self) -> bool {
        self.groups == Groups::One
    }

    /// Whether it is several runs, the fastest of which counts.
    pub(crate) fn is_best_of_several(&self) -> bool {
        self.groups == Groups::Best
    }

    /// The group of each run; `None` is all that are ready.
    pub(crate) fn groups(&self, options: &Options) -> Vec<Option<usize>> {
        match self.groups {
            Groups::None => vec![None],
            Groups::One => vec![options.group],
            Groups::Best => {
                let smaller = GROUPS.into_iter().filter(|group| *group < options.depth);
                smaller.map(Some).chain([None]).collect()
            }
        }
    }
}
