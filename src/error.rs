//! What can go wrong, as types: a context that can't be made, an engine that takes no requests, a request
//! that comes back.

use std::error::Error;
use std::fmt;
use std::io;

/// Why a context could not be made. Found inside the [`io::Error`] of [`Aio::global`](crate::Aio::global) and
/// [`AioBuilder::build`](crate::AioBuilder::build):
///
/// ```
/// use kiocb::{Aio, SetupError};
///
/// if let Err(error) = Aio::global() {
///     match error.get_ref().and_then(|inner| inner.downcast_ref()) {
///         Some(SetupError::QuotaExhausted { asked, .. }) => println!("no room for {asked} requests"),
///         Some(SetupError::Unsupported { .. } | SetupError::Refused { .. }) => println!("use threads and pread here"),
///         _ => println!("{error}"),
///     }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum SetupError {
    /// A system call that kernel AIO needs does not exist here: ENOSYS or EOPNOTSUPP. The kernel was built
    /// without `CONFIG_AIO`, or a sandbox or an emulator (qemu-user, Rosetta, FEX) does not have the call.
    Unsupported {
        /// The call's name: `io_setup`, `io_submit`, `io_getevents` or `io_destroy`.
        call: &'static str,
        /// What it returned.
        errno: i32,
    },
    /// A system call that kernel AIO needs is forbidden here: EPERM or EACCES. A seccomp filter refuses it.
    Refused {
        /// The call's name: `io_setup`, `io_submit`, `io_getevents` or `io_destroy`.
        call: &'static str,
        /// What it returned.
        errno: i32,
    },
    /// `io_setup`: EAGAIN, even for the smallest context, or for one whose depth was to be
    /// [exact](crate::AioBuilder::exact_depth). The limit is for the whole machine, containers included.
    QuotaExhausted {
        /// Requests in flight that were asked for at first ([`AioBuilder::depth`](crate::AioBuilder::depth)).
        asked: u32,
        /// `/proc/sys/fs/aio-nr`: what all contexts of the machine have asked for; `None` where it can't be
        /// read.
        in_use: Option<u64>,
        /// `/proc/sys/fs/aio-max-nr`: the limit of that sum.
        max: Option<u64>,
    },
    /// `io_setup`: ENOMEM. The ring did not fit: in `RLIMIT_AS`, or, in a process that has called
    /// `mlockall(MCL_FUTURE)`, in `RLIMIT_MEMLOCK`.
    NoMemory,
    /// A depth of 0, or of more than 65535.
    InvalidDepth(u32),
    /// More shards than there is memory to list them in.
    TooManyShards(usize),
    /// The completion thread could not be started: EAGAIN where `RLIMIT_NPROC`, the control group's
    /// `pids.max` or `kernel.threads-max` is reached, ENOMEM where its stack does not fit in `RLIMIT_AS`,
    /// EINVAL after `unshare(CLONE_NEWPID)`. [`Dispatch::Manual`](crate::Dispatch::Manual) needs no thread.
    /// The error inside is the [`source`](Error::source).
    Thread(io::Error),
    /// Anything else, of any system call: for example EMFILE, no descriptor for `memfd_create`.
    Other {
        /// The call's name.
        call: &'static str,
        /// The error that the call returned. The [`source`](Error::source) is this error, and the text of
        /// `SetupError` does not repeat it.
        error: io::Error,
    },
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::Unsupported { call, errno } => write!(f, "there is no kernel AIO here ({call}: {}): the kernel was built without CONFIG_AIO, or a sandbox or an emulator (qemu-user, Rosetta, FEX) does not have this call", name_of(*errno)),
            SetupError::Refused { call, errno } => write!(f, "kernel AIO is not permitted here ({call}: {}): a seccomp filter refuses the call; allow io_setup, io_submit, io_getevents and io_destroy in its profile", name_of(*errno)),
            SetupError::QuotaExhausted { asked, in_use, max } => exhausted(f, *asked, *in_use, *max),
            SetupError::NoMemory => f.write_str("no memory for an AIO ring (io_setup: ENOMEM): RLIMIT_AS (ulimit -v) is too small, or after mlockall(MCL_FUTURE) RLIMIT_MEMLOCK (ulimit -l)"),
            SetupError::InvalidDepth(depth) => write!(f, "a depth of {depth} is not possible: choose 1 to 65535"),
            SetupError::TooManyShards(count) => write!(f, "{count} shards are not possible: choose as many as there are submitting threads"),
            SetupError::Thread(error) => no_thread(f, errno_of(error)),
            SetupError::Other { call, .. } => write!(f, "can't set up kernel AIO: {call} failed"),
        }
    }
}

