//! System calls that fail: seccomp filters for a child process.
//!
//! A filter cannot be taken off again, so [`Filter::install`] works only in a [`Child`](crate::Child).
//! [`supervise`](fn@crate::supervise) is the form that decides call by call.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use libc::{c_ulong, sock_filter};

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64
#[cfg(target_arch = "riscv64")]
const ARCH: u32 = 0xc000_00f3; // AUDIT_ARCH_RISCV64

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const JUMP_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Which system calls fail, and how.
#[derive(Clone, Debug)]
pub struct Filter {
    program: Vec<sock_filter>,
    /// What becomes of a call that no rule is about.
    otherwise: u32,
}

impl Filter {
    /// Lets everything through.
    #[expect(
        clippy::new_without_default,
        reason = "a filter without rules is a beginning, no default"
    )]
    pub fn new() -> Filter {
        let arch = std::mem::offset_of!(libc::seccomp_data, arch) as u32;
        // A call in another architecture's convention is nobody's in a test: let it through.
        let program = vec![
            op(LOAD, arch),
            jump(JUMP_EQUAL, ARCH, 1, 0),
            op(RETURN, libc::SECCOMP_RET_ALLOW),
        ];
        Filter {
            program,
            otherwise: libc::SECCOMP_RET_ALLOW,
        }
    }

    /// Lets these system calls through, by name and number; any other kills the process (SIGSYS).
    pub fn only(calls: &[(&str, libc::c_long)]) -> Filter {
        let allow = |filter: Filter, call: &(&str, libc::c_long)| {
            filter.answer(call.1, libc::SECCOMP_RET_ALLOW)
        };
        let mut filter = calls.iter().fold(Filter::new(), allow);
        filter.otherwise = libc::SECCOMP_RET_KILL_PROCESS;
        filter
    }

    /// The system call `number` (`libc::SYS_…`) fails with `errno`.
    #[must_use]
    pub fn fail(self, number: libc::c_long, errno: i32) -> Filter {
        self.answer(number, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())
    }

    /// The system call fails with `errno` when its argument (0 to 5), unsigned, is at least `least`.
    /// Those of smaller argument go to the rules added later.
    #[must_use]
    pub fn fail_from(
        mut self,
        number: libc::c_long,
        argument: usize,
        least: u32,
        errno: i32,
    ) -> Filter {
        let (low, high) = argument_halves(argument);
        self.program.extend([
            op(LOAD, NUMBER),
            jump(JUMP_EQUAL, number as u32, 0, 5),
            op(LOAD, high),
            jump(JUMP_ABOVE, 0, 2, 0),
            op(LOAD, low),
            jump(JUMP_AT_LEAST, least, 0, 1),
            op(RETURN, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()),
        ]);
        self
    }

    /// The system call kills the process: SIGSYS.
    #[must_use]
    pub fn kill(self, number: libc::c_long) -> Filter {
        self.answer(number, libc::SECCOMP_RET_KILL_PROCESS)
    }

    /// The filter's answer to a system call is `action`, a `SECCOMP_RET_…` with its data.
    pub(crate) fn answer(mut self, number: libc::c_long, action: u32) -> Filter {
        self.program.extend([
            op(LOAD, NUMBER),
            jump(JUMP_EQUAL, number as u32, 0, 1),
            op(RETURN, action),
        ]);
        self
    }

    /// Puts the filter on all threads of this process, for ever.
    ///
    /// # Panics
    /// Outside a child process, or if the kernel refuses.
    pub fn install(self) {
        let thread = self
            .apply(libc::SECCOMP_FILTER_FLAG_TSYNC)
            .expect("seccomp");
        assert_eq!(thread, 0, "thread {thread} has a filter of its own");
    }

    /// Puts it on this thread and those it will make; the descriptor speaks for its
    /// `SECCOMP_RET_USER_NOTIF`s, seccomp_unotify(2).
    pub(crate) fn listen(self) -> io::Result<OwnedFd> {
        // Once the supervisor has seen a call, no signal makes the caller give it up and make it anew: each
        // call is answered once. Linux 5.19.
        const WAIT_KILLABLE_RECV: c_ulong = 1 << 5;
        let fd = self.apply(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | WAIT_KILLABLE_RECV)?;
        // SAFETY: with that flag the call has just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    fn apply(mut self, flags: c_ulong) -> io::Result<i32> {
        assert!(
            crate::child::inside(),
            "a seccomp filter is for ever: use it in a child process"
        );
        self.program.push(op(RETURN, self.otherwise));
        let len = u16::try_from(self.program.len()).expect("fewer rules");
        let program = libc::sock_fprog {
            len,
            filter: self.program.as_mut_ptr(),
        };
        // SAFETY: prctl takes integers here; the program lives across the call, which copies it.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1_u64, 0_u64, 0_u64, 0_u64);
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(done as i32)
        }
    }
}

const NUMBER: u32 = std::mem::offset_of!(libc::seccomp_data, nr) as u32;

/// Where in `struct seccomp_data` the low and the high half of an argument lie.
fn argument_halves(argument: usize) -> (u32, u32) {
    assert!(argument < 6, "a system call has six arguments");
    let at = (std::mem::offset_of!(libc::seccomp_data, args) + 8 * argument) as u32;
    if cfg!(target_endian = "little") {
        (at, at + 4)
    } else {
        (at + 4, at)
    }
}

fn op(code: u16, k: u32) -> sock_filter {
    sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
