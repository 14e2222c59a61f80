//! Readiness of a file as a request: `poll(2)`, once.
#![allow(
    unsafe_code,
    reason = "promises that an iocb names a file its request owns"
)]

use crate::completion::outcome;
use crate::flags::PollFlags;
use crate::operation::{Traits, Work};
use crate::sys::{self, iocb};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// A wait for readiness, ready to be submitted: made by [`init_poll`](crate::Iocb::init_poll), where its
/// errors are listed.
#[derive(Debug)]
pub struct Poll<F> {
    file: F,
    events: PollFlags,
}

/// The outcome of a wait for readiness ([`init_poll`](crate::Iocb::init_poll)), with the file that was lent
/// to it: to poll it again, put it into a new request.
#[derive(Debug)]
#[non_exhaustive]
pub struct Readiness<F> {
    /// What the file is ready for: of the events that were asked for, and ERR and HUP, which are always
    /// looked for.
    ///
    /// # Errors
    /// - ECANCELED: it was [cancelled](crate::Pending::cancel), and none of the events had come.
    /// - what `submit` would have said, where the request was queued before it was refused.
    pub result: io::Result<PollFlags>,
    /// The file.
    pub file: F,
}

impl<F> Poll<F> {
    pub(crate) fn new(file: F, events: PollFlags) -> Self {
        Poll { file, events }
    }

    /// The kernel passes on all that a wake-up said, asked for or not, and not all of it is true: `poll(2)`
    /// masks it as well.
    fn asked_for(&self, events: PollFlags) -> PollFlags {
        let always = PollFlags::ERR | PollFlags::HUP;
        let mask = (self.events | always).bits();
        PollFlags::from_bits_retain(events.bits() & mask)
    }

    pub(crate) fn into_file(self) -> F {
        self.file
    }
}

// SAFETY: no memory is lent; the file is a field, and nobody touches it meanwhile.
unsafe impl<F: AsFd + Send> Work for Poll<F> {
    type Output = Readiness<F>;

    fn traits(&self) -> Traits {
        Traits {
            cancellable: true,
            ..Traits::default()
        }
    }

    fn describe(&mut self, iocb: &mut iocb) {
        iocb.aio_lio_opcode = sys::IOCB_CMD_POLL;
        iocb.aio_fildes = self.file.as_fd().as_raw_fd().cast_unsigned();
        iocb.aio_buf = self.events.bits().into();
    }

    unsafe fn finish(self, result: i64) -> Self::Output {
        let result = outcome(result).and_then(|events| match u16::try_from(events) {
            Ok(0) | Err(_) => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
            Ok(events) => Ok(self.asked_for(PollFlags::from_bits_retain(events))),
        });
        Readiness {
            result,
            file: self.file,
        }
    }
}
