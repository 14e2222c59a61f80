//! Something that one thread at a time has, while others wait for their turn, with or without a deadline.

use super::{Condvar, Mutex, now};
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Turn {
    is_taken: Mutex<bool>,
    is_over: Condvar,
}

/// The turn is this thread's while it lives. A forked child forgets it: the lock may be the parent's.
#[derive(Debug)]
#[must_use = "dropped, the turn is over"]
pub(crate) struct Taken<'a>(&'a Turn);

impl Turn {
    pub(crate) fn new() -> Turn {
        Turn {
            is_taken: Mutex::new(false),
            is_over: Condvar::new(),
        }
    }

    /// Returns `None` if another thread has it, or is about to.
    pub(crate) fn try_take(&self) -> Option<Taken<'_>> {
        let mut is_taken = self.is_taken.try_lock()?;
        if *is_taken {
            return None;
        }
        *is_taken = true;
        Some(Taken(self))
    }

    /// Waits for the turn; returns `None` after the deadline.
    pub(crate) fn take_until(&self, deadline: Option<Instant>) -> Option<Taken<'_>> {
        let mut is_taken = self.is_taken.lock();
        while *is_taken {
            match deadline {
                None => self.is_over.wait(&mut is_taken),
                Some(deadline) if now() >= deadline => return None,
                Some(deadline) => {
                    self.is_over.wait_until(&mut is_taken, deadline);
                }
            }
        }
        *is_taken = true;
        Some(Taken(self))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.is_taken.lock() = false;
        self.0.is_over.notify_all();
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
