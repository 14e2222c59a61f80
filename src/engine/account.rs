//! Counting what is outstanding, and waking the threads that wait until nothing is.

use super::Engine;
use super::request::List;
use crate::dispatch::Dispatch;
use crate::sync::{Condvar, Mutex, Ordering, now};
use crate::user_code;
use std::collections::BTreeMap;
use std::collections::btree_map::IntoValues;
use std::task::Waker;
use std::time::Instant;

/// Where threads and tasks wait until nothing is outstanding, or until the context has ended.
#[derive(Debug)]
pub(super) struct IdleSignal {
    tasks: Mutex<Tasks>,
    came: Condvar,
}

/// The wakers of tasks, in the order in which the tasks came.
#[derive(Debug, Default)]
struct Tasks {
    last: u64,
    wakers: BTreeMap<u64, Waker>,
}

/// A task that waits for the signal, or may do so: its number, once it has one.
#[derive(Debug, Default)]
pub(crate) struct IdleTask(Option<u64>);

impl IdleTask {
    pub(super) fn is_waiting(&self) -> bool {
        self.0.is_some()
    }
}

impl IdleSignal {
    pub(super) fn new() -> IdleSignal {
        IdleSignal {
            tasks: Mutex::new(Tasks::default()),
            came: Condvar::new(),
        }
    }

    /// Waits until `is_so` returns true, or until the deadline. Returns whether it is so. A thread that makes
    /// it so calls `notify` afterwards.
    pub(super) fn wait(&self, deadline: Option<Instant>, is_so: impl Fn() -> bool) -> bool {
        let mut guard = self.tasks.lock();
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

    /// Registers the waker of a task, unless `is_so` returns true; returns what `is_so` does. A thread that
    /// makes it so calls `notify` and passes the wakers on by `pass_tasks` afterwards.
    pub(super) fn register(
        &self,
        task: &mut IdleTask,
        waker: Waker,
        is_so: impl Fn() -> bool,
    ) -> bool {
        let mut tasks = self.tasks.lock();
        // Wakers are dropped without the lock: that is user code.
        if is_so() {
            drop(tasks);
            user_code::drop_value("dropping a waker", waker);
            return true;
        }
        let number = *task.0.get_or_insert_with(|| {
            tasks.last += 1;
            tasks.last
        });
        let before = tasks.wakers.insert(number, waker);
        drop(tasks);
        user_code::drop_value("dropping a waker", before);
        false
    }

    /// The task waits no longer.
    pub(super) fn forget(&self, task: &mut IdleTask) {
        if let Some(number) = task.0.take() {
            let waker = self.tasks.lock().wakers.remove(&number);
            user_code::drop_value("dropping a waker", waker);
        }
    }

    /// Wakes the threads.
    pub(super) fn notify(&self) {
        // Takes the lock once: a thread that saw `is_so` return false is asleep by then.
        drop(self.tasks.lock());
        self.came.notify_all();
    }

    /// Passes the wakers of all tasks on: those that find it not to be so come again. Under the lock, so that none
    /// is on its way when the end has notified and looks for what there is to be called, for the last time.
    pub(super) fn pass_tasks(&self, to: impl FnOnce(IntoValues<u64, Waker>)) {
        let mut tasks = self.tasks.lock();
        to(std::mem::take(&mut tasks.wakers).into_values());
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

    /// Wakes what waits until nothing is outstanding, if nothing is. To be called by a thread that has
    /// completed a request.
    #[inline]
    pub(super) fn notify_if_idle(&self) {
        // While something is in flight, the thread that completes that is yet to come here.
        if self.counters.has_listeners() && self.slots.in_use() == 0 {
            self.notify_unless_outstanding();
        }
    }

    #[inline(never)]
    fn notify_unless_outstanding(&self) {
        // In a forked child, a logger may have forked, the lock is the parent's.
        if self.is_here() && self.outstanding() == 0 {
            self.notify_idle();
            self.wake_dispatcher();
        }
    }

    /// Wakes the threads that wait for the signal, and puts the wakers of tasks where the dispatcher finds
    /// them: they are user code, and this thread may be inside of some.
    pub(super) fn notify_idle(&self) {
        self.idle.notify();
        self.idle
            .pass_tasks(|wakers| self.inbox.defer(wakers, List::new()));
    }

    /// Whether no more events can come from the context.
    pub(crate) fn is_lost(&self) -> bool {
        // SeqCst: `note_failed_wait` stores it and then wakes all sleeping threads; a thread announces that it
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
