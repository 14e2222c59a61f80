//! What the crate's handles ask for: submit, start, wait, cancel.

use super::Engine;
use super::polls::Cancelled;
use super::reap::MOST;
use super::request::{Admitted, List, OwnedCell, TakenBack, Watch};
use super::roles::Role;
use super::submit::{Admission, BATCH, LARGE_BATCH, Refusal, unplug_all, unplug_all_before};
use crate::error::AioError;
use crate::op::Work;
use crate::sync::{sleep, yield_now};
use crate::user_code;
use std::io;
use std::time::{Duration, Instant};

/// How often the kernel is asked to cancel at once, before the canceller pauses between its questions.
const PROMPT: u32 = 100;

/// By what a request can be cancelled whose owner has only its callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId {
    tag: u64,
    serial: u64,
}

impl Engine {
    /// Submits a request with a callback. `Err` gives the work back, and its callback will never be called.
    pub(crate) fn submit<W: Work<Output = ()>>(
        &self,
        work: W,
    ) -> Result<RequestId, (io::Error, W)> {
        let (request, receipt) = OwnedCell::with_callback(work);
        let tag = request.tag();
        let accepted = self
            .admit(request)
            .and_then(|(request, serial)| self.plug_or_send(request).map(|()| serial));
        match accepted {
            Ok(serial) => {
                self.after_submission(self.runs_callbacks_anywhere());
                Ok(RequestId { tag, serial })
            }
            Err((error, back)) => Err((error, receipt.redeem(self.withdraw(back)))),
        }
    }

    /// Submits a request whose result will be asked for.
    pub(crate) fn start<W: Work>(&self, work: W) -> Result<Watch<W>, (io::Error, W)> {
        // It may be waited for on another thread: it can't stay behind in a batch of callbacks.
        unplug_all();
        let (request, watch) = OwnedCell::watched(work, false);
        let accepted = self
            .admit(request)
            .and_then(|(request, _)| self.send_for_dispatcher(request));
        match accepted {
            Ok(()) => {
                self.after_submission(true);
                Ok(watch)
            }
            Err((error, back)) => Err((error, watch.redeem(self.withdraw(back)))),
        }
    }

    /// Submits a request and blocks until it is complete.
    pub(crate) fn submit_and_wait<W: Work>(&self, work: W) -> Result<W::Output, (io::Error, W)> {
        unplug_all(); // first what this thread submitted first
        let (request, watch) = OwnedCell::watched(work, true);
        let accepted = self
            .admit(request)
            .and_then(|(request, _)| self.send_one(request));
        if let Err((error, back)) = accepted {
            return Err((error, watch.redeem(self.withdraw(back))));
        }
        let mut watch = match self.take_own(watch) {
            Ok(output) => return Ok(output),
            Err(watch) => watch,
        };
        self.wait_for(&mut watch, None);
        match watch.take() {
            Ok(output) => Ok(output),
            // User code forked in the middle of the wait, and this is the child.
            Err(watch) => Err((AioError::Forked.into(), watch.reclaim_in_child())),
        }
    }

    /// Submits many requests, in one `io_submit` where there are slots. Gives back those that the kernel
    /// refuses at once, with the reason.
    pub(crate) fn submit_list(&self, list: List) -> Vec<(io::Error, OwnedCell)> {
        let mut refused = Vec::new();
        let mut admitted = List::new();
        unplug_all();
        list.for_each(|request| match self.admit(request) {
            Ok((request, _)) => admitted.push(request),
            Err((error, request)) => refused.push((error, self.withdraw(request))),
        });
        let mut for_dispatcher = 0;
        let counted =
            admitted.inspect(|request| for_dispatcher += isize::from(!request.reaps_itself()));
        self.counters.add_for_dispatcher(for_dispatcher);
        let mut back = 0;
        let mut refuse = |request: OwnedCell, why: Refusal| {
            back += isize::from(!request.reaps_itself());
            refused.push((why.into(), self.withdraw(request)));
        };
        match counted.len() {
            0..=8 => self.send::<8>(counted, Admission::New, &mut refuse),
            9..=BATCH => self.send::<BATCH>(counted, Admission::New, &mut refuse),
            _ => self.send::<LARGE_BATCH>(counted, Admission::New, &mut refuse),
        }
        self.counters.add_for_dispatcher(-back);
        self.notify_if_idle();
        self.after_submission(for_dispatcher > 0);
        refused
    }

