//! An operation with its callback.
#![allow(unsafe_code, reason = "passes on the promise of the operation inside")]

use super::work::{Progress, Traits, Work};
use crate::sys::iocb;

/// What is called with the outcome of a request: the user's closure, or a callback of the crate's own, which
/// can be named and taken apart again.
pub trait Receive<T>: Send {
    /// Called once, with what came back.
    fn receive(self, output: T);
}

impl<T, C: FnOnce(T) + Send> Receive<T> for C {
    fn receive(self, output: T) {
        self(output);
    }
}

/// An operation with its callback: made by [`init_callback`](crate::Iocb::init_callback).
#[derive(Debug)]
pub struct Callback<S, C> {
    state: S,
    callback: C,
}

impl<S, C> Callback<S, C> {
    pub(crate) fn new(state: S, callback: C) -> Self {
        Callback { state, callback }
    }

    pub(crate) fn into_parts(self) -> (S, C) {
        (self.state, self.callback)
    }
}

// SAFETY: the state's own promise.
unsafe impl<S: Work, C: Receive<S::Output>> Work for Callback<S, C> {
    type Output = ();

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
    unsafe fn finish(self, result: i64) {
        // SAFETY: passed on.
        let output = unsafe { self.state.finish(result) };
        self.callback.receive(output);
    }
}