fn exhausted(
    f: &mut fmt::Formatter<'_>,
    asked: u32,
    in_use: Option<u64>,
    max: Option<u64>,
) -> fmt::Result {
    let number =
        |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
    write!(
        f,
        "fs.aio-max-nr is {} and {} are in use: no room for a context (io_setup: EAGAIN; asked for {asked} requests in flight); \
         raise it with `sysctl fs.aio-max-nr=1048576`, or close what holds them (the limit is shared by all containers of the machine)",
        number(max),
        number(in_use)
    )
}

/// What to look at when the system has no thread for us.
fn no_thread(f: &mut fmt::Formatter<'_>, errno: Option<i32>) -> fmt::Result {
    let reason = match errno {
        Some(libc::EAGAIN) => {
            "EAGAIN: RLIMIT_NPROC (ulimit -u), the control group's pids.max or kernel.threads-max is reached"
        }
        Some(libc::ENOMEM) => "ENOMEM: its stack does not fit in RLIMIT_AS (ulimit -v)",
        Some(libc::EINVAL) => "EINVAL: after unshare(CLONE_NEWPID) a process can start no threads",
        _ => "see the source of this error",
    };
    write!(
        f,
        "the completion thread could not be started ({reason}); Dispatch::Manual needs none"
    )
}

/// The errnos with which a call is refused, by name.
fn name_of(errno: i32) -> &'static str {
    match errno {
        libc::ENOSYS => "ENOSYS",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::EACCES => "EACCES",
        _ => "EPERM",
    }
}

impl SetupError {
    /// The errno of the system call that failed; `None` where none was made.
    pub fn errno(&self) -> Option<i32> {
        match self {
            SetupError::Unsupported { errno, .. } | SetupError::Refused { errno, .. } => {
                Some(*errno)
            }
            SetupError::QuotaExhausted { .. } => Some(libc::EAGAIN),
            SetupError::NoMemory => Some(libc::ENOMEM),
            SetupError::InvalidDepth(_) | SetupError::TooManyShards(_) => None,
            SetupError::Thread(error) | SetupError::Other { error, .. } => errno_of(error),
        }
    }
}

impl Error for SetupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SetupError::Thread(error) | SetupError::Other { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<SetupError> for io::Error {
    fn from(error: SetupError) -> io::Error {
        let kind = match &error {
            SetupError::Unsupported { .. } => io::ErrorKind::Unsupported,
            SetupError::Refused { .. } => io::ErrorKind::PermissionDenied,
            SetupError::QuotaExhausted { .. } => io::ErrorKind::QuotaExceeded,
            SetupError::NoMemory => io::ErrorKind::OutOfMemory,
            SetupError::InvalidDepth(_) | SetupError::TooManyShards(_) => {
                io::ErrorKind::InvalidInput
            }
            SetupError::Thread(error) | SetupError::Other { error, .. } => error.kind(),
        };
        io::Error::new(kind, error)
    }
}

/// Why a handle can't do what it was asked to. Found inside an [`io::Error`], as [`SetupError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AioError {
    /// [`Aio::shutdown`](crate::Aio::shutdown) was called: no new requests.
    ShutDown,
    /// This process is a forked child of the one that made the context. A context of its own works:
    /// [`AioBuilder::build`](crate::AioBuilder::build).
    Forked,
    /// No event can come from the kernel context any more: something in this process destroyed it or wrote to its
    /// ring, or a filter that was installed later refuses `io_getevents`. What was in flight never completes.
    ContextGone,
    /// `io_submit` returned EAGAIN again and again with nothing in flight: the kernel has no memory for
    /// requests. Try later.
    Stalled,
    /// The request was in a [`Batch`](crate::Batch) that was not submitted, and has been taken out of it:
    /// submit the batch before waiting. Or it stood behind a refused one in a batch that
    /// [stops there](crate::Batch::submit_until_refused).
    NotSubmitted,
    /// The call was made inside user code (a callback, a waker, a destructor, a logger) of this or another
    /// context, and would wait for that very code. Make it on another thread.
    WouldDeadlock,
    /// The call is for [`Dispatch::Manual`](crate::Dispatch::Manual) only.
    NotManual,
    /// The time given to [`Aio::drain_timeout`](crate::Aio::drain_timeout) or
    /// [`Aio::shutdown`](crate::Aio::shutdown) is over, and requests are still outstanding. After `shutdown`
    /// they go on in the background; what they own stays alive until they are complete.
    TimedOut,
}

