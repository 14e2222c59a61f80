//! A read or write with its file, buffer and offset.
#![allow(
    unsafe_code,
    reason = "promises that an iocb points to memory its request owns"
)]

use super::transfer::Operation;
use super::work::{Work, descriptor};
use crate::buf::IoVec;
use crate::completion::{Completion, outcome};
use crate::sys::iocb;
use std::fmt;
use std::os::fd::AsFd;

/// A read or write, ready: made by [`init_rw`](crate::Iocb::init_rw).
pub struct Rw<F, O: Operation<B>, B> {
    file: F,
    buf: B,
    offset: u64,
    pieces: O::Pieces,
}

impl<F, O: Operation<B>, B> Rw<F, O, B> {
    pub(crate) fn new(file: F, _: O, buf: B, offset: u64) -> Self {
        Rw {
            file,
            buf,
            offset,
            pieces: O::Pieces::default(),
        }
    }

    pub(crate) fn into_parts(self) -> (F, B) {
        (self.file, self.buf)
    }

    pub(crate) fn pieces(&self) -> &[IoVec] {
        O::io_vecs(&self.pieces)
    }
}

impl<F, O: Operation<B>, B> fmt::Debug for Rw<F, O, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rw")
            .field("opcode", &O::OPCODE)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

// SAFETY: file, buffer and iovec array are fields, so they stay where they are as long as the value does, and
// `Transfer` and `AsFd` make the same promise for what they point to and name: a BorrowedFd is good as long
// as its owner is borrowed, and nobody touches it meanwhile.
unsafe impl<F: AsFd + Send, O: Operation<B>, B: Send> Work for Rw<F, O, B> {
    type Output = Completion<F, B>;

    fn describe(&mut self, iocb: &mut iocb) {
        let (address, length) = O::memory(&mut self.buf, &mut self.pieces);
        iocb.aio_lio_opcode = O::OPCODE;
        iocb.aio_buf = address;
        iocb.aio_nbytes = length;
        // The kernel's offset is signed: it refuses what is beyond i64::MAX with EINVAL.
        iocb.aio_offset = self.offset.cast_signed();
        iocb.aio_fildes = descriptor(&self.file);
    }

    unsafe fn finish(mut self, result: i64) -> Self::Output {
        let result = outcome(result);
        if let Ok(count) = result {
            // SAFETY: the kernel's own answer, by the caller's promise.
            unsafe { O::transferred(&mut self.buf, count) }
        }
        Completion {
            result,
            buf: self.buf,
            file: self.file,
        }
    }
}
