//! Ctrl-C and its kin: the run is told and ends by itself, so that what it made can be undone.
//!
//! The signals are blocked in all threads but one, which waits for them. After the first one it takes them as
//! any program does: the second ends the process, even where an engine hangs.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use nix::sys::signal::{SigSet, Signal, raise};

use crate::Result;

/// What came; 0: nothing.
static CAME: AtomicI32 = AtomicI32::new(0);

/// To be called while there is one thread, which all others take their blocked signals from.
pub(crate) fn watch() -> Result<()> {
    let signals = awaited();
    signals.thread_block()?;
    // A write beyond RLIMIT_FSIZE is then EFBIG and not the end of the process.
    SigSet::from(Signal::SIGXFSZ).thread_block()?;
    let thread = std::thread::Builder::new().name("signals".into());
    thread
        .spawn(move || wait(&signals))
        .map_err(|error| cannot_watch(&error))?;
    Ok(())
}

fn cannot_watch(error: &io::Error) -> String {
    format!("no thread can be made: {error}; raise ulimit -u or ulimit -v")
}

fn wait(signals: &SigSet) {
    if let Ok(signal) = signals.wait() {
        // Relaxed: it guards no data.
        CAME.store(signal as i32, Relaxed);
        let _ = signals.thread_unblock();
        loop {
            std::thread::park();
        }
    }
}

/// Those that are not ignored, as `nohup` and a shell's `&` have it: a blocked one would come all the same.
fn awaited() -> SigSet {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let awaits = |signal: &Signal| ignored.unwrap_or(0) & (1 << (*signal as i32 - 1)) == 0;
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
    signals.into_iter().filter(awaits).collect()
}

pub(crate) fn came() -> bool {
    CAME.load(Relaxed) != 0
}

/// For loops that can be left.
pub(crate) fn check() -> Result<()> {
    if came() {
        return Err("interrupted".into());
    }
    Ok(())
}

/// Ends the process as the signal would have done, for the shell to see; returns where none came.
pub(crate) fn pass_on() {
    if let Ok(signal) = Signal::try_from(CAME.load(Relaxed)) {
        let _ = SigSet::from(signal).thread_unblock();
        let _ = raise(signal);
    }
}
