//! Calling user code: wakers, and destructors of requests that were abandoned (their watcher has gone).
//! (`dispatch` in `reap` calls callbacks, because what they submit must leave afterwards.)
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
use super::roles::{NO_LEADER, Role};
use crate::completion::CANCELLED;
use crate::user_code::{self, Frame, Inside};
use std::iter::from_fn;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::task::Waker;

/// Requests that end without having been submitted: what is left to do for them is user code.
#[derive(Debug, Default)]
pub(crate) struct Unsubmitted {
    tags: Vec<u64>,
    threads: Vec<Waker>,
    wakers: Vec<Waker>,
    abandoned: List,
    callbacks: List,
}

impl Engine {
    /// Runs user code in a frame (`user_code::Frame`) that the caller has entered. Returns whether this is
    /// still the process that made the context.
    #[inline]
    pub(super) fn call(&self, what: &str, run: impl FnOnce()) -> bool {
        if user_code::catch_of(|| self.name(), what, run).is_none() {
            self.collect_panics();
        }
        self.is_here()
    }

    /// Runs a request's callback, or drops what an abandoned request owns. As `call`.
    #[inline(always)]
    pub(super) fn finish_request(&self, what: &str, request: OwnedCell) -> bool {
        if request.is_observed() {
            return self.finish_observed(what, request);
        }
        self.call(what, || request.finish())
    }

