//! Transfers that go on until all is transferred.
//!
//! The kernel may transfer less than it was asked for: at the end of a file, on a full file system, by a file
//! server's whim. Here the engine then submits the rest of the same request, and its owner sees the end only.
#![allow(
    unsafe_code,
    reason = "promises that an iocb points to memory its request owns"
)]

use super::rest::{Rest, failure};
use super::rw::Rw;
use super::transfer::{Operation, Read, ReadV, Write, WriteV};
use super::work::{Progress, Traits, Work};
use crate::buf::IoVec;
use crate::completion::Completion;
use crate::sys::iocb;
use std::fmt;
use std::os::fd::AsFd;

/// A read or write that goes on after a short transfer: made by [`read_exact`](crate::Iocb::read_exact) and
/// [`write_all`](crate::Iocb::write_all), where its errors are listed. Its outcome is a
/// [`Completion`](crate::Completion), as that of the plain read or write is.
pub struct Exact<F, O: Operation<B>, B> {
    rw: Rw<F, O, B>,
    /// The pieces that are left, for vectored operations: the kernel's view, shortened from the front.
    pieces: Vec<IoVec>,
    rest: Rest,
}

/// Operations that move bytes out of the file, and so can be exact: [`Read`] and [`ReadV`]. What
/// [`read_exact`](crate::Iocb::read_exact) asks for.
pub trait ReadOp {}

impl ReadOp for Read {}
impl ReadOp for ReadV {}

/// Operations that move bytes into the file, and so can write all: [`Write`] and [`WriteV`]. What
/// [`write_all`](crate::Iocb::write_all) asks for.
pub trait WriteOp {}

impl WriteOp for Write {}
impl WriteOp for WriteV {}

impl<F, O: Operation<B>, B> Exact<F, O, B> {
    pub(crate) fn new(rw: Rw<F, O, B>) -> Self {
        Exact {
            rw,
            pieces: Vec::new(),
            rest: Rest::new(),
        }
    }

    pub(crate) fn into_inner(self) -> Rw<F, O, B> {
        self.rw
    }
}

// SAFETY: `Rw`'s promise. The iocb is pointed to a part of what it named at first, or to our array of such parts,
// which stays where it is while the value does: a Vec that is only shortened.
unsafe impl<F: AsFd + Send, O: Operation<B>, B: Send> Work for Exact<F, O, B> {
    type Output = Completion<F, B>;

    fn traits(&self) -> Traits {
        Traits {
            may_go_on: true,
            ..Traits::default()
        }
    }

    fn describe(&mut self, iocb: &mut iocb) {
        self.rw.describe(iocb);
        self.pieces = self.rw.pieces().to_vec();
        self.rest.begin(iocb, &self.pieces);
    }

    fn proceed(&mut self, iocb: &mut iocb, answer: &mut i64) -> Progress {
        self.rest.proceed(iocb, &mut self.pieces, answer)
    }

    unsafe fn finish(self, answer: i64) -> Self::Output {
        let done = usize::try_from(self.rest.done()).unwrap_or(usize::MAX);
        let errno = if failure(answer).is_some() {
            -i64::from(libc::EIO)
        } else {
            answer
        };
        // SAFETY: an errno, or the sum of what the kernel transferred, piece after piece from the beginning.
        let mut completion = unsafe { self.rw.finish(errno) };
        if completion.result.is_err() {
            // SAFETY: so many bytes from the beginning were transferred before it failed.
            unsafe { O::transferred(&mut completion.buf, done) }
        }
        if let Some(failed) = failure(answer) {
            completion.result = Err(failed);
        }
        completion
    }
}

impl<F, O: Operation<B>, B> fmt::Debug for Exact<F, O, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exact")
            .field("rw", &self.rw)
            .field("done", &self.rest.done())
            .finish_non_exhaustive()
    }
}
