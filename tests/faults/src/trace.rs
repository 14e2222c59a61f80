//! Real partial submission by the submitting thread itself: a tracer that lowers `nr` at the entry of
//! `io_submit` (ptrace(2)). The child asks for four, the kernel takes two and says so.

use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options, regset::NT_PRSTATUS};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::child::{Child, Exit, kill_late};
use crate::seccomp::Filter;

/// One `io_submit` of a traced child: how many it asked for and how many the kernel was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission {
    /// `nr` as the child passed it.
    pub asked: i64,
    /// `nr` as the kernel saw it.
    pub passed: i64,
}

impl Child {
    /// As [`Child::run`], but each `io_submit` of the child, from any thread, goes to the kernel with
    /// `limit(nr)` in the place of `nr`. `limit` runs in the parent. The submissions are returned in order.
    ///
    /// # Panics
    /// As [`Child::run`]; also where ptrace is forbidden.
    pub fn run_limited(
        self,
        limit: impl FnMut(i64) -> i64 + Send,
        body: impl FnOnce(),
    ) -> (Exit, Vec<Submission>) {
        let mut seen = Vec::new();
        let body = || {
            // Stops the caller for the tracer at each io_submit and nowhere else.
            Filter::new()
                .answer(libc::SYS_io_submit, libc::SECCOMP_RET_TRACE)
                .install();
            body();
        };
        let exit = self.run_by(body, |command| {
            trace(
                command,
                Tracer {
                    limit,
                    seen: &mut seen,
                },
            )
        });
        (exit, seen)
    }
}

struct Tracer<'a, L> {
    limit: L,
    seen: &'a mut Vec<Submission>,
}

/// Starts the command traced and serves its stops until it has ended. A tracer is a thread, and waits for
/// all its children: so it is a thread of its own, which has no other.
fn trace<L: FnMut(i64) -> i64 + Send>(
    mut command: Command,
    mut tracer: Tracer<'_, L>,
) -> io::Result<ExitStatus> {
    // SAFETY: PTRACE_TRACEME is a system call and nothing else, hence async-signal-safe.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(io::Error::from)) };
    thread::scope(|scope| {
        let run = scope.spawn(move || {
            let child = command.spawn()?.id();
            let _watchdog = kill_late(child);
            tracer
                .serve(Pid::from_raw(child.cast_signed()))
                .map_err(io::Error::from)
        });
        run.join().expect("the tracer panicked")
    })
}

impl<L: FnMut(i64) -> i64> Tracer<'_, L> {
    fn serve(&mut self, child: Pid) -> nix::Result<ExitStatus> {
        // The stop at the end of execve(2), which a child that said TRACEME makes.
        waitpid(child, None)?;
        let options = Options::PTRACE_O_TRACESECCOMP
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(child, options)?;
        resume(child, None)?;
        let mut known = vec![child];
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD))? {
                WaitStatus::Exited(task, code) if task == child => {
                    return Ok(ExitStatus::from_raw(code << 8));
                }
                WaitStatus::Signaled(task, signal, _) if task == child => {
                    return Ok(ExitStatus::from_raw(signal as i32));
                }
                status => self.stop(status, &mut known)?,
            }
        }
    }

    fn stop(&mut self, status: WaitStatus, known: &mut Vec<Pid>) -> nix::Result<()> {
        match status {
            WaitStatus::PtraceEvent(task, _, libc::PTRACE_EVENT_SECCOMP) => {
                ignore_death(self.rewrite(task))?;
                resume(task, None)
            }
            WaitStatus::PtraceEvent(task, ..) => resume(task, None),
            // A new thread begins with a SIGSTOP that is ptrace's, not the program's.
            WaitStatus::Stopped(task, Signal::SIGSTOP) if !known.contains(&task) => {
                known.push(task);
                resume(task, None)
            }
            WaitStatus::Stopped(task, signal) => resume(task, signal),
            _ => Ok(()),
        }
    }

    fn rewrite(&mut self, task: Pid) -> nix::Result<()> {
        let mut registers = ptrace::getregset::<NT_PRSTATUS>(task)?;
        let nr = second_argument(&mut registers);
        let asked = nr.cast_signed();
        let passed = (self.limit)(asked);
        *nr = passed.cast_unsigned();
        self.seen.push(Submission { asked, passed });
        ptrace::setregset::<NT_PRSTATUS>(task, registers)
    }
}

fn second_argument(registers: &mut libc::user_regs_struct) -> &mut u64 {
    #[cfg(target_arch = "x86_64")]
    return &mut registers.rsi;
    #[cfg(target_arch = "aarch64")]
    return &mut registers.regs[1];
    #[cfg(target_arch = "riscv64")]
    return &mut registers.a1;
}

fn resume(task: Pid, signal: impl Into<Option<Signal>>) -> nix::Result<()> {
    ignore_death(ptrace::cont(task, signal))
}

/// A task can be killed while we look at it; the next wait tells.
fn ignore_death(result: nix::Result<()>) -> nix::Result<()> {
    match result {
        Err(Errno::ESRCH) => Ok(()),
        other => other,
    }
}
