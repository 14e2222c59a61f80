//! A sync of a file.
#![allow(
    unsafe_code,
    reason = "promises that an iocb names a file its request owns"
)]

use super::work::{Work, descriptor};
use crate::completion::{Completion, transferred};
use crate::sys::{self, iocb};
use std::os::fd::AsFd;

/// An `fsync(2)` or `fdatasync(2)`, ready: made by [`init_fsync`](crate::Iocb::init_fsync) and
/// [`init_fdsync`](crate::Iocb::init_fdsync).
#[derive(Debug)]
pub struct Fsync<F> {
    file: F,
    opcode: u16,
}

impl<F> Fsync<F> {
    pub(crate) fn whole(file: F) -> Self {
        Fsync {
            file,
            opcode: sys::IOCB_CMD_FSYNC,
        }
    }

    pub(crate) fn data(file: F) -> Self {
        Fsync {
            file,
            opcode: sys::IOCB_CMD_FDSYNC,
        }
    }

    pub(crate) fn into_file(self) -> F {
        self.file
    }
}

// SAFETY: the iocb names no memory; the descriptor as in `Rw`.
unsafe impl<F: AsFd + Send> Work for Fsync<F> {
    type Output = Completion<F, ()>;

    fn describe(&mut self, iocb: &mut iocb) {
        iocb.aio_lio_opcode = self.opcode;
        iocb.aio_fildes = descriptor(&self.file);
    }

    unsafe fn finish(self, result: i64) -> Self::Output {
        Completion {
            result: transferred(result, 0),
            buf: (),
            file: self.file,
        }
    }
}
