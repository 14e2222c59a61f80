//! Counting what is outstanding, and waking the threads that wait until nothing is.

use super::Engine;
use crate::dispatch::Dispatch;
use crate::sync::{Condvar, Mutex, Ordering, now};
use std::time::Instant;

/// Where threads wait until nothing is outstanding.
#[derive(Debug)]
pub(super) struct IdleSignal {
    lock: Mutex<()>,
    came: Condvar,
}

impl IdleSignal {
    pub(super) fn new() -> IdleSignal {
        IdleSignal {
            lock: Mutex::new(()),
            came: Condvar::new(),
        }
    }

    /// Waits until `is_so` returns true, or until the deadline. Returns whether it is so. A thread that makes
    /// it so calls `notify` afterwards.
    pub(super) fn wait(&self, deadline: Option<Instant>, is_so: impl Fn() -> bool) -> bool {
        let mut guard = self.lock.lock();
        while !is_so() {
            match deadline {
                None => self.came.wait(&mut guard),
                Some(deadline) if is_over(Some(deadline)) => return false,
                Some(deadline) => {
                    self.came.wait_until(&mut guard, deadline);
                }
            }
        }
        true
    }

    pub(super) fn notify(&self) {
        // Takes the lock once: a thread that saw `is_so` return false is asleep by then.
        drop(self.lock.lock());
        self.came.notify_all();
    }
}

pub(super) fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| now() >= deadline)
}

impl Engine {
    /// Returns how many requests are accepted and not completed: never too few, and zero only if there was a
    /// moment without any. Every end waits for this to be zero (I13).
    pub(super) fn outstanding(&self) -> u64 {
        loop {
            let before = (self.backlog.pushes(), self.slots.moves());
            // In the order in which a request moves from place to place, so that a request that moves is not
            // missed.
            let sum = self.backlog.len() as u64 + self.slots.in_use() + self.counters.completing();
            // A request that came in meanwhile took a slot, or was pushed to the backlog.
            if sum > 0 || before == (self.backlog.pushes(), self.slots.moves()) {
                return sum;
            }
        }
    }

    /// Wakes the threads that wait until nothing is outstanding, if nothing is. To be called by a thread that
    /// has completed a request.
    #[inline]
    pub(super) fn notify_if_idle(&self) {
        if self.counters.has_listeners() && self.outstanding() == 0 {
            self.idle.notify();
            self.wake_dispatcher();
        }
    }

    /// Whether no more events can come from the context.
    pub(super) fn is_lost(&self) -> bool {
        // SeqCst: `on_wait_failed` stores it and then wakes all sleeping threads; a thread announces that it
        // will sleep and then looks here.
        self.lost.load(Ordering::SeqCst)
    }

    /// Whether the dispatcher may end: it was told to stop, and no more callbacks can come.
    pub(super) fn is_finished(&self) -> bool {
        self.counters.is_stopping()
            && (self.is_lost() || (self.outstanding() == 0 && self.inbox.is_empty()))
    }

    /// Whether the dispatcher has nothing to sleep for: the thread when it may end, a thread in `poll` when
    /// nothing can come.
    pub(super) fn is_idle_for_dispatcher(&self) -> bool {
        (self.dispatch == Dispatch::Manual || self.counters.is_stopping())
            && (self.is_lost() || self.outstanding() == 0)
    }
}
