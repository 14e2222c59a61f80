//! Seeing that a thread is asleep in a system call, where nothing tells.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::watchdog::PATIENCE;

/// The calling thread's number, for [`wait_until_asleep_in`].
pub fn thread_id() -> i32 {
    nix::unistd::gettid().as_raw()
}

/// Waits until the thread of this process sleeps inside the system call `number` (`libc::SYS_…`). It says
/// nothing about how long it will: a thread that nobody can wake stays there.
///
/// # Panics
/// When that does not happen within the lab's patience.
pub fn wait_until_asleep_in(thread: i32, number: libc::c_long) {
    let end = Instant::now() + PATIENCE;
    while !is_asleep_in(thread, number) {
        assert!(
            Instant::now() < end,
            "thread {thread} does not sleep in system call {number}"
        );
        thread::sleep(Duration::from_millis(1)); // proc(5) cannot be waited for
    }
}

/// Whether it sleeps there at this moment.
pub fn is_asleep_in(thread: i32, number: libc::c_long) -> bool {
    // The first word is the call's number, or "running" for a thread that is not asleep; proc(5).
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).unwrap_or_default();
    text.split(' ').next() == Some(&number.to_string())
}
