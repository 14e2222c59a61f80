//! What the crate's handles ask for: submit, start, wait, cancel.

use super::Engine;
use super::polls::Cancelled;
use super::reap::MOST;
use super::request::{Admitted, List, OwnedCell, TakenBack, Watch};
use super::roles::Role;
use super::submit::{Admission, BATCH, LARGE_BATCH, Refusal, unplug_all, unplug_all_before};
use crate::completion::{self, CANCELLED};
use crate::error::AioError;
use crate::op::Work;
use crate::sync::{sleep, yield_now};
use crate::user_code;
use std::io;
use std::time::{Duration, Instant};

/// How often the canceller asks the kernel without a pause, before it sleeps between its tries.
const PROMPT: u32 = 100;

/// The number by which a request with a callback can be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId {
    tag: u64,
    serial: u64,
}

impl Engine {
    /// Submits a request with a callback. `Err` returns the work, and its callback will never be called.
    pub(crate) fn submit<W: Work<Output = ()>>(
        &self,
        work: W,
    ) -> Result<RequestId, (io::Error, W)> {
        let (request, receipt) = OwnedCell::with_callback(work);
        let tag = request.tag();
        if let Err(error) = self.admit(&request) {
            return Err((error, receipt.redeem(request)));
        }
        let serial = self.polls.add(&request);
        if let Err((error, back)) = self.plug_or_send(request) {
            return Err((error, receipt.redeem(self.withdraw(back))));
        }
        self.after_submission(self.runs_callbacks_anywhere());
        Ok(RequestId { tag, serial })
    }

    /// Submits a request and returns its watch.
    pub(crate) fn start<W: Work>(&self, work: W) -> Result<Watch<W>, (io::Error, W)> {
        // Another thread may wait for it, so it is not held back; and what this thread submitted before
        // leaves before.
        unplug_all();
        let (request, watch) = OwnedCell::watched(work, false);
        if let Err(error) = self.admit(&request) {
            return Err((error, watch.redeem(request)));
        }
        self.polls.add(&request);
        if let Err((error, back)) = self.send_for_dispatcher(request) {
            return Err((error, watch.redeem(self.withdraw(back))));
        }
        self.after_submission(true);
        Ok(watch)
    }