    /// Submits the requests of a batch, but for those that their watchers have taken back or cancelled.
    pub(crate) fn submit_batch(&self, list: List) -> Vec<(io::Error, OwnedCell)> {
        let mut sent = List::new();
        let mut unwanted = Vec::new();
        list.for_each(|request| {
            // Before it counts as sent: from then on its watcher looks for it there to cancel it.
            if self.is_here() {
                self.polls.add(&request);
            }
            match request.admit() {
                Admitted::Sent(request) => sent.push(request),
                Admitted::Unwanted(request) => unwanted.push(request),
                Admitted::TakenBack(taken) => self.let_go(taken),
            }
        });
        for request in unwanted {
            self.settle_unsubmitted(request, libc::ECANCELED);
        }
        self.submit_list(sent)
    }

    /// Drops the requests of a batch that is not submitted. A handle's result is ECANCELED.
    pub(crate) fn discard_batch(&self, list: List) {
        list.for_each(|request| match request.admit() {
            Admitted::Sent(request) if request.is_callback() => self.discard_unsubmitted(request),
            Admitted::Sent(request) | Admitted::Unwanted(request) => {
                self.settle_unsubmitted(request, libc::ECANCELED);
            }
            Admitted::TakenBack(taken) => self.let_go(taken),
        });
    }

    fn let_go(&self, taken: TakenBack) {
        self.forget_poll(&taken.0);
        taken.let_go();
    }

    /// The last look before a request is submitted: is this the process that made the context (user code, the
    /// file's `as_fd`, has run just now), does it take requests, and is the eventfd one?
    #[inline]
    fn admit(&self, request: OwnedCell) -> Result<(OwnedCell, u64), (io::Error, OwnedCell)> {
        if let Err(error) = self.check() {
            return Err((error.into(), request));
        }
        if request.has_eventfd_of_its_own() && !self.kernel.is_eventfd(request.eventfd()) {
            return Err((io::Error::from_raw_os_error(libc::EINVAL), request));
        }
        let serial = self.polls.add(&request);
        Ok((request, serial))
    }

    /// The request goes back to its owner.
    fn withdraw(&self, request: OwnedCell) -> OwnedCell {
        self.forget_poll(&request);
        request
    }

    /// What was submitted may be finished already, then it needs no other thread (`help`). What is not needs
    /// the dispatcher, which may be parked because it had nothing to wait for.
    #[inline]
    fn after_submission(&self, help: bool) {
        if help && user_code::innermost().is_none() {
            self.reap(Role::HELPER, MOST);
        }
        if self.is_here() {
            self.wake_idle_dispatcher();
        }
    }

    /// A look at the ring in passing.
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
        self.settle_unsubmitted(request, why.raw_os_error().unwrap_or(libc::ECANCELED));
    }

    /// Cancels the request, or finds it done. Returns `false` if it was done. Blocks while another thread is
    /// inside `io_submit` with it.
    pub(crate) fn cancel<W: Work>(&self, watch: &Watch<W>) -> bool {
        if watch.cancel_unsubmitted() {
            return true;
        }
        unplug_all();
        for round in 0.. {
            if watch.is_done() {
                return false;
            }
            match self.try_cancel(watch.tag(), None) {
                Some(cancelled) => return cancelled,
                None => self.reap(Role::HELPER, MOST),
            };
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

    /// `None`: another thread is inside `io_submit` with it, or its event is on the ring.
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

    /// Cancels all that can be cancelled, as the kernel does at the end of a context.
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
