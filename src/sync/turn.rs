//! Something that one thread at a time has, while others wait for their turn, with or without a deadline.

use super::{AtomicBool, AtomicUsize, Condvar, Mutex, Ordering, now};
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Turn {
    is_taken: AtomicBool,
    /// Threads that wait, or are about to.
    waiting: AtomicUsize,
    lock: Mutex<()>,
    is_over: Condvar,
}

/// The turn is this thread's while it lives. A forked child forgets it: the lock may be the parent's.
#[derive(Debug)]
#[must_use = "dropped, the turn is over"]
pub(crate) struct Taken<'a>(&'a Turn);

impl Turn {
    pub(crate) fn new() -> Turn {
        Turn {
            is_taken: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            lock: Mutex::new(()),
            is_over: Condvar::new(),
        }
    }

    /// Returns `None` if another thread has it.
    #[inline]
    pub(crate) fn try_take(&self) -> Option<Taken<'_>> {
        // Acquire and Release, here and in `drop`: what a thread did in its turn comes before the next one's.
        // SeqCst beyond that: a thread that waits counts itself and then looks here; one whose turn is over
        // says so and then looks for the count. One of the two sees the other.
        self.is_taken
            .compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
            .then(|| Taken(self))
    }

    /// Waits for the turn; returns `None` after the deadline.
    pub(crate) fn take_until(&self, deadline: Option<Instant>) -> Option<Taken<'_>> {
        self.try_take().or_else(|| self.wait_until(deadline))
    }

    #[cold]
    fn wait_until(&self, deadline: Option<Instant>) -> Option<Taken<'_>> {
        // SeqCst: see `try_take`. That there are fewer may be seen late.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let taken = self.take_or_wait(deadline);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        taken
    }

    fn take_or_wait(&self, deadline: Option<Instant>) -> Option<Taken<'_>> {
        let mut guard = self.lock.lock();
        loop {
            match (self.try_take(), deadline) {
                (Some(taken), _) => return Some(taken),
                (None, None) => self.is_over.wait(&mut guard),
                (None, Some(deadline)) if now() >= deadline => return None,
                (None, Some(deadline)) => {
                    self.is_over.wait_until(&mut guard, deadline);
                }
            }
        }
    }
}

impl Drop for Taken<'_> {
    #[inline]
    fn drop(&mut self) {
        // SeqCst: see `try_take`.
        self.0.is_taken.store(false, Ordering::SeqCst);
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            // Through the lock: a thread that found it taken is asleep by the time we have it.
            drop(self.0.lock.lock());
            self.0.is_over.notify_all();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_thread_has_it_at_a_time_and_the_next_is_woken() {
        let turn = Turn::new();
        let mine = turn.try_take().expect("free");
        assert!(turn.try_take().is_none());
        let soon = Some(now() + Duration::from_millis(1));
        assert!(turn.take_until(soon).is_none());
        std::thread::scope(|threads| {
            let next = threads.spawn(|| drop(turn.take_until(None)));
            drop(mine);
            next.join().expect("it gets its turn");
        });
        assert!(turn.try_take().is_some());
    }
}
