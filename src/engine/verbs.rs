//! What the crate's handles ask for: submit, start, wait.

use super::Engine;
use super::cancel::RequestId;
use super::deliver::Unsubmitted;
use super::reap::MOST;
use super::refusal::{Admission, Refusal};
use super::request::{Admitted, Completions, List, OwnedCell, TakenBack, Watch};
use super::roles::Role;
use super::submit::{BATCH, LARGE_BATCH};
use super::unplug::{unplug_all, unplug_all_before};
use crate::completion::{self, CANCELLED};
use crate::dispatch::Dispatch;
use crate::error::AioError;
use crate::op::Work;
use crate::user_code::{self, Frame, Inside};
use std::io;
use std::time::Instant;

impl Engine {
    /// Submits a request with a callback. `Err` returns the work, and its callback will never be called.
    pub(crate) fn submit<W: Work<Output = ()>>(
        &self,
        work: W,
    ) -> Result<RequestId, (io::Error, W)> {
        let (request, receipt) = OwnedCell::with_callback(work);
        let tag = request.tag();
        // Any thread may cancel it, which a request that is held back can't be: so it leaves at once.
        let leaves_at_once = request.is_cancellable();
        if leaves_at_once {
            unplug_all();
        }
        let serial = match self.admit(&request) {
            Ok(serial) => serial,
            Err(error) => return Err((error, receipt.redeem(self.withdraw(request)))),
        };
        let sent = if leaves_at_once {
            self.send_for_dispatcher(request).map(|()| true)
        } else {
            self.plug_or_send(request)
        };
        match sent {
            Ok(false) => {}
            Ok(true) => self.after_submission(self.runs_callbacks_anywhere().into()),
            Err((error, back)) => return Err((error, receipt.redeem(self.withdraw(back)))),
        }
        Ok(RequestId { tag, serial })
    }

    /// Submits a request and returns its watch.
    pub(crate) fn start<W: Work>(&self, work: W) -> Result<Watch<W>, (io::Error, W)> {
        // Another thread may wait for it, so it is not held back; and what this thread submitted before
        // leaves before.
        unplug_all();
        let (request, watch) = OwnedCell::watched(work, false);
        if let Err(error) = self.admit(&request) {
            return Err((error, watch.redeem(self.withdraw(request))));
        }
        if let Err((error, back)) = self.send_for_dispatcher(request) {
            return Err((error, watch.redeem(self.withdraw(back))));
        }
        self.after_submission(1);
        Ok(watch)
    }

    /// Submits a request and blocks until it is complete.
    pub(crate) fn submit_and_wait<W: Work>(&self, work: W) -> Result<W::Output, (io::Error, W)> {
        unplug_all(); // in the order in which this thread submitted
        let (request, watch) = OwnedCell::watched(work, true);
        if let Err(error) = self.admit(&request) {
            return Err((error, watch.redeem(self.withdraw(request))));
        }
        if let Err((error, back)) = self.send_one(request) {
            return Err((error, watch.redeem(self.withdraw(back))));
        }
        let mut watch = match self.take_own(watch) {
            Ok(output) => return Ok(output),
            Err(watch) => watch,
        };
        self.wait_for(&mut watch, None);
        match watch.take() {
            Ok(output) => Ok(output),
            // User code forked during the wait, and this is the child.
            Err(watch) => Err((AioError::Forked.into(), watch.reclaim_in_child())),
        }
    }

    /// Submits many requests, in one `io_submit` where there are slots, except those of a batch that their
    /// watchers have taken back or cancelled. Returns those with a callback that the kernel refuses at once,
    /// with the reason; a watched one that is refused completes with it.
    ///
    /// User code may wait for any request of the list, so it runs only when all of them have left.
    pub(crate) fn submit_list(&self, list: List) -> Vec<(io::Error, OwnedCell)> {
        self.submit_list_as(list, Admission::New)
    }

    /// As `submit_list`, but what stands behind a refused one is not submitted.
    pub(crate) fn submit_list_until_refused(&self, list: List) -> Vec<(io::Error, OwnedCell)> {
        self.submit_list_as(list, Admission::NewUntilRefused)
    }

    fn submit_list_as(&self, list: List, admission: Admission) -> Vec<(io::Error, OwnedCell)> {
        unplug_all();
        let before = self.transfers_in_flight();
        let inside = Inside::enter(Frame::Other); // what is found meanwhile is deferred
        let mut unsubmitted = Unsubmitted::default();
        let mut refused = Vec::new();
        let admitted = self.admit_list(list, admission, &mut unsubmitted, &mut refused);
        let for_dispatcher = self.send_admitted(admitted, admission, &mut refused);
        let refused = self.settle_refused(refused, &mut unsubmitted);
        drop(inside);
        if self.is_here() {
            self.notify_if_idle();
            self.after_submission(for_dispatcher);
            if for_dispatcher > 0 {
                self.note_medium(before);
            }
        }
        self.end_unsubmitted(unsubmitted);
        refused
    }