    #[cold]
    #[inline(never)]
    fn finish_observed(&self, what: &str, request: OwnedCell) -> bool {
        let running = self.observer.run(&request);
        let is_here = self.call(what, || request.finish());
        if is_here {
            self.observer.end(&running);
        }
        is_here
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
            let counted = std::mem::take(&mut harvest.are_wakers_counted);
            self.counters.end_completing(counted.into());
            self.wake_dispatcher();
            return true;
        }
        self.roles.pass_lead(tag);
        self.wake_and_drop(from_fn(|| harvest.wakers.pop()), abandoned)
    }

    /// Calls wakers, and drops abandoned requests: they count as outstanding until their files are closed.
    fn wake_and_drop(&self, wakers: impl Iterator<Item = Waker>, mut abandoned: List) -> bool {
        self.dispatcher.note_delivery();
        let _inside = Inside::enter(Frame::Other);
        if !self.wake_each(wakers) {
            return false;
        }
        while let Some(request) = abandoned.pop() {
            if !self.finish_request("dropping an abandoned request", request) {
                return false;
            }
            self.counters.end_completing(1);
        }
        true
    }

    /// Calls wakers, in the caller's frame. Returns `false` in a forked child: there the rest is the parent's,
    /// and forgotten.
    fn wake_each(&self, wakers: impl Iterator<Item = Waker>) -> bool {
        let mut is_here = true;
        wakers.for_each(|waker| match is_here {
            true => is_here = self.call("a waker", || waker.wake()),
            false => std::mem::forget(waker),
        });
        is_here
    }

    /// Runs deferred user code, if no user code is on this thread's stack. Returns `false` in a forked child.
    #[inline]
    pub(super) fn run_deferred(&self) -> bool {
        !self.inbox.has_deferred() || self.run_what_was_deferred()
    }

    #[cold]
    fn run_what_was_deferred(&self) -> bool {
        while self.is_here() && self.inbox.has_deferred() && user_code::innermost().is_none() {
            self.roles.pass_lead(NO_LEADER); // user code may wait: another thread has to lead
            let (wakers, abandoned) = self.inbox.take_deferred();
            let has_completed = abandoned.len() > 0;
            if !self.wake_and_drop(wakers.into_iter(), abandoned) {
                return false;
            }
            // Only then: a task that was woken and waits on for the end would be woken again and again, and
            // keep this thread from bringing that about.
            if has_completed {
                self.notify_if_idle();
            }
        }
        self.is_here()
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
    /// completing, their result is stored, and no event will come.
    ///
    /// It runs no user code: its caller may be in the middle of a submission. Wakers and destructors are
    /// deferred, and `run_deferred` follows where the caller has come out of that.
    #[inline]
    pub(super) fn fail(&self, late: List) {
        if late.len() > 0 && self.is_here() {
            self.fail_each(late);
        }
    }

    #[cold]
    fn fail_each(&self, mut late: List) {
        let _deferring = Inside::enter(Frame::Other);
        while let Some(request) = late.pop() {
            let tag = request.awaited_by();
            let mut harvest = Harvest::default();
            let lists = (&self.polls, &self.observer);
            harvest.add_end(request, Ended::WithoutEvent, lists, &mut Vec::new());
            harvest.put_arriving(&mut Vec::new());
            self.pass_to_dispatcher(std::mem::take(&mut harvest.callbacks));
            self.raise_checked(std::mem::take(&mut harvest.eventfds));
            if harvest.settled > 0 {
                // Rule 3 of `wait`: the watcher may be the leader and asleep, and no event will wake it.
                self.interrupt_leader(tag);
                self.counters
                    .end_completing(harvest.settled - harvest.abandoned.len());
                self.deliver_watched(&mut harvest, NO_LEADER);
            }
        }
    }

    /// The kernel may have refused the request because its eventfd is none. The request still counts as
    /// completing, so the context is there to be asked.
    fn raise_checked(&self, mut eventfds: Vec<Arc<OwnedFd>>) {
        eventfds.retain(|eventfd| self.kernel.is_eventfd(eventfd.as_raw_fd().cast_unsigned()));
        self.raise(eventfds);
    }

    /// Stores the result of a request that will never be submitted; a callback is only set aside. Runs no user
    /// code: `end_unsubmitted` does, when the results of all requests at hand are stored.
    pub(crate) fn settle(&self, mut request: OwnedCell, result: i64, rest: &mut Unsubmitted) {
        self.forget_request(&request);
        if request.is_callback() {
            return rest.callbacks.push(request);
        }
        rest.tags.push(request.awaited_by());
        request.set_result(result);
        match request.settle() {
            Settled::Quiet => {}
            Settled::Unpark(waker) => rest.threads.push(waker),
            Settled::Wake(waker) => rest.wakers.push(waker),
            Settled::Abandoned(request) => rest.abandoned.push(request),
        }
    }

    /// Wakes what waits for requests that will never be submitted, and drops those whose owners have gone.
    pub(crate) fn end_unsubmitted(&self, unsubmitted: Unsubmitted) {
        let Unsubmitted {
            tags,
            threads,
            wakers,
            mut abandoned,
            mut callbacks,
        } = unsubmitted;
        if self.is_here() {
            threads.into_iter().for_each(Waker::wake);
            // Rule 3 of `wait`: no event comes.
            tags.into_iter().for_each(|tag| self.interrupt_leader(tag));
        }
        let inside = Inside::enter(Frame::Other);
        let mut is_here = self.wake_each(wakers.into_iter());
        while is_here && let Some(request) = abandoned.pop() {
            is_here = self.call("dropping an abandoned request", || request.finish());
        }
        // What was never submitted is a forked child's own.
        while let Some(request) = callbacks.pop() {
            is_here = self.call("dropping a request", || request.discard());
        }
        drop(inside);
        if is_here && self.is_here() {
            self.run_deferred();
        }
    }

    /// Drops a request with a callback that will never be submitted.
    pub(crate) fn discard_unsubmitted(&self, request: OwnedCell) {
        let mut discarded = Unsubmitted::default();
        self.settle(request, CANCELLED, &mut discarded);
        self.end_unsubmitted(discarded);
    }

    /// Takes a request that ends, or goes back to its owner, out of the lists of polls and of what is observed.
    /// In a forked child those lists are the parent's.
    pub(super) fn forget_request(&self, request: &OwnedCell) {
        if self.is_here() {
            self.polls.remove(request);
            self.observer.forget(request);
        }
    }
}
