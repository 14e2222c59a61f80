//! Resource limits, for a child process: a limit lowered for one test would hold for all.

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{Gid, Uid, setgid, setuid};

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

/// This process becomes the user nobody's, which may have so many threads, in all its processes together, and
/// no privilege to have more: EAGAIN.
///
/// # Panics
/// Outside a [`Child`](crate::Child), or without root's rights.
pub fn limit_threads_of_nobody(count: u64) {
    const NOBODY: u32 = 65_534;
    assert!(
        crate::child::inside(),
        "a user is changed for good: do it in a child"
    );
    setrlimit(Resource::RLIMIT_NPROC, count, count).expect("setrlimit");
    setgid(Gid::from_raw(NOBODY)).expect("setgid");
    setuid(Uid::from_raw(NOBODY)).expect("setuid");
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
