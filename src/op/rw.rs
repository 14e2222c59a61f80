//! A read or write with its file, buffer and offset.
#![allow(
    unsafe_code,
    reason = "promises that an iocb points to memory its request owns"
)]

use super::rest::{self, View};
use super::transfer::Operation;
use super::work::{Progress, Work, descriptor};
use crate::buf::IoVec;
use crate::completion::{Completion, transferred};
use crate::flags::RwFlags;
use crate::sys::{self, iocb, statx};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

/// A read or write, ready: made by [`init_rw`](crate::Iocb::init_rw).
pub struct Rw<F, O: Operation<B>, B> {
    file: F,
    buf: B,
    offset: u64,
    /// Bytes that the kernel is given in all, once it is described.
    whole: u64,
    pieces: O::Pieces,
}

impl<F, O: Operation<B>, B> Rw<F, O, B> {
    pub(crate) fn new(file: F, _: O, buf: B, offset: u64) -> Self {
        Rw {
            file,
            buf,
            offset,
            whole: 0,
            pieces: O::Pieces::default(),
        }
    }

    pub(crate) fn into_parts(self) -> (F, B) {
        (self.file, self.buf)
    }

    pub(super) fn pieces(&self) -> &[IoVec] {
        self.pieces.whole()
    }

    /// Where it begins. The kernel's offset is signed: it refuses what is beyond i64::MAX with EINVAL.
    pub(super) fn offset(&self) -> i64 {
        self.offset.cast_signed()
    }

    /// Bytes that the kernel was given in all.
    pub(super) fn whole(&self) -> u64 {
        self.whole
    }

    pub(super) const READS: bool = matches!(O::OPCODE, sys::IOCB_CMD_PREAD | sys::IOCB_CMD_PREADV);

    /// How many bytes are left of the transfer that `iocb` describes.
    pub(super) fn left(&self, iocb: &iocb) -> u64 {
        self.pieces.left(iocb)
    }

    /// How many of them the kernel is asked for at once.
    pub(super) fn asked(&self, iocb: &iocb) -> u64 {
        self.pieces.asked(iocb)
    }

    /// Points the iocb to what lies `step` bytes further on in memory.
    pub(super) fn advance(&mut self, iocb: &mut iocb, step: u64) {
        rest::advance(iocb, self.pieces.rest(), step);
    }

    /// Whether a plain call would go on after a short transfer with NOWAIT: it reads a stored file to its
    /// end, and writes all; but of a pipe it reads what there is.
    fn goes_on(kind: u32) -> bool {
        !Self::READS || matches!(kind, libc::S_IFREG | libc::S_IFBLK)
    }

    /// After NOWAIT transferred `count` bytes and not all: points the iocb to the rest, where a plain call
    /// would go on with it.
    fn go_on(&mut self, iocb: &mut iocb, count: u64) -> bool {
        // SAFETY: the request owns the file, so the descriptor is open.
        let fd = unsafe { BorrowedFd::borrow_raw(iocb.aio_fildes.cast_signed()) };
        // Cached: the reaper may not wait for a file server.
        let Some(kind) = statx::cached_kind(fd).filter(|&kind| Self::goes_on(kind)) else {
            return false;
        };
        if !matches!(kind, libc::S_IFIFO | libc::S_IFSOCK) {
            iocb.aio_offset = iocb.aio_offset.wrapping_add_unsigned(count);
        }
        self.advance(iocb, count);
        true
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
// as its owner is borrowed, and no code touches it meanwhile.
unsafe impl<F: AsFd + Send, O: Operation<B>, B: Send> Work for Rw<F, O, B> {
    type Output = Completion<F, B>;

    fn describe(&mut self, iocb: &mut iocb) {
        self.pieces = O::Pieces::default(); // it may have been refused before
        let (address, length) = O::memory(&mut self.buf, &mut self.pieces);
        iocb.aio_lio_opcode = O::OPCODE;
        iocb.aio_buf = address;
        iocb.aio_nbytes = length;
        iocb.aio_offset = self.offset();
        iocb.aio_fildes = descriptor(&self.file);
        self.whole = self.left(iocb);
    }

    /// Asked where NOWAIT is only the first try: it may have come short where a plain call goes on.
    fn proceed(&mut self, iocb: &mut iocb, answer: &mut i64) -> Progress {
        let left = self.left(iocb);
        let done = self.whole - left;
        let tried = iocb.aio_rw_flags & RwFlags::NOWAIT.bits() != 0;
        match u64::try_from(*answer) {
            Ok(count) if tried && count > 0 && count < left && self.go_on(iocb, count) => {
                return Progress::Again;
            }
            // What was transferred before the error is the answer, as it is in a plain call.
            Err(_) if done > 0 => *answer = 0,
            _ => {}
        }
        *answer = answer.saturating_add_unsigned(done);
        Progress::Done
    }

    #[inline]
    unsafe fn finish(mut self, result: i64) -> Self::Output {
        let result = transferred(result, self.whole);
        if let Ok(count) = result {
            // SAFETY: the kernel's own answer, by the caller's promise, and not more than it was given.
            unsafe { O::transferred(&mut self.buf, count) }
        }
        Completion {
            result,
            buf: self.buf,
            file: self.file,
        }
    }
}
