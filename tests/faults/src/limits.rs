//! Resource limits, for a child process: a limit lowered for one test would hold for all.

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

/// No write past `bytes` of any file: EFBIG. SIGXFSZ, whose default action kills the process that
/// submitted the write, is ignored.
///
/// # Panics
/// Outside a [`Child`](crate::Child).
pub fn limit_file_size(bytes: u64) {
    assert!(
        crate::child::inside(),
        "a limit holds for the whole process: use it in a child"
    );
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.expect("signal");
    setrlimit(Resource::RLIMIT_FSIZE, bytes, bytes).expect("setrlimit");
}

/// No descriptor above `count`: EMFILE.
///
/// # Panics
/// Outside a [`Child`](crate::Child).
pub fn limit_open_files(count: u64) {
    assert!(
        crate::child::inside(),
        "a limit holds for the whole process: use it in a child"
    );
    setrlimit(Resource::RLIMIT_NOFILE, count, count).expect("setrlimit");
}
