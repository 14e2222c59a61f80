//! Locks that are a word each, of the standard library's: a panic does not poison them.
//!
//! Nothing of them is kept anywhere else. A lock of a table that all locks of the process share, such as
//! parking_lot's of threads that wait, can be caught by a fork with threads in it that the child does not
//! have: the child's own locks, of contexts that it made itself, then hang or follow dangling addresses.

use std::ops::{Deref, DerefMut};
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

#[derive(Debug, Default)]
pub(crate) struct Condvar(sync::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Self {
        Condvar(sync::Condvar::new())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    #[cfg_attr(loom, allow(dead_code, reason = "a model has its own"))]
    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let locked = guard.0.take().expect("locked");
        let locked = self.0.wait(locked).unwrap_or_else(PoisonError::into_inner);
        guard.0 = Some(locked);
    }

    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Instant,
    ) -> WaitTimeoutResult {
        let left = deadline.saturating_duration_since(Instant::now());
        let locked = guard.0.take().expect("locked");
        let waited = self.0.wait_timeout(locked, left);
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
