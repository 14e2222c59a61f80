//! From an accepted request to the kernel: slots and backlog. `submission` has the calls themselves.
//!
//! The short way, if a slot is free and the backlog is empty: one `io_submit` on the submitting thread. The
//! long way: the request goes behind the backlog, and a thread that frees a slot pumps it from there. Inside
//! a callback: the plug holds requests back, and then all of them go the short way at once.
//!
//! `io_submit` may block for any time (buffered or extending I/O, a frozen file system). Meanwhile the
//! calling thread holds its slots and, if it pumps, the pump; it holds no lock, and neither leads nor
//! consumes. A thread with a deadline calls no `io_submit` that may block: it leaves that to the helper
//! thread.

use super::clock;
use super::iocb_array::IocbArray;
use super::refusal::{Admission, Refusal};
use super::request::{List, OwnedCell};
use super::submission::{FirstCall, SubmitOutcome};
use super::{Engine, threads};
use crate::user_code;
use std::io;

/// Requests in one `io_submit`: beyond this a larger group gains nothing measurable (DESIGN.md, "Numbers").
pub(super) const BATCH: usize = 64;
/// The same where a user asks for many at once: the kernel merges adjacent ones within one call.
pub(super) const LARGE_BATCH: usize = 1024;

impl Engine {
    pub(super) fn send_for_dispatcher(
        &self,
        request: OwnedCell,
    ) -> Result<(), (io::Error, OwnedCell)> {
        self.counters.add_for_dispatcher(1);
        self.send_one(request)
            .inspect_err(|_| self.counters.add_for_dispatcher(-1))
    }

    /// Submits one request: by an `io_submit` of its own if a slot is free and the backlog is empty, else
    /// through the backlog.
    #[inline]
    pub(super) fn send_one(&self, request: OwnedCell) -> Result<(), (io::Error, OwnedCell)> {
        let mut refused = None;
        self.send_single(request, Admission::New, |request, why| {
            refused = Some((why.into(), request));
        });
        let Some(refused) = refused else {
            return Ok(());
        };
        self.notify_if_idle(); // it counted as outstanding for a moment
        Err(refused)
    }

    #[inline]
    fn send_single(
        &self,
        request: OwnedCell,
        admission: Admission,
        refused: impl FnMut(OwnedCell, Refusal),
    ) {
        if self.backlog.len() == 0 && self.slots.take(1) == 1 {
            let mut array = IocbArray::from(request);
            let (_, later) = self.send_array(&mut array, List::new(), admission, refused);
            debug_assert!(later.is_none(), "nothing follows");
        } else {
            self.queue(List::of(request), admission, refused);
        }
    }

    /// Submits requests from the plug, and sees whether their files answer inside the call. `Ok` was returned
    /// for them, so a refusal by the kernel is their result.
    #[inline]
    pub(super) fn send_plugged(&self, plugged: List) {
        let count = plugged.len();
        if count == 0 {
            return;
        }
        if self.is_lost() {
            return self.send_at_once(plugged); // the ring may be unmapped
        }
        // The ring stays where it is: the callbacks that submitted these count as completing until afterwards.
        let before = self.kernel.completions();
        self.send_at_once(plugged);
        if self.is_here() && self.backlog.len() == 0 {
            let completed = self.kernel.completed_since(before);
            self.medium.note(completed >= count);
        }
    }

    /// As `send_plugged`, without a look at the files.
    #[inline]
    pub(super) fn send_at_once(&self, mut plugged: List) {
        match plugged.len() {
            0 => {}
            1 => plugged
                .pop()
                .into_iter()
                .for_each(|request| self.send_one_accepted(request)),
            2..=8 => self.send_accepted::<8>(plugged),
            _ => self.send_accepted::<BATCH>(plugged),
        }
    }

    /// Submits requests again that go on. They count as completing until the kernel or the backlog has them.
    pub(super) fn send_again(&self, unfinished: List) {
        let count = unfinished.len();
        if count > 0 {
            self.counters.resuming.add(count);
            self.send_accepted::<8>(unfinished);
            self.counters.resuming.take_back(count);
            self.counters.resumed.add(count);
            self.counters.end_completing(count);
            self.notify_if_idle();
        }
    }

    #[inline]
    fn send_one_accepted(&self, request: OwnedCell) {
        let mut late = List::new();
        self.send_single(request, Admission::Accepted, |request, why| {
            late.push(self.refuse_late(request, why));
        });
        self.fail(late);
    }

    /// Submits requests for which `Ok` was returned: a refusal is their result.
    #[inline]
    fn send_accepted<const N: usize>(&self, list: List) {
        let mut late = List::new();
        self.send::<N>(list, Admission::Accepted, |request, why| {
            late.push(self.refuse_late(request, why));
        });
        self.fail(late);
    }