impl fmt::Display for AioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AioError::ShutDown => "this Aio was shut down: it takes no new requests",
            AioError::Forked => "this Aio belongs to the parent process: after fork, build a context of your own",
            AioError::ContextGone => "the kernel AIO context is gone: something in this process destroyed it",
            AioError::Stalled => "io_submit returns EAGAIN again and again with nothing in flight: the kernel has no memory for requests, try again later",
            AioError::NotSubmitted => "the request was not submitted with its batch: submit the batch before you wait for its handles, and look for an earlier request that was refused",
            AioError::WouldDeadlock => "called inside a callback, a waker, a destructor or a logger, this would wait for that code itself: call it on another thread",
            AioError::NotManual => "only an Aio that was built with Dispatch::Manual can be polled: this one has a completion thread",
            AioError::TimedOut => "the time is over and requests are still outstanding",
        })
    }
}

impl AioError {
    /// The errno that is the result of a queued request which can't be submitted for this reason; `None`
    /// where no request completes for it.
    pub fn errno(self) -> Option<i32> {
        match self {
            AioError::ShutDown | AioError::ContextGone => Some(libc::ECANCELED),
            AioError::Stalled => Some(libc::ENOMEM),
            AioError::Forked
            | AioError::NotSubmitted
            | AioError::WouldDeadlock
            | AioError::NotManual
            | AioError::TimedOut => None,
        }
    }
}

impl Error for AioError {}

impl From<AioError> for io::Error {
    fn from(error: AioError) -> io::Error {
        let kind = match error {
            AioError::ShutDown | AioError::ContextGone => io::ErrorKind::BrokenPipe,
            AioError::Forked | AioError::NotManual => io::ErrorKind::Unsupported,
            AioError::NotSubmitted => io::ErrorKind::InvalidInput,
            AioError::Stalled => io::ErrorKind::OutOfMemory,
            AioError::WouldDeadlock => io::ErrorKind::Deadlock,
            AioError::TimedOut => io::ErrorKind::TimedOut,
        };
        io::Error::new(kind, error)
    }
}

/// A request that was not submitted: the reason, and the request itself with everything it owns. Its callback
/// will not be called.
///
/// Displayed, it says “the request was not submitted”, and not why. The reason is its
/// [`source`](Error::source), and [`error`](SubmitError::error) returns it.
///
/// ```
/// use kiocb::Iocb;
/// use kiocb::op::Write;
/// # fn main() -> std::io::Result<()> {
/// let read_only = std::fs::File::open("/dev/null")?;
/// let refused = Iocb::alloc().init_rw(read_only, Write, vec![1, 2, 3], 0).wait().unwrap_err();
/// assert_eq!(refused.errno(), Some(9)); // EBADF: not open for writing
/// let request = refused.into_request(); // file and buffer are still in it
/// # drop(request);
/// # Ok(())
/// # }
/// ```
pub struct SubmitError<T> {
    error: io::Error,
    request: T,
}

impl<T> SubmitError<T> {
    pub(crate) fn new(error: io::Error, request: T) -> Self {
        SubmitError { error, request }
    }

    /// Why it was not submitted: an errno of `io_submit`, or [`SetupError`] or [`AioError`] inside.
    pub fn error(&self) -> &io::Error {
        &self.error
    }

    /// The errno: that of `io_submit`, or that of the [`SetupError`] or [`AioError`] inside; `None` where
    /// there is none.
    pub fn errno(&self) -> Option<i32> {
        errno_of(&self.error)
    }

    /// The request as it was, to be submitted again or taken apart.
    pub fn into_request(self) -> T {
        self.request
    }

    /// The reason and the request.
    pub fn into_parts(self) -> (io::Error, T) {
        (self.error, self.request)
    }
}

impl<T> fmt::Debug for SubmitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for SubmitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was not submitted")
    }
}

impl<T> Error for SubmitError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl<T> From<SubmitError<T>> for io::Error {
    fn from(error: SubmitError<T>) -> io::Error {
        error.error
    }
}

/// The errno in an error of this crate's: its own, or that of the [`SetupError`] or [`AioError`] inside.
pub(crate) fn errno_of(error: &io::Error) -> Option<i32> {
    let inner = error.get_ref();
    error.raw_os_error().or_else(|| {
        let inner = inner?;
        let setup = inner.downcast_ref().and_then(SetupError::errno);
        setup.or_else(|| inner.downcast_ref::<AioError>()?.errno())
    })
}
