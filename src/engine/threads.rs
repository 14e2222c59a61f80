//! Threads that the crate starts: all of them here, by one rule, but the one that opens a file for
//! `direct/probe` and ends.
//!
//! A thread inherits what every new thread does from the one that starts it: affinity, scheduling policy,
//! priority. The crate sets its signal mask: handlers of the program's signals run on the program's own
//! threads and interrupt those, not the crate's (I8). Signals that a thread raises itself by a fault stay
//! unblocked, and so does the profiler's. Then the user's hook runs, which may change all of this.

use crate::sync::{Builder, JoinHandle};
use crate::user_code;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use std::fmt;
use std::io;
use std::sync::Arc;

/// Never blocked: what a fault of the thread itself raises (a handler prints a stack overflow's message), and
/// what counts its processor time.
const OPEN: [Signal; 8] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGABRT,
    Signal::SIGPROF,
];

/// What each thread calls when it starts: the user's hook. Empty only while it is dropped.
#[derive(Clone)]
pub(crate) struct StartHook(Option<Arc<dyn Fn() + Send + Sync>>);

impl StartHook {
    pub(crate) fn new(hook: impl Fn() + Send + Sync + 'static) -> StartHook {
        StartHook(Some(Arc::new(hook)))
    }

    fn call(&self) {
        self.0.iter().for_each(|hook| hook());
    }
}

impl Drop for StartHook {
    /// The last one drops what the hook has captured: that is user code.
    fn drop(&mut self) {
        user_code::drop_value("dropping the hook on_thread_start", self.0.take());
    }
}

impl fmt::Debug for StartHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StartHook")
    }
}

/// Starts a thread for a context; `context` stands before what is logged of its hook.
pub(super) fn start(
    context: &str,
    name: &str,
    hook: Option<StartHook>,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let context = context.to_owned();
    let body = move || {
        user_code::adopt_thread();
        if let Some(hook) = hook {
            user_code::call_of(&context, "the hook on_thread_start", || hook.call());
        }
        body();
    };
    with_signals_blocked(|| Builder::new().name(name.to_owned()).spawn(body))
}

/// A new thread inherits the mask.
fn with_signals_blocked<R>(spawn: impl FnOnce() -> R) -> R {
    let mut blocked = SigSet::all();
    OPEN.into_iter().for_each(|signal| blocked.remove(signal));
    let mut before = SigSet::empty();
    let changed = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&blocked), Some(&mut before));
    let result = spawn();
    if changed.is_ok()
        && let Err(errno) = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)
    {
        user_code::error(format_args!("can't restore the signal mask: {errno}"));
    }
    result
}