    /// Submits in order while slots are free. The rest goes behind the backlog. What is left to do then comes
    /// last: a logger is user code, and what it submits must not overtake the list.
    #[inline]
    pub(super) fn send<const N: usize>(
        &self,
        mut list: List,
        admission: Admission,
        mut refused: impl FnMut(OwnedCell, Refusal),
    ) {
        let mut left_to_do = Vec::new();
        while list.len() > 0 && self.backlog.len() == 0 {
            if !self.is_here() {
                return; // a logger forked, and this is the child
            }
            let slots = self.slots.take(list.len().min(N));
            if slots == 0 {
                break;
            }
            let mut array = IocbArray::<N>::of(&mut list, slots);
            if admission == Admission::NewUntilRefused {
                array.stop_at_refusal();
            }
            let later;
            (list, later) = self.send_array(&mut array, list, admission, &mut refused);
            left_to_do.extend(later);
        }
        if list.len() > 0 && self.is_here() {
            self.queue(list, admission, refused);
        }
        if !left_to_do.is_empty() {
            self.conclude_submissions(left_to_do);
        }
    }

    /// For calls after which more of the list was to leave: now all of it has.
    #[cold]
    #[inline(never)]
    fn conclude_submissions(&self, outcomes: Vec<SubmitOutcome>) {
        if self.is_here() {
            self.pump_if_queued(); // slots were refunded: see `refund`
        }
        let is_here = |_: &SubmitOutcome| self.is_here(); // a logger may fork
        let outcomes = outcomes.into_iter().take_while(is_here);
        outcomes.for_each(|outcome| self.conclude_submission(outcome));
    }

    /// Submits an array for which slots were taken. If the kernel has no room for some of it, those requests
    /// and `following` go behind the backlog. Otherwise returns `following`, and if there is some, what is left
    /// to do when all of it has left.
    #[inline]
    fn send_array<const N: usize>(
        &self,
        array: &mut IocbArray<N>,
        following: List,
        admission: Admission,
        mut refused: impl FnMut(OwnedCell, Refusal),
    ) -> (List, Option<SubmitOutcome>) {
        if admission.is_new() && self.counters.is_closing() {
            self.turn_away(array, following, &mut refused);
            return (List::new(), None);
        }
        let may_be_cancelled = array.is_followed();
        let first = self.begin_submission(array);
        if first.took_all && first.trouble.is_none() && !may_be_cancelled {
            return (following, None);
        }
        self.send_rest(first, array, following, &mut refused)
    }

    #[cold]
    fn turn_away<const N: usize>(
        &self,
        array: &mut IocbArray<N>,
        following: List,
        refused: &mut impl FnMut(OwnedCell, Refusal),
    ) {
        self.refund(array.len());
        let why = Refusal::of_closed(self.is_lost());
        let all = std::iter::from_fn(|| array.pop());
        all.for_each(|request| refused(request, why));
        following.for_each(|request| refused(request, why));
    }

    /// What `send_array` has to do where one call did not do it.
    #[inline(never)]
    fn send_rest<const N: usize>(
        &self,
        first: FirstCall,
        array: &mut IocbArray<N>,
        following: List,
        refused: &mut impl FnMut(OwnedCell, Refusal),
    ) -> (List, Option<SubmitOutcome>) {
        let mut outcome = self.end_submission(first, array, refused);
        let mut rest = std::mem::take(&mut outcome.rest);
        if rest.len() == 0 {
            if following.len() > 0 && !array.has_stopped() {
                self.slots.refund(outcome.unused); // a pump would log in the middle of the list
                return (following, Some(outcome));
            }
            self.refund(outcome.unused);
            self.conclude_submission(outcome);
            following.for_each(|request| refused(request, Refusal::Behind));
            return (List::new(), None);
        }
        rest.append(following);
        self.backlog.push(rest);
        self.refund(outcome.unused);
        self.conclude_submission(outcome);
        if self.is_here() {
            self.pump();
        }
        (List::new(), None)
    }

    fn queue(&self, list: List, admission: Admission, mut refused: impl FnMut(OwnedCell, Refusal)) {
        let may_be_cancelled = list.is_followed();
        let refuse = || admission.is_new() && self.counters.is_closing();
        match self.backlog.push_unless(list, refuse) {
            // The last reaping thread may have looked at the backlog just before. With nothing in flight no
            // thread would look again, so this one pumps.
            Ok(()) => {
                self.pump();
                self.retry_cancelling(may_be_cancelled);
                self.warn_of_idle_polls();
            }
            Err(list) => {
                let why = Refusal::of_closed(self.is_lost());
                list.for_each(|request| refused(request, why));
            }
        }
    }

