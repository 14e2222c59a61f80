//! A lock that a forked child never waits for.

use crate::origin::Origin;
use crate::sync::lock::{Mutex, MutexGuard};

/// A mutex for the threads of the process that made it.
///
/// A fork copies the lock as it is, also while another thread of the parent holds it. That thread does not
/// exist in the child: the copy would stay locked for ever, and the value below it may be half changed. So in
/// a child the lock can't be taken, and the value is neither used nor dropped: it leaks.
pub(crate) struct ProcessMutex<T> {
    origin: Origin,
    /// Full until the drop.
    mutex: Option<Mutex<T>>,
}

impl<T> ProcessMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        ProcessMutex {
            origin: Origin::here(),
            mutex: Some(Mutex::new(value)),
        }
    }

    /// Whether this process made it.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.origin.is_here()
    }

    /// Blocks until the lock is free; returns `None` in a forked child, without waiting.
    #[inline]
    pub(crate) fn lock(&self) -> Option<MutexGuard<'_, T>> {
        if !self.is_here() {
            return None;
        }
        self.mutex.as_ref().map(Mutex::lock)
    }

    /// Returns `None` where another thread has the lock, and in a forked child.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        if !self.is_here() {
            return None;
        }
        self.mutex.as_ref()?.try_lock()
    }
}

impl<T> Drop for ProcessMutex<T> {
    fn drop(&mut self) {
        if !self.is_here() {
            std::mem::forget(self.mutex.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_made_it_takes_the_lock_once_at_a_time() {
        let mutex = ProcessMutex::new(1);
        let guard = mutex.lock();
        assert_eq!(guard.as_deref(), Some(&1));
        assert!(mutex.try_lock().is_none());
        drop(guard);
        assert!(mutex.try_lock().is_some());
    }
}
