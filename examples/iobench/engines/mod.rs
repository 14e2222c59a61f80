//! The ways to drive a file, one per module. To add one: its module, its line in [`ENGINES`], and how it is
//! drawn (`plot.rs`).

mod batch;
mod callback;
mod flight;
mod future;
mod manual;
mod pread;
mod queue;
mod raw;
mod scope;
mod wait;

use std::io;
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};

use kiocb::{Aio, Dispatch};

use crate::job::Job;
use crate::options::Options;

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

    /// The depth that a loop of this engine really has.
    pub(crate) fn depth(&self, asked: usize) -> usize {
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

/// Runs `body` on `threads` threads, given their numbers, and waits for all; the first error is the result.
fn on_threads(threads: usize, body: impl Fn(usize) -> io::Result<()> + Sync) -> io::Result<()> {
    std::thread::scope(|scope| {
        let body = &body;
        let running: Vec<_> = (0..threads)
            .map(|index| spawn(scope, move || body(index)))
            .collect();
        running
            .into_iter()
            .map(|thread| thread?.join().expect("a loop panicked"))
            .fold(Ok(()), Result::and)
    })
}

/// A thread, or why there can be none.
fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    body: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    let spawned = thread::Builder::new().spawn_scoped(scope, body);
    spawned.map_err(|error| {
        let text = format!("no further thread can be made: {error}; lower --depth or --threads");
        io::Error::new(error.kind(), text)
    })
}

/// For loops that reap for themselves: a context for each, without a thread of its own.
fn manual_contexts(job: &Job) -> io::Result<Vec<Aio>> {
    let depth = u32::try_from(job.depth).map_err(io::Error::other)?;
    let builder = Aio::builder().depth(depth).dispatch(Dispatch::Manual);
    (0..job.threads).map(|_| builder.clone().build()).collect()
}

/// For kiocb's engines: the contexts count their own system calls.
fn count_syscalls(job: &Job, contexts: impl IntoIterator<Item = Aio>) {
    let contexts: Vec<Aio> = contexts.into_iter().collect();
    job.count_syscalls_by(move || {
        let stats = contexts.iter().map(Aio::stats);
        stats.map(|stats| stats.submits + stats.waits).sum()
    });
}