    /// Sees whether the files of a list that has just left answer inside the call: then no more transfers are
    /// in flight than before. Only where this thread has reaped since, and no other one does.
    fn note_medium(&self, before: usize) {
        let reaps_alone = self.dispatch == Dispatch::Manual && user_code::innermost().is_none();
        if reaps_alone && self.backlog.len() == 0 {
            self.medium.note(self.transfers_in_flight() <= before);
        }
    }

    /// How many requests of a list had better leave together.
    pub(crate) fn group_of_batch(&self) -> usize {
        self.medium.group(self.transfers_in_flight())
    }

    /// How many requests are in flight, but those that wait for readiness.
    fn transfers_in_flight(&self) -> usize {
        let in_use = usize::try_from(self.slots.in_use()).unwrap_or(usize::MAX);
        in_use.saturating_sub(self.polls.count())
    }

    /// Returns what is to be submitted.
    fn admit_list(
        &self,
        list: List,
        admission: Admission,
        unwanted: &mut Unsubmitted,
        refused: &mut Vec<(io::Error, OwnedCell)>,
    ) -> List {
        let mut admitted = List::new();
        let stops = admission == Admission::NewUntilRefused;
        list.for_each(|request| {
            // It goes into the list of polls before it counts as sent: from then on its watcher looks for it
            // there.
            let checked = self.admit(&request);
            match (request.admit(), checked) {
                (Admitted::Sent(request), Ok(_)) if stops && !refused.is_empty() => {
                    refused.push((AioError::NotSubmitted.into(), self.withdraw(request)));
                }
                (Admitted::Sent(request), Ok(_)) => admitted.push(request),
                (Admitted::Sent(request), Err(error)) => {
                    refused.push((error, self.withdraw(request)));
                }
                (Admitted::Unwanted(request), _) => self.settle(request, CANCELLED, unwanted),
                (Admitted::TakenBack(taken), _) => self.let_go(taken),
            }
        });
        admitted
    }

    /// Returns how many need the dispatcher.
    fn send_admitted(
        &self,
        list: List,
        admission: Admission,
        refused: &mut Vec<(io::Error, OwnedCell)>,
    ) -> usize {
        let mut for_dispatcher = 0;
        let list = list.inspect(|request| for_dispatcher += isize::from(!request.reaps_itself()));
        self.send_new(list, for_dispatcher, admission, refused);
        for_dispatcher.unsigned_abs()
    }

    /// `for_dispatcher` of them need the dispatcher.
    fn send_new(
        &self,
        list: List,
        for_dispatcher: isize,
        admission: Admission,
        refused: &mut Vec<(io::Error, OwnedCell)>,
    ) {
        self.counters.add_for_dispatcher(for_dispatcher);
        let mut back = 0;
        let mut refuse = |request: OwnedCell, why: Refusal| {
            back += isize::from(!request.reaps_itself());
            refused.push((why.into(), self.withdraw(request)));
        };
        match list.len() {
            0..=8 => self.send::<8>(list, admission, &mut refuse),
            9..=BATCH => self.send::<BATCH>(list, admission, &mut refuse),
            _ => self.send::<LARGE_BATCH>(list, admission, &mut refuse),
        }
        self.counters.add_for_dispatcher(-back);
    }

    /// Drops the requests of a batch that is not submitted. A handle's result is ECANCELED.
    pub(crate) fn discard_batch(&self, list: List) {
        let mut discarded = Unsubmitted::default();
        list.for_each(|request| match request.admit() {
            Admitted::Sent(request) | Admitted::Unwanted(request) => {
                self.settle(request, CANCELLED, &mut discarded);
            }
            Admitted::TakenBack(taken) => self.let_go(taken),
        });
        self.end_unsubmitted(discarded);
    }

    fn let_go(&self, taken: TakenBack) {
        self.forget_request(&taken.0);
        taken.let_go();
    }

    /// The last look before a request is submitted: is this the process that made the context (user code, the
    /// file's `as_fd`, ran just before), does the engine take requests, and is the eventfd an eventfd? Adds
    /// the request to the list of polls, if it can be cancelled, and returns its serial number there.
    #[inline]
    fn admit(&self, request: &OwnedCell) -> io::Result<u64> {
        self.check()?;
        self.observer.meet(request);
        if request.is_plain() {
            return Ok(0);
        }
        self.admit_special(request)
    }

    #[inline(never)]
    fn admit_special(&self, request: &OwnedCell) -> io::Result<u64> {
        if request.has_eventfd_of_its_own() && !self.kernel.is_eventfd(request.eventfd()) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let serial = self.polls.add(request);
        if serial != 0 {
            // A thread that closes the context says so and then goes through the list: either it finds the
            // request there, or this thread sees that it is closing.
            self.check()?;
        }
        Ok(serial)
    }

    /// Takes the request out of the lists that it is in, because it goes back to its owner.
    fn withdraw(&self, request: OwnedCell) -> OwnedCell {
        self.forget_request(&request);
        request
    }

