//! Bounded waits: a test that hangs says where, and ends.

use std::io::{self, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long anything in the lab waits before it calls a test hung. Far above what any step takes: it is
/// no assertion about speed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Acts when it is not dropped in time.
#[derive(Debug)]
#[must_use = "a watchdog watches until it is dropped"]
pub struct Watchdog {
    calm: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Ends the whole test process after [`PATIENCE`], naming `what` hung. The threads that hang may sit
    /// in the kernel, where no panic reaches them; the guardians of this lab's file systems set them free.
    pub fn new(what: &str) -> Watchdog {
        let what = what.to_owned();
        Watchdog::with(PATIENCE, move || {
            let _ = writeln!(
                io::stderr(),
                "watchdog: {what}: still not done after {PATIENCE:?}"
            );
            std::process::abort();
        })
    }

    /// Calls `act` after `limit`, once, on a thread of its own.
    pub fn with(limit: Duration, act: impl FnOnce() + Send + 'static) -> Watchdog {
        let (calm, alarm) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            if alarm.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                act();
            }
        });
        Watchdog {
            calm: Some(calm),
            thread: Some(thread),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.calm.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
