//! A system call answered call by call: pass, fail, or, for `io_submit`, take only the first few.
//!
//! The kernel hands each call of a thread that has the filter to a supervising thread and lets the caller
//! wait for its answer (seccomp_unotify(2), Linux 5.19). The supervising thread is made before the filter,
//! so its own calls are not held up; it shares the address space and so can submit in the caller's name.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::mpsc;
use std::thread;

use crate::seccomp::Filter;

// linux/seccomp.h: _IOWR('!', 0, struct seccomp_notif) and _IOWR('!', 1, struct seccomp_notif_resp).
const NOTIF_RECV: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
const NOTIF_SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
const FLAG_CONTINUE: u32 = 1;

const _: () =
    assert!(size_of::<libc::seccomp_notif>() == 80 && size_of::<libc::seccomp_notif_resp>() == 24);

/// A system call that waits for its answer.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Call {
    /// How many were answered before it.
    pub index: usize,
    /// The thread that makes it.
    pub thread: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel carries it out.
    Pass,
    /// It returns this errno and the kernel does nothing.
    Fail(i32),
    /// It returns this number and the kernel does nothing.
    Return(i64),
    /// For `io_submit` alone: the kernel is given the first so many iocbs, and what it says is returned. A
    /// real partial submission, on any architecture; but the supervising thread is the submitter.
    Only(usize),
}

/// From now on `decide` answers every call of the system call `number` that this thread and the threads it
/// makes from now on carry out. For ever, hence only in a [`Child`](crate::Child).
///
/// # Errors
/// Linux before 5.19 (EINVAL), or a filter with a listener is there already (EBUSY).
///
/// # Panics
/// Outside a child process.
pub fn supervise(
    number: libc::c_long,
    decide: impl FnMut(&Call) -> Answer + Send + 'static,
) -> io::Result<()> {
    let (give, take) = mpsc::channel();
    // Made first, and so without the filter.
    thread::Builder::new()
        .name("supervisor".to_owned())
        .spawn(move || {
            if let Ok(listener) = take.recv() {
                serve(&listener, decide);
            }
        })?;
    let listener = Filter::new()
        .answer(number, libc::SECCOMP_RET_USER_NOTIF)
        .listen()?;
    give.send(listener)
        .map_err(|_| io::Error::other("the supervisor has gone"))
}

fn serve(listener: &OwnedFd, mut decide: impl FnMut(&Call) -> Answer) {
    for index in 0.. {
        let Ok(notif) = receive(listener) else { return };
        let call = Call {
            index,
            thread: notif.pid,
            arguments: notif.data.args,
        };
        let response = response(notif.id, &call, decide(&call));
        // SAFETY: the argument is a `struct seccomp_notif_resp`. ENOENT, the caller has died, is nothing to
        // us.
        unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw const response) };
    }
}

fn receive(listener: &OwnedFd) -> io::Result<libc::seccomp_notif> {
    loop {
        // SAFETY: a struct of integers, which the kernel demands to be all zero.
        let mut notif: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the argument is a `struct seccomp_notif` to be filled in.
        if unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut notif) } == 0 {
            return Ok(notif);
        }
        let error = io::Error::last_os_error();
        // ENOENT: the caller was killed or interrupted between.
        if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::ENOENT)) {
            return Err(error);
        }
    }
}

fn response(id: u64, call: &Call, answer: Answer) -> libc::seccomp_notif_resp {
    let (val, error, flags) = match answer {
        Answer::Pass => (0, 0, FLAG_CONTINUE),
        Answer::Fail(errno) => (0, -errno, 0),
        Answer::Return(value) => (value, 0, 0),
        Answer::Only(count) => match submit_first(call, count) {
            Ok(taken) => (taken, 0, 0),
            Err(error) => (0, -error.raw_os_error().unwrap_or(libc::EIO), 0),
        },
    };
    libc::seccomp_notif_resp {
        id,
        val,
        error,
        flags,
    }
}

/// The caller's `io_submit`, of its first `count` iocbs.
fn submit_first(call: &Call, count: usize) -> io::Result<i64> {
    let [context, asked, iocbs, ..] = call.arguments;
    let count = asked.min(count as u64);
    // SAFETY: the arguments are those of a call of this very process, whose caller waits in it and so keeps
    // what they point to.
    match unsafe { libc::syscall(libc::SYS_io_submit, context, count, iocbs) } {
        taken if taken >= 0 => Ok(taken),
        _ => Err(io::Error::last_os_error()),
    }
}
