//! Why a request was not submitted, and whether it may be refused at all.

use crate::error::AioError;
use std::io;

/// Why the kernel did not take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The errno of `io_submit`.
    Errno(i32),
    /// The context is gone.
    ContextGone,
    /// EAGAIN again and again, with nothing in flight that could free a slot: the kernel has no memory for
    /// requests.
    Stalled,
    /// The engine takes no more requests.
    ShutDown,
    /// A request before it was refused, and the list was to stop there.
    Behind,
}

impl Refusal {
    /// Why an engine that is closing takes no request.
    pub(super) fn of_closed(is_lost: bool) -> Refusal {
        match is_lost {
            true => Refusal::ContextGone,
            false => Refusal::ShutDown,
        }
    }

    /// The errno that becomes the result of a request which was accepted before the kernel refused it.
    pub(super) fn errno(self) -> i32 {
        match self {
            Refusal::Errno(errno) => errno,
            Refusal::ContextGone | Refusal::ShutDown | Refusal::Behind => libc::ECANCELED,
            Refusal::Stalled => libc::ENOMEM,
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        match refusal {
            Refusal::Errno(errno) => io::Error::from_raw_os_error(errno),
            Refusal::ContextGone => AioError::ContextGone.into(),
            Refusal::Stalled => AioError::Stalled.into(),
            Refusal::ShutDown => AioError::ShutDown.into(),
            Refusal::Behind => AioError::NotSubmitted.into(),
        }
    }
}

/// Whether requests may be refused because the engine is closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// New requests: they may be refused once shutdown has begun.
    New,
    /// The same, and what stands behind one that is refused is refused as well.
    NewUntilRefused,
    /// Requests that were accepted earlier: they must not be refused.
    Accepted,
}

impl Admission {
    #[inline]
    pub(super) fn is_new(self) -> bool {
        self != Admission::Accepted
    }
}
