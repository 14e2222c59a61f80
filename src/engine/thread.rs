//! The completion thread: reap, dispatch, rest; and its beginning and end.

use super::Engine;
use super::reap::MOST;
use super::sleep::DISPATCHER;
use crate::error::SetupError;
use crate::sync::now;
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the thread stays in the kernel when nothing needs it any more, in case a callback is submitted
/// soon.
const LINGER: Duration = Duration::from_millis(10);

/// Starts the thread that runs the engine's callbacks. It keeps the engine alive, and ends when the engine is
/// finished.
pub(super) fn spawn(engine: Arc<Engine>, name: String) -> Result<JoinHandle<()>, SetupError> {
    let run = move || {
        engine.dispatcher.adopt();
        engine.run();
        engine.tear_down();
    };
    with_signals_blocked(|| std::thread::Builder::new().name(name).spawn(run))
        .map_err(SetupError::Thread)
}

/// A new thread inherits the mask: handlers of the program's signals never run on ours, and never interrupt
/// it.
fn with_signals_blocked<R>(spawn: impl FnOnce() -> R) -> R {
    let mut before = SigSet::empty();
    let blocked = pthread_sigmask(
        SigmaskHow::SIG_SETMASK,
        Some(&SigSet::all()),
        Some(&mut before),
    );
    let result = spawn();
    if blocked.is_ok()
        && let Err(errno) = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)
    {
        log::error!("can't restore the signal mask: {errno}");
    }
    result
}

impl Engine {
    pub(super) fn run(&self) {
        let mut fresh = false;
        while !self.is_finished() {
            if self.turn(usize::MAX) > 0 {
                fresh = true;
            } else if self.tally.needs_dispatcher() {
                self.rest(MOST, None);
            } else if std::mem::take(&mut fresh) {
                self.rest(MOST, Some(now() + LINGER));
            } else {
                self.rest_idle();
            }
        }
    }

    /// One round of the dispatcher, bringing at most `most` results: says how many it brought.
    pub(super) fn turn(&self, most: usize) -> usize {
        let inside = self.inbox.take(most);
        let delivered = inside.len();
        if delivered > 0 {
            self.dispatch(inside, DISPATCHER);
        }
        delivered + self.reap(DISPATCHER, (most - delivered).min(MOST))
    }
}
