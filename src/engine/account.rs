//! What is outstanding, and telling those that wait for it to be nothing.

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

    /// Waits until `is_so` returns true, or until the deadline. Returns whether it is so. What makes it so
    /// calls `notify` afterwards.
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
        // Through the lock: a thread that found it not to be so is asleep by the time we have it.
        drop(self.lock.lock());
        self.came.notify_all();
    }
}

pub(super) fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| now() >= deadline)
}

impl Engine {
    /// Requests accepted and not completed: never too few, and not zero unless there was a moment without
    /// any.
    pub(super) fn outstanding(&self) -> u64 {
        loop {
            let before = (self.backlog.pushes(), self.slots.moves());
            // In the order in which a request goes its way, so that none is missed by moving forward.
            let sum = self.backlog.len() as u64 + self.slots.in_use() + self.counters.completing();
            // One that came in meanwhile (from a callback, or back from the kernel's side) took a slot, or
            // was pushed.
            if sum > 0 || before == (self.backlog.pushes(), self.slots.moves()) {
                return sum;
            }
        }
    }

    /// Tells the threads that wait for it that nothing is outstanding, if it is so. To be called by a thread
    /// that has completed something.
    #[inline]
    pub(super) fn notify_if_idle(&self) {
        // While something is in flight, the thread that completes that is yet to come here.
        if self.counters.has_listeners() && self.slots.in_use() == 0 {
            self.notify_unless_outstanding();
        }
    }

    #[inline(never)]
    fn notify_unless_outstanding(&self) {
        if self.outstanding() == 0 {
            self.idle.notify();
            self.wake_dispatcher();
        }
    }

    /// Whether the context can't bring any more events.
    pub(super) fn is_lost(&self) -> bool {
        // SeqCst: set, and then everything that sleeps is woken; it announces itself and then looks here.
        self.lost.load(Ordering::SeqCst)
    }

    /// Whether the dispatcher may end: it was told to, and nothing more will come to it.
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
