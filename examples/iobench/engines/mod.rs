//! The ways to drive a file, one per module. To add one: its module, and its line in [`ENGINES`].

mod callback;
mod pread;
mod raw;
mod wait;

use std::io;
use std::sync::Arc;

use crate::job::Job;

/// One line of the table.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    /// For `--help`.
    pub(crate) about: &'static str,
    /// Whether a loop keeps one request in flight, whatever `--depth` says.
    one_at_a_time: bool,
    /// Keeps requests in flight until the job enters `Phase::Stop`; returns when the last one is back.
    pub(crate) run: fn(&Arc<Job>) -> io::Result<()>,
}

/// In the order in which they run and are shown.
pub(crate) static ENGINES: &[Engine] = &[
    Engine {
        name: "callback",
        about: "kiocb, each callback submits the next request",
        one_at_a_time: false,
        run: callback::run,
    },
    Engine {
        name: "wait",
        about: "kiocb, one blocking request at a time (depth 1)",
        one_at_a_time: true,
        run: wait::run,
    },
    Engine {
        name: "raw",
        about: "system calls by hand, ring read in user space: the yardstick",
        one_at_a_time: false,
        run: raw::run,
    },
    Engine {
        name: "pread",
        about: "pread and pwrite, one thread per request in flight",
        one_at_a_time: false,
        run: pread::run,
    },
];

impl Engine {
    pub(crate) fn named(name: &str) -> Option<&'static Engine> {
        ENGINES.iter().find(|engine| engine.name == name)
    }

    /// The depth that a loop of this engine really has.
    pub(crate) fn depth(&self, asked: usize) -> usize {
        if self.one_at_a_time { 1 } else { asked }
    }
}

/// Runs `body` on `threads` threads, given their numbers, and waits for all; the first error is the result.
fn on_threads(threads: usize, body: impl Fn(usize) -> io::Result<()> + Sync) -> io::Result<()> {
    std::thread::scope(|scope| {
        let body = &body;
        let running: Vec<_> = (0..threads)
            .map(|index| scope.spawn(move || body(index)))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("a loop panicked"))
            .fold(Ok(()), Result::and)
    })
}

/// For kiocb's engines: the context counts its own system calls.
fn count_syscalls(job: &Job, aio: &kiocb::Aio) {
    let aio = aio.clone();
    job.count_syscalls_by(move || {
        let stats = aio.stats();
        stats.submits + stats.waits
    });
}
