//! Threads' tools in one place, so that a model checker can take their place: everything else in the crate
//! imports from here.

#[cfg(not(loom))]
mod imp {
    pub(crate) use parking_lot::{Condvar, Mutex};
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
    pub(crate) use std::thread::{Thread, current, park, park_timeout, yield_now};
}

#[cfg(loom)]
mod imp {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
    pub(crate) use loom::thread::{Thread, current, park, yield_now};
    use std::time::{Duration, Instant};

    /// A model has no clock: a park with a deadline is a park that may return at once.
    pub(crate) fn park_timeout(_: Duration) {
        yield_now();
    }

    /// loom's mutex with parking_lot's face.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("a model does not poison")
        }

        pub(crate) fn try_lock(&self) -> Option<loom::sync::MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    /// loom's condition variable with parking_lot's face.
    #[derive(Debug)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Condvar(loom::sync::Condvar::new())
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    impl Condvar {
        /// Waits without a deadline: a model has no clock.
        pub(crate) fn wait_until<T>(&self, guard: &mut loom::sync::MutexGuard<'_, T>, _: Instant) {
            let _ = guard;
            yield_now();
        }
    }
}

pub(crate) use imp::*;

/// A value on a cache line of its own: two threads that write different fields must not share one (128 bytes:
/// x86-64 fetches lines in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Line<T>(pub(crate) T);

impl<T> std::ops::Deref for Line<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
