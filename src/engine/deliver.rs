//! Calling user code: wakers, and destructors of requests that were abandoned. (`dispatch` in `reap` calls
//! callbacks, because what they submit must leave afterwards.)
//!
//! User code runs in the outermost reap of a thread, and in a wait that a callback makes. What a thread finds
//! inside a waker, a destructor or a logger is deferred (I12): the outermost reap of the same thread or the
//! dispatcher runs it, whichever comes first.
//!
//! User code may fork and return in the child. What follows there belongs to the parent (I10): a function
//! that has called user code returns `false` in the child, and its callers return at once without touching a
//! lock.

use super::Engine;
use super::harvest::Harvest;
use super::request::{Ended, List, OwnedCell, Settled};
use super::roles::{NOBODY, Role};
use crate::user_code::{self, Frame, Inside};
use std::iter::from_fn;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;

impl Engine {
    /// Runs user code in a frame that the caller has entered. Returns whether this is still the process that
    /// made the context.
    #[inline]
    pub(super) fn call(&self, what: &str, run: impl FnOnce()) -> bool {
        if user_code::catch(what, run).is_none() {
            self.collect_panics();
        }
        self.is_here()
    }

    /// Whether callbacks may run on this thread, in this role.
    #[inline]
    pub(super) fn may_run_callbacks(&self, role: Role) -> bool {
        (role.tag == Role::DISPATCHER.tag || self.runs_callbacks_anywhere())
            && user_code::innermost().is_none()
    }

    /// Puts callbacks into the inbox and wakes the dispatcher.
    pub(super) fn pass_to_dispatcher(&self, callbacks: List) {
        if callbacks.len() > 0 {
            self.inbox.put_callbacks(callbacks);
            self.wake_dispatcher();
        }
    }

    /// Wakes the watchers of requests whose results were stored, and drops abandoned requests. To be called
    /// without the consumer's lock. Returns `false` in a forked child.
    pub(super) fn deliver_watched(&self, harvest: &mut Harvest, tag: u64) -> bool {
        self.counters.add_for_dispatcher(-harvest.for_dispatcher);
        while let Some(waker) = harvest.threads.pop() {
            waker.wake();
        }
        let is_user_code_due = !harvest.wakers.is_empty() || harvest.abandoned.len() > 0;
        if is_user_code_due && !self.wake_tasks(harvest, tag) {
            return false;
        }
        self.keep_spare(harvest);
        self.notify_if_idle();
        true
    }

    fn wake_tasks(&self, harvest: &mut Harvest, tag: u64) -> bool {
        let abandoned = std::mem::take(&mut harvest.abandoned);
        if user_code::innermost() == Some(Frame::Other) {
            self.inbox
                .defer(from_fn(|| harvest.wakers.pop()), abandoned);
            self.wake_dispatcher();
            return true;
        }
        self.roles.pass_lead(tag);
        self.run_wakers(from_fn(|| harvest.wakers.pop()), abandoned)
    }

    /// Calls wakers, and drops abandoned requests: they count as outstanding until their files are closed.
    fn run_wakers(&self, wakers: impl Iterator<Item = Waker>, mut abandoned: List) -> bool {
        let _inside = Inside::enter(Frame::Other);
        for waker in wakers {
            if !self.call("a waker", || waker.wake()) {
                return false;
            }
        }
        while let Some(request) = abandoned.pop() {
            if !self.call("dropping an abandoned request", || request.finish()) {
                return false;
            }
            self.counters.end_completing(1);
        }
        true
    }

    /// Runs deferred user code, if no user code is on this thread's stack. Returns `false` in a forked child.
    #[inline]
    pub(super) fn run_deferred(&self) -> bool {
        !self.inbox.has_deferred() || self.run_what_was_deferred()
    }

    #[cold]
    fn run_what_was_deferred(&self) -> bool {
        while self.inbox.has_deferred() && user_code::innermost().is_none() {
            let (wakers, abandoned) = self.inbox.take_deferred();
            if !self.run_wakers(wakers.into_iter(), abandoned) {
                return false;
            }
            self.notify_if_idle();
        }
        true
    }

    fn keep_spare(&self, harvest: &mut Harvest) {
        let spare = harvest.wakers.spare().or_else(|| harvest.threads.spare());
        if let Some(spare) = spare
            && let Some(mut consumer) = self.consumer.try_lock()
        {
            consumer.spare = spare;
        }
    }

    /// Raises the eventfds of requests for which the kernel would raise them never, or more than once (I14).
    #[cold]
    pub(super) fn raise(&self, eventfds: Vec<Arc<OwnedFd>>) {
        for eventfd in eventfds {
            self.kernel.raise(&eventfd);
        }
    }

    /// Completes requests that were accepted and then refused by the kernel, or cancelled. They count as
    /// completing, their result is stored, and no event will come. Returns `false` in a forked child.
    #[inline]
    pub(super) fn fail(&self, late: List) -> bool {
        late.len() == 0 || self.fail_each(late)
    }

    #[cold]
    fn fail_each(&self, mut late: List) -> bool {
        while let Some(request) = late.pop() {
            let tag = request.tag();
            let mut harvest = Harvest::default();
            harvest.add_end(request, Ended::WithoutEvent, &self.polls, &mut Vec::new());
            if harvest.settled > 0 {
                // Rule 3 of `wait`: the watcher may be the leader and asleep, and no event will wake it.
                self.interrupt_leader(tag);
                self.counters
                    .end_completing(harvest.settled - harvest.abandoned.len());
            }
            self.pass_to_dispatcher(std::mem::take(&mut harvest.callbacks));
            self.raise(std::mem::take(&mut harvest.eventfds));
            if harvest.settled > 0 && !self.deliver_watched(&mut harvest, NOBODY) {
                return false;
            }
        }
        self.run_deferred()
    }

    /// Completes a watched request that will never be submitted.
    pub(crate) fn settle_unsubmitted(&self, mut request: OwnedCell, result: i64) {
        self.forget_poll(&request);
        let tag = request.tag();
        request.set_result(result);
        let _inside = Inside::enter(Frame::Other);
        match request.settle() {
            Settled::Quiet => {}
            Settled::Unpark(waker) => waker.wake(),
            Settled::Wake(waker) => {
                self.call("a waker", || waker.wake());
            }
            Settled::Abandoned(request) => {
                self.call("dropping an abandoned request", || request.finish());
            }
        }
        if self.is_here() {
            self.interrupt_leader(tag); // rule 3 of `wait`: no event comes
        }
    }

    /// Drops a request with a callback that will never be submitted.
    pub(crate) fn discard_unsubmitted(&self, request: OwnedCell) {
        self.forget_poll(&request);
        let _inside = Inside::enter(Frame::Other);
        self.call("dropping a request", || request.discard());
    }

    /// Takes a request that ends, or goes back to its owner, out of the list of polls. In a forked child that
    /// list is the parent's.
    pub(super) fn forget_poll(&self, request: &OwnedCell) {
        if self.is_here() {
            self.polls.remove(request);
        }
    }
}