    /// Submits from the backlog while slots are free, unless another thread is pumping. Returns whether the
    /// kernel took or refused something.
    pub(super) fn pump(&self) -> bool {
        let mut progress = false;
        while let Some(mut list) = self.backlog.begin(BATCH, |wanted| self.slots.take(wanted)) {
            let taken = list.len();
            let mut late = List::new();
            let mut array = IocbArray::<BATCH>::of(&mut list, taken);
            let first = self.begin_submission(&mut array);
            let mut outcome = self.end_submission(first, &mut array, &mut |request, why| {
                late.push(self.refuse_late(request, why));
            });
            let rest = std::mem::take(&mut outcome.rest);
            let stuck = rest.len() > 0;
            progress |= rest.len() < taken;
            self.backlog.end(taken - rest.len(), rest);
            self.slots.refund(outcome.unused);
            self.fail(late);
            // An accepted request may be complete by now, and the thread that reaped it saw it as queued.
            self.notify_if_idle();
            self.conclude_submission(outcome);
            // If the kernel has no room, the thread that reaps what is in flight pumps. It may have come and
            // gone already: then nothing is in flight, and this thread goes on.
            if (stuck && self.slots.in_use() > 0) || !self.is_here() {
                return progress;
            }
        }
        progress
    }

    #[inline]
    pub(super) fn pump_if_queued(&self) {
        if self.backlog.len() > 0 {
            self.pump();
        }
    }

    /// Whether requests are in flight.
    #[inline]
    pub(crate) fn is_in_use(&self) -> bool {
        self.slots.in_use() > 0
    }

    /// Whether requests wait for a slot.
    #[inline]
    pub(crate) fn has_queued(&self) -> bool {
        self.backlog.len() > 0
    }

    /// Takes a slot for another context, if one is free. `end_reservation` follows.
    pub(crate) fn reserve_slot(&self) -> bool {
        self.slots.take(1) == 1
    }

    /// The slot is ceded for good, or given back.
    pub(crate) fn end_reservation(&self, is_ceded: bool) {
        if is_ceded {
            self.slots.cede();
        } else {
            self.refund(1);
        }
        self.notify_if_idle(); // it counted as outstanding for a moment
    }

    #[inline]
    fn refund(&self, slots: usize) {
        if slots > 0 {
            self.slots.refund(slots);
            // Another thread may have queued a request because these slots were taken. (Inside a pump this
            // call finds that a thread pumps, and the pump looks again.)
            self.pump_if_queued();
        }
    }

    /// Starts the helper and logs what went wrong. To be called when this thread holds neither slots nor the
    /// pump, because a logger is user code, and where no helper thread can be started this thread submits.
    #[inline]
    fn conclude_submission(&self, outcome: SubmitOutcome) {
        self.offload(outcome.offload);
        self.retry_cancelling(outcome.may_be_cancelled);
        if let Some(trouble) = outcome.trouble {
            clock::report(&self.config.thread_name, &trouble);
            self.collect_panics();
        }
    }

    /// Cancels requests that a canceller looked for while this thread was moving them.
    #[inline]
    fn retry_cancelling(&self, may_be_cancelled: bool) {
        if may_be_cancelled && self.is_here() && self.polls.has_unfinished() {
            self.complete_cancelled(self.polls.retry(false, &self.backlog, &self.kernel));
        }
    }

    /// Completes requests that were cancelled while they were queued.
    pub(super) fn complete_cancelled(&self, cancelled: Vec<OwnedCell>) {
        let mut ended = List::new();
        for mut request in cancelled {
            request.set_result(-i64::from(libc::ECANCELED));
            self.counters.begin_completing_without_event(1);
            self.backlog.forget(1);
            ended.push(request);
        }
        self.fail(ended);
    }

    fn warn_of_idle_polls(&self) {
        let (polls, slots) = (self.polls.count(), self.slots.own());
        if polls as u64 >= slots && self.polls.is_first_warning() {
            user_code::warn(format_args!(
                "{}: {polls} waits for readiness are under way and hold all {slots} slots: other requests wait \
                 until one of them fires; build the context with a larger depth, or use another one for polls",
                self.config.thread_name
            ));
        }
    }

    /// Lets the helper thread submit `list` again, without NOWAIT. The requests count as completing already.
    pub(super) fn offload(&self, list: List) {
        if list.len() == 0 {
            return;
        }
        let list = list.inspect(OwnedCell::allow_blocking);
        if self.helper.put(list) {
            self.start_helper();
        }
    }

    /// Lets the helper thread pump.
    pub(super) fn pump_elsewhere(&self) {
        if self.helper.ask_to_pump() {
            self.start_helper();
        }
    }

    fn start_helper(&self) {
        let Some(engine) = self.me.upgrade() else {
            return self.help_out(false);
        };
        let hook = self.config.on_thread_start.clone();
        let started = threads::start(self.name(), "kiocb-helper", hook, move || {
            engine.help_out(true)
        });
        if let Err(error) = started {
            user_code::warn(format_args!(
                "{}: no helper thread for requests that block ({error}): submitting them here",
                self.name()
            ));
            self.help_out(false);
        }
    }

    fn help_out(&self, linger: bool) {
        self.collect_panics(); // of the hook
        while self.is_here()
            && let Some(work) = self.helper.take(linger)
        {
            self.send_again(work.list);
            if work.pump && self.is_here() {
                self.pump();
            }
            self.run_deferred();
        }
    }
}