    /// Requests may be complete already: this thread reaps about as many as it has submitted that may be
    /// reaped here. A request that is not complete may need the dispatcher, which may be parked because it
    /// had nothing to wait for.
    #[inline]
    fn after_submission(&self, submitted: usize) {
        if submitted > 0 && user_code::innermost().is_none() {
            self.reap_as_many(submitted);
        }
        if self.is_here() && self.run_deferred() {
            self.wake_idle_dispatcher();
        }
    }

    /// Not until the ring is empty: under `Dispatch::Anywhere` callbacks may submit for ever.
    #[inline]
    fn reap_as_many(&self, submitted: usize) {
        let mut left = submitted;
        while self.reap(Role::BYSTANDER, MOST) >= MOST && left > MOST && self.is_here() {
            left -= MOST;
        }
    }

    /// Reaps in passing.
    pub(crate) fn help(&self) {
        if self.is_here() {
            self.unplug();
            self.reap(Role::BYSTANDER, MOST);
            self.run_deferred();
        }
    }

    /// Blocks until the result is there or the time is over. Returns whether it is there.
    pub(crate) fn wait<W: Work>(&self, watch: &mut Watch<W>, deadline: Option<Instant>) -> bool {
        unplug_all_before(deadline.is_some());
        if self.is_here() {
            // User code, so not as a follower: a leader that goes relies on those.
            watch.forget_waker();
        }
        self.wait_for(watch, deadline)
    }

    /// How many requests of a queue leave together, with so many that are made and have not arrived.
    #[inline]
    pub(crate) fn group(&self, is_first: bool, under_way: usize) -> usize {
        if is_first {
            self.medium.first_group()
        } else {
            self.medium.group(under_way)
        }
    }

    /// Submits requests of a queue. What is refused arrives there, with the reason as its result.
    #[inline]
    pub(crate) fn submit_queued<W: Work>(
        &self,
        list: List,
        are_plain: bool,
        queue: &Completions<W>,
    ) {
        let (count, before) = (list.len() as u64, queue.arrived());
        if are_plain && self.observes_every() == 0 {
            self.submit_plain(list);
        } else {
            let with_callbacks = self.submit_list(list);
            debug_assert!(with_callbacks.is_empty());
        }
        if self.is_here() {
            self.medium.note(queue.arrived() - before >= count);
        }
    }

    /// As `submit_list`, for requests of a queue with nothing to them that must be looked at before.
    #[inline]
    fn submit_plain(&self, list: List) {
        unplug_all();
        let inside = Inside::enter(Frame::Other); // what is found meanwhile is deferred
        let count = list.len();
        let refused = self.send_plain(list);
        drop(inside);
        if !refused.is_empty() {
            self.end_refused(refused);
        } else if self.is_here() {
            self.after_submission(count);
        }
    }

    /// Returns what is refused.
    #[inline]
    fn send_plain(&self, mut list: List) -> Vec<(io::Error, OwnedCell)> {
        let mut refused = Vec::new();
        match (self.check(), list.len()) {
            (Ok(()), 1) => {
                let sent = list.pop().map(|request| self.send_for_dispatcher(request));
                refused.extend(sent.and_then(Result::err));
            }
            (Ok(()), count) => {
                self.send_new(list, count.cast_signed(), Admission::New, &mut refused);
            }
            (Err(error), _) => list.for_each(|request| refused.push((error.into(), request))),
        }
        refused
    }

    /// Stores the results of requests of a queue, of which some were refused.
    #[cold]
    fn end_refused(&self, refused: Vec<(io::Error, OwnedCell)>) {
        let mut unsubmitted = Unsubmitted::default();
        let with_callbacks = self.settle_refused(refused, &mut unsubmitted);
        debug_assert!(with_callbacks.is_empty());
        if self.is_here() {
            self.notify_if_idle();
            self.after_submission(MOST);
        }
        self.end_unsubmitted(unsubmitted);
    }

    /// Blocks until so many requests have arrived in a queue since the beginning, or the time is over.
    /// Returns an error if no more can come.
    pub(crate) fn wait_for_arrivals<W: Work>(
        &self,
        queue: &Completions<W>,
        target: u64,
        deadline: Option<Instant>,
    ) -> Result<(), AioError> {
        unplug_all_before(deadline.is_some());
        self.check_origin()?;
        let mut quorum = queue.quorum(target);
        let is_there = self.wait_for(&mut quorum, deadline);
        self.check_origin()?;
        quorum.forget_thread();
        match is_there {
            false if self.is_lost() => Err(AioError::ContextGone),
            _ => Ok(()),
        }
    }

    /// Stores the results of watched requests that were refused. Returns the others.
    fn settle_refused(
        &self,
        refused: Vec<(io::Error, OwnedCell)>,
        unsubmitted: &mut Unsubmitted,
    ) -> Vec<(io::Error, OwnedCell)> {
        let mut with_callbacks = Vec::new();
        for (error, request) in refused {
            if request.is_callback() {
                with_callbacks.push((error, request));
            } else {
                self.settle(request, completion::refused(&error), unsubmitted);
            }
        }
        with_callbacks
    }
}