    /// Submits a request and blocks until it is complete.
    pub(crate) fn submit_and_wait<W: Work>(&self, work: W) -> Result<W::Output, (io::Error, W)> {
        unplug_all(); // in the order in which this thread submitted
        let (request, watch) = OwnedCell::watched(work, true);
        if let Err(error) = self.admit(&request) {
            return Err((error, watch.redeem(request)));
        }
        self.polls.add(&request);
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
    /// watchers have taken back or cancelled. Returns those that the kernel refuses at once, with the reason.
    pub(crate) fn submit_list(&self, list: List) -> Vec<(io::Error, OwnedCell)> {
        unplug_all();
        let mut refused = Vec::new();
        let mut admitted = List::new();
        let mut for_dispatcher = 0;
        list.for_each(|request| match self.admit_of_batch(request) {
            Ok(Some(request)) => {
                for_dispatcher += isize::from(!request.reaps_itself());
                admitted.push(request);
            }
            Ok(None) => {}
            Err((error, request)) => refused.push((error, self.withdraw(request))),
        });
        self.counters.add_for_dispatcher(for_dispatcher);
        let mut back = 0;
        let mut refuse = |request: OwnedCell, why: Refusal| {
            back += isize::from(!request.reaps_itself());
            refused.push((why.into(), self.withdraw(request)));
        };
        match admitted.len() {
            0..=8 => self.send::<8>(admitted, Admission::New, &mut refuse),
            9..=BATCH => self.send::<BATCH>(admitted, Admission::New, &mut refuse),
            _ => self.send::<LARGE_BATCH>(admitted, Admission::New, &mut refuse),
        }
        self.counters.add_for_dispatcher(-back);
        self.notify_if_idle();
        self.after_submission(for_dispatcher > 0);
        refused
    }

    /// Returns `None` if its watcher has cancelled it or taken it back.
    #[inline]
    fn admit_of_batch(
        &self,
        request: OwnedCell,
    ) -> Result<Option<OwnedCell>, (io::Error, OwnedCell)> {
        // It goes into the list of polls before it counts as sent: from then on its watcher looks for it
        // there.
        let admitted = self.admit(&request);
        if admitted.is_ok() {
            self.polls.add(&request);
        }
        match (request.admit(), admitted) {
            (Admitted::Sent(request), Ok(())) => return Ok(Some(request)),
            (Admitted::Sent(request), Err(error)) => return Err((error, request)),
            (Admitted::Unwanted(request), _) => self.settle_unsubmitted(request, CANCELLED),
            (Admitted::TakenBack(taken), _) => self.let_go(taken),
        }
        Ok(None)
    }

    /// Drops the requests of a batch that is not submitted. A handle's result is ECANCELED.
    pub(crate) fn discard_batch(&self, list: List) {
        list.for_each(|request| match request.admit() {
            Admitted::Sent(request) if request.is_callback() => self.discard_unsubmitted(request),
            Admitted::Sent(request) | Admitted::Unwanted(request) => {
                self.settle_unsubmitted(request, CANCELLED);
            }
            Admitted::TakenBack(taken) => self.let_go(taken),
        });
    }

    fn let_go(&self, taken: TakenBack) {
        self.forget_poll(&taken.0);
        taken.let_go();
    }

    /// The last look before a request is submitted: is this the process that made the context (user code, the
    /// file's `as_fd`, ran just before), does the engine take requests, and is the eventfd an eventfd?
    #[inline]
    fn admit(&self, request: &OwnedCell) -> io::Result<()> {
        self.check()?;
        if request.has_eventfd_of_its_own() && !self.kernel.is_eventfd(request.eventfd()) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(())
    }

    /// Takes the request out of the list of polls, because it goes back to its owner.
    fn withdraw(&self, request: OwnedCell) -> OwnedCell {
        self.forget_poll(&request);
        request
    }

    /// A request may be complete already; with `help` this thread reaps it. A request that is not complete
    /// may need the dispatcher, which may be parked because it had nothing to wait for.
    #[inline]
    fn after_submission(&self, help: bool) {
        if help && user_code::innermost().is_none() {
            self.reap(Role::HELPER, MOST);
        }
        if self.is_here() {
            self.wake_idle_dispatcher();
        }
    }

    /// Reaps in passing.
    pub(crate) fn help(&self) {
        if self.is_here() {
            self.unplug();
            self.reap(Role::HELPER, MOST);
        }
    }

    /// Blocks until the result is there or the time is over. Returns whether it is there.
    pub(crate) fn wait<W: Work>(&self, watch: &mut Watch<W>, deadline: Option<Instant>) -> bool {
        unplug_all_before(deadline.is_some());
        self.wait_for(watch, deadline)
    }

    /// Completes a watched request that was refused.
    pub(crate) fn settle_refused(&self, request: OwnedCell, why: &io::Error) {
        self.settle_unsubmitted(request, completion::refused(why));
    }

    /// Cancels the request. Returns `false` if it is complete already. Blocks while another thread is inside
    /// `io_submit` with it.
    pub(crate) fn cancel<W: Work>(&self, watch: &Watch<W>) -> bool {
        if watch.cancel_unsubmitted() {
            return true;
        }
        unplug_all();
        let mut has_asked = false;
        for round in 0.. {
            // A submitter may have cancelled it for this thread meanwhile.
            if watch.is_done() {
                return has_asked && watch.was_cancelled();
            }
            match self.try_cancel(watch.tag(), None) {
                Some(true) => return true,
                // Its reaper has it, and has not stored the result yet.
                Some(false) => {}
                None => has_asked = true,
            }
            self.reap(Role::HELPER, MOST);
            if !self.is_here() {
                return false;
            }
            pause(round);
        }
        false
    }

    /// Cancels a request that has a callback. Returns `false` if it is complete.
    pub(crate) fn cancel_by_id(&self, id: RequestId) -> bool {
        unplug_all();
        for round in 0.. {
            if let Some(cancelled) = self.try_cancel(id.tag, Some(id.serial)) {
                return cancelled;
            }
            self.reap(Role::HELPER, MOST);
            if !self.is_here() {
                return false;
            }
            pause(round);
        }
        false
    }

    /// Cancels the request as soon as that is possible. Does not block.
    pub(crate) fn cancel_soon<W: Work>(&self, watch: &Watch<W>) {
        self.try_cancel(watch.tag(), None);
    }

    /// Returns whether the request was cancelled; `None` if another thread is inside `io_submit` with it, or
    /// its event is on the ring.
    fn try_cancel(&self, tag: u64, serial: Option<u64>) -> Option<bool> {
        match self.polls.cancel(tag, serial, &self.backlog, &self.kernel) {
            Cancelled::Queued(request) => {
                self.complete_cancelled(vec![request]);
                Some(true)
            }
            Cancelled::InKernel => Some(true),
            Cancelled::Later => None,
            Cancelled::Over => Some(false),
        }
    }

    /// Cancels all polls, as the kernel does at the end of a context.
    pub(crate) fn cancel_all(&self) {
        if self.polls.count() > 0 {
            self.complete_cancelled(self.polls.retry(true, &self.backlog, &self.kernel));
        }
    }
}

fn pause(round: u32) {
    if round < PROMPT {
        yield_now();
    } else {
        sleep(Duration::from_millis(1));
    }
}
