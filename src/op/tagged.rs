//! An operation with the tag by which its user knows it again, for a queue.
#![allow(unsafe_code, reason = "passes on the promise of the operation inside")]

use super::work::{Progress, Traits, Work};
use crate::sys::iocb;
use crate::thread_bound::Bound;

/// An operation with its tag. The tag may belong to the thread of the queue.
#[derive(Debug)]
pub(crate) struct Tagged<S, T> {
    state: S,
    tag: Bound<T>,
}

impl<S, T> Tagged<S, T> {
    #[inline]
    pub(crate) fn new(state: S, tag: Bound<T>) -> Tagged<S, T> {
        Tagged { state, tag }
    }
}

// SAFETY: the state's own promise.
unsafe impl<S: Work, T> Work for Tagged<S, T> {
    type Output = (Bound<T>, S::Output);

    fn traits(&self) -> Traits {
        self.state.traits()
    }

    #[inline]
    fn describe(&mut self, iocb: &mut iocb) {
        self.state.describe(iocb);
    }

    fn proceed(&mut self, iocb: &mut iocb, result: &mut i64) -> Progress {
        self.state.proceed(iocb, result)
    }

    #[inline]
    unsafe fn finish(self, result: i64) -> Self::Output {
        // SAFETY: passed on.
        (self.tag, unsafe { self.state.finish(result) })
    }
}
