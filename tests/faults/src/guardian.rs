//! A small process that undoes what would keep a dying test process alive for ever.
//!
//! A process that dies with AIO in flight waits for it, unkillable, before it closes its descriptors. If
//! the answer was to come from that very process (a file server in one of its threads, a thaw in a
//! destructor), it never comes. The guardian is another process: it sees that the test process is on its
//! way out, however that came (SIGKILL, abort, Ctrl-C), and acts in its stead.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid};

/// What to do with the guarded descriptor once the test process dies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LastAct {
    /// It is a FUSE connection's `abort` file: write to it.
    AbortFuse,
    /// It is the root of a frozen file system: thaw it.
    Thaw,
}

/// The guarding process; dismissed, without acting, when this is dropped.
#[derive(Debug)]
pub(crate) struct Guardian {
    process: Pid,
}

impl Guardian {
    /// Starts a guardian over `target`. When this returns it holds no other descriptor of ours.
    pub(crate) fn over(target: BorrowedFd<'_>, act: LastAct) -> io::Result<Guardian> {
        let stat = File::open(format!("/proc/{}/stat", std::process::id()))?;
        let (mut ready, ready_writer) = io::pipe()?;
        // SAFETY: the child calls nothing but async-signal-safe functions (fork(2), signal-safety(7)):
        // `guard` allocates nothing and takes no lock.
        match unsafe { nix::unistd::fork() }? {
            ForkResult::Child => guard(stat.as_raw_fd(), target.as_raw_fd(), act),
            ForkResult::Parent { child } => {
                drop(ready_writer);
                // End of file: the child has closed what it inherited.
                ready.read_to_end(&mut Vec::new())?;
                Ok(Guardian { process: child })
            }
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        let _ = kill(self.process, Signal::SIGKILL);
        let _ = waitpid(self.process, None);
    }
}

/// The guardian's whole life.
fn guard(stat: RawFd, target: RawFd, act: LastAct) -> ! {
    // SAFETY: plain system calls on descriptors this process owns; none keeps a pointer.
    unsafe {
        libc::setsid(); // so that Ctrl-C does not reach it
        close_all_but(stat, target);
        while alive(stat) {
            // The kernel tells nobody when a process begins to exit, so look now and then.
            libc::usleep(100_000);
        }
        match act {
            LastAct::AbortFuse => libc::write(target, b"1".as_ptr().cast(), 1),
            LastAct::Thaw => crate::freeze::thaw(target) as isize,
        };
        libc::_exit(0)
    }
}

/// # Safety
/// Closes every descriptor of the calling process but two: only for a process of our own making.
unsafe fn close_all_but(one: RawFd, other: RawFd) {
    let (low, high) = (i64::from(one.min(other)), i64::from(one.max(other)));
    for (first, last) in [
        (0, low - 1),
        (low + 1, high - 1),
        (high + 1, i64::from(u32::MAX)),
    ] {
        if first <= last {
            // SAFETY: the caller's promise.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_i64) };
        }
    }
}

/// False once the process whose `/proc/PID/stat` is open as `stat` has begun to exit, or has gone.
fn alive(stat: RawFd) -> bool {
    let mut text = [0_u8; 1024];
    // SAFETY: `text` is ours and as long as said.
    let got = unsafe { libc::pread(stat, text.as_mut_ptr().cast(), text.len(), 0) };
    usize::try_from(got).is_ok_and(|len| !exiting(&text[..len]))
}

/// Whether a line of `/proc/PID/stat` shows PF_EXITING in its ninth field; proc(5).
fn exiting(stat: &[u8]) -> bool {
    // A process that aborts waits for its threads before it counts as exiting: killed by a signal, or writing
    // its core.
    const PF_EXITING: u32 = 4;
    const PF_POSTCOREDUMP: u32 = 8;
    const PF_SIGNALED: u32 = 0x400;
    // The second field is the name in parentheses and may hold anything, spaces and parentheses included.
    let Some(name_end) = stat.iter().rposition(|&byte| byte == b')') else {
        return true;
    };
    let flags = stat[name_end..]
        .split(|&byte| byte == b' ')
        .nth(7)
        .unwrap_or_default();
    decimal(flags) & (PF_EXITING | PF_POSTCOREDUMP | PF_SIGNALED) != 0
}

/// Like `str::parse`, but certain not to allocate or lock.
fn decimal(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |sum: u32, digit| {
        sum.wrapping_mul(10)
            .wrapping_add(u32::from(digit.wrapping_sub(b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::exiting;

    #[test]
    fn the_ninth_field_is_found_behind_a_hostile_name() {
        assert!(!exiting(b"12 (a) b) R 1 2 3 4 5 4194304 0 0"));
        assert!(exiting(b"12 (a) b) Z 1 2 3 4 5 4194308 0 0"));
    }

    #[test]
    fn nonsense_counts_as_gone() {
        assert!(exiting(b""));
    }
}
