//! Locks that are a word each, of the standard library's: a panic does not poison them.
//!
//! Nothing of them is kept anywhere else. A lock of a table that all locks of the process share, such as
//! parking_lot's of threads that wait, can be caught by a fork with threads in it that the child does not
//! have: the child's own locks, of contexts that it made itself, then hang or follow dangling addresses.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{self, PoisonError, TryLockError, WaitTimeoutResult};
use std::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

/// Empty only inside [`Condvar`]'s waits.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Mutex(sync::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let locked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard(Some(locked))
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let locked = match self.0.try_lock() {
            Ok(locked) => locked,
            Err(TryLockError::Poisoned(locked)) => locked.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard(Some(locked)))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.as_ref().expect("locked")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("locked")
    }
}

/// Notifying costs no system call while no thread waits.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    condvar: sync::Condvar,
    waiting: AtomicUsize,
}

impl Condvar {
    pub(crate) const fn new() -> Self {
        Condvar {
            condvar: sync::Condvar::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Whoever notifies has had the mutex since it changed what is waited for.
    pub(crate) fn notify_one(&self) {
        if self.has_waiting() {
            self.condvar.notify_one();
        }
    }

    /// As [`notify_one`](Condvar::notify_one).
    #[cfg_attr(loom, allow(dead_code, reason = "a model has its own"))]
    pub(crate) fn notify_all(&self) {
        if self.has_waiting() {
            self.condvar.notify_all();
        }
    }

    #[inline]
    fn has_waiting(&self) -> bool {
        // Relaxed: a thread that waits counted itself while it had the mutex. If it had it before the
        // notifier, the mutex shows the count; if after, the thread has seen the change, and need not be
        // woken.
        self.waiting.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let locked = guard.0.take().expect("locked");
        // Relaxed: see `has_waiting`.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let locked = self.condvar.wait(locked);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        guard.0 = Some(locked.unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Instant,
    ) -> WaitTimeoutResult {
        let left = deadline.saturating_duration_since(Instant::now());
        let locked = guard.0.take().expect("locked");
        // Relaxed: see `has_waiting`.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waited = self.condvar.wait_timeout(locked, left);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let (locked, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
        guard.0 = Some(locked);
        timed_out
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn a_panic_does_not_poison() {
        let mutex = Mutex::new(1);
        let panic = catch_unwind(AssertUnwindSafe(|| {
            let _locked = mutex.lock();
            panic!("on purpose")
        }));
        assert!(panic.is_err());
        assert_eq!(mutex.try_lock().as_deref(), Some(&1));
        assert_eq!(*mutex.lock(), 1);
    }

    #[test]
    fn a_wait_for_a_moment_that_is_past_is_over_at_once() {
        let (mutex, condvar) = (Mutex::new(()), Condvar::new());
        let mut locked = mutex.lock();
        assert!(condvar.wait_until(&mut locked, Instant::now()).timed_out());
        assert!(mutex.try_lock().is_none(), "locked again");
    }
}
