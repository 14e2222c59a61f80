//! Readiness of a file as a request: `poll(2)`, once.
#![allow(
    unsafe_code,
    reason = "promises that an iocb names a file its request owns"
)]

use super::work::{Traits, Work, descriptor};
use crate::completion::{CompletionError, outcome};
use crate::flags::PollFlags;
use crate::sys::{self, iocb};
use std::io;
use std::os::fd::AsFd;

/// A wait for readiness, ready to be submitted: made by [`init_poll`](crate::Iocb::init_poll), where its
/// errors are listed.
#[derive(Debug)]
pub struct PollReady<F> {
    file: F,
    events: PollFlags,
}

/// The outcome of a wait for readiness ([`init_poll`](crate::Iocb::init_poll)), with the file of the
/// request: to poll it again, put it into a new one.
#[derive(Debug)]
#[must_use = "the wait may have failed, and only `result` says so: look at it, or say `.ok()?`"]
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

impl<F> Readiness<F> {
    /// What the file is ready for, and the file; or, where the wait failed, an error with the file in it (its
    /// buffer is `()`). With `?` in a function that returns an [`io::Result`] the error becomes the
    /// [`io::Error`] alone.
    ///
    /// # Errors
    /// Those of [`result`](Readiness::result).
    pub fn ok(self) -> Result<(PollFlags, F), CompletionError<F, ()>> {
        match self.result {
            Ok(events) => Ok((events, self.file)),
            Err(error) => Err(CompletionError::new(error, (), self.file)),
        }
    }
}

impl<F> PollReady<F> {
    pub(crate) fn new(file: F, events: PollFlags) -> Self {
        PollReady { file, events }
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

// SAFETY: the iocb names no memory; the file is a field, and no code touches it meanwhile.
unsafe impl<F: AsFd + Send> Work for PollReady<F> {
    type Output = Readiness<F>;

    fn traits(&self) -> Traits {
        Traits {
            cancellable: true,
            ..Traits::default()
        }
    }

    fn describe(&mut self, iocb: &mut iocb) {
        iocb.aio_lio_opcode = sys::IOCB_CMD_POLL;
        iocb.aio_fildes = descriptor(&self.file);
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
