//! Callbacks of barriers that are due.

use super::BarrierCallback;
use super::panics::Panics;
use super::slot::Arrive;
use crate::error::AioError;
use crate::origin::Origin;
use crate::user_code::{self, Frame, Inside};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a write or sync failed: an error that many barriers are told. It is an errno, or of a type of this
/// crate or of std's: dropping or cloning it runs no user code, so both may be done under the lock.
pub(super) type Cause = Arc<io::Error>;

/// What a barrier tells its end, and the number by which the thread that makes the barrier knows it again.
pub(super) struct Waiter {
    pub(super) number: u64,
    target: Target,
}

enum Target {
    Callback(BarrierCallback),
    Handle(Arc<dyn Arrive>),
}

impl Waiter {
    pub(super) fn of_callback(callback: BarrierCallback) -> Waiter {
        Waiter::new(Target::Callback(callback))
    }

    pub(super) fn of_handle(slot: Arc<dyn Arrive>) -> Waiter {
        Waiter::new(Target::Handle(slot))
    }

    fn new(target: Target) -> Waiter {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: only that numbers differ matters.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Waiter { number, target }
    }

    /// Runs user code: a callback, or a waker.
    pub(super) fn tell(self, result: io::Result<()>) {
        match self.target {
            Target::Callback(callback) => callback(result),
            Target::Handle(slot) => slot.arrive(result),
        }
    }

    /// `None` for one with a handle.
    pub(super) fn into_callback(self) -> Option<BarrierCallback> {
        match self.target {
            Target::Callback(callback) => Some(callback),
            Target::Handle(_) => None,
        }
    }
}

/// Callbacks that are due, with their results; and the first panic so far.
pub(super) struct Calls {
    origin: Origin,
    due: Vec<(Waiter, Result<(), Cause>)>,
    pub(super) panics: Panics,
}

impl Default for Calls {
    fn default() -> Calls {
        Calls {
            origin: Origin::here(),
            due: Vec::new(),
            panics: Panics::default(),
        }
    }
}

impl Calls {
    pub(super) fn fail(&mut self, failed: Vec<(Waiter, Cause)>) {
        let failed = failed.into_iter();
        self.due
            .extend(failed.map(|(waiter, cause)| (waiter, Err(cause))));
    }

    /// The barriers of one sync, which all have its result.
    pub(super) fn end(&mut self, group: Vec<Waiter>, result: &Result<(), Cause>) {
        let group = group.into_iter();
        self.due
            .extend(group.map(|waiter| (waiter, result.clone())));
    }

    /// Calls them all, also when one panics; then the first panic goes on, unless this thread is panicking
    /// already.
    pub(super) fn call(mut self) {
        self.run();
        self.panics.go_on();
    }

    /// As [`call`](Calls::call), but gives back the barrier with this number, if it is among them. If another
    /// one panics, nothing can be given back: then this one is called, too.
    pub(super) fn call_others(mut self, number: u64) -> Option<(Waiter, Result<(), Cause>)> {
        let mut due = self.due.iter();
        let place = due.position(|(waiter, _)| waiter.number == number);
        let mut own = place.map(|place| self.due.remove(place));
        self.run();
        if !self.panics.is_empty() {
            self.due.extend(own.take());
            self.call();
        }
        own
    }

    /// In a frame, also on a thread of the program's: a callback there that waited for a barrier behind it
    /// would wait for ever.
    fn run(&mut self) {
        let is_outermost = !self.due.is_empty() && user_code::innermost().is_none();
        let _inside = is_outermost.then(|| Inside::enter(Frame::Callback));
        let mut due = std::mem::take(&mut self.due).into_iter();
        while self.origin.is_here()
            && let Some((waiter, result)) = due.next()
        {
            let result = result.map_err(|cause| again(&cause));
            self.panics.catch(|| waiter.tell(result));
        }
        if !self.origin.is_here() {
            std::mem::forget(due); // a callback forked, and this is the child: the others are the parent's
        }
    }
}

/// The same error once more: `io::Error` can't be cloned. An error with a value of the user's inside becomes
/// one with its text: formatting it is user code.
pub(super) fn again(error: &io::Error) -> io::Error {
    if let Some(errno) = error.raw_os_error() {
        return io::Error::from_raw_os_error(errno);
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(unavailable) => AioError::clone(unavailable).into(),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    fn waiter(called: &Arc<AtomicU64>) -> Waiter {
        let called = Arc::clone(called);
        Waiter::of_callback(Box::new(move |_| {
            called.fetch_add(1, Ordering::Relaxed);
        }))
    }

    fn due(waiters: Vec<Waiter>) -> Calls {
        let cause: Cause = Arc::new(io::ErrorKind::StorageFull.into());
        let mut calls = Calls::default();
        calls.end(waiters, &Err(cause));
        calls
    }

    #[test]
    fn the_barrier_that_is_refused_comes_back_uncalled() {
        let called = Arc::new(AtomicU64::new(0));
        let (other, own) = (waiter(&called), waiter(&called));
        let number = own.number;
        let back = due(vec![other, own]).call_others(number);
        let (own, result) = back.expect("it is among them");
        assert_eq!((own.number, result.is_err()), (number, true));
        assert_eq!(called.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_barrier_that_cannot_come_back_for_a_panic_is_called() {
        let called = Arc::new(AtomicU64::new(0));
        let panics = Waiter::of_callback(Box::new(|_| resume_unwind(Box::new(7))));
        let own = waiter(&called);
        let number = own.number;
        let calls = due(vec![own, panics]);
        let outcome = catch_unwind(AssertUnwindSafe(|| calls.call_others(number).is_some()));
        assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&7));
        assert_eq!(called.load(Ordering::Relaxed), 1);
    }
}
