//! From an accepted request to the kernel: slots, backlog, partial acceptance.
//!
//! The short way, for a request that finds a slot and nobody queued: one `io_submit` on the submitter's
//! thread. The long way: behind the backlog, from where whoever frees a slot pumps. Inside a callback:
//! gathered, then the short way for all of them at once.
//!
//! `io_submit` may block for as long as the file system likes (buffered or extending I/O, a frozen file
//! system). While it does, its caller holds slots and, when pumping, the pump; no lock and no reaper's role.

use super::batch::Batch;
use super::clock::{self, Trouble};
use super::list::List;
use super::reap::MOST;
use super::request::{Request, Settled};
use super::sleep::NOBODY;
use super::watch::Watch;
use super::{Engine, gather};
use crate::error::AioError;
use crate::op::Work;
use crate::sync::sleep;
use std::io;
use std::time::Duration;

/// Requests in one `io_submit`: beyond this a larger group gains nothing measurable (DESIGN.md, "Numbers").
const BATCH: usize = 64;
/// The same where a user asks for many at once: the kernel merges adjacent ones within one call.
const LARGE_BATCH: usize = 1024;
/// A callback's submissions leave when so many have gathered, without waiting for the end of the dispatched
/// batch.
const GATHER: usize = 32;
/// How often a submission is tried that meets EAGAIN with nothing in flight: 1 + 2 + … + 256 ms in all.
const TRIES: u32 = 9;

/// Why the kernel did not take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// `io_submit` said so.
    Errno(i32),
    /// The context is gone.
    ContextGone,
    /// EAGAIN again and again, with nothing in flight that could free a slot: the kernel has no memory for
    /// requests.
    Stalled,
    /// The engine takes no more.
    ShutDown,
}

impl Refusal {
    /// As the result of a request that was accepted before the kernel refused it.
    fn errno(self) -> i32 {
        match self {
            Refusal::Errno(errno) => errno,
            Refusal::ContextGone | Refusal::ShutDown => libc::ECANCELED,
            Refusal::Stalled => libc::ENOMEM,
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        match refusal {
            Refusal::Errno(errno) => io::Error::from_raw_os_error(errno),
            Refusal::ContextGone => AioError::ContextGone.into(),
            Refusal::Stalled => AioError::Stalled.into(),
            Refusal::ShutDown => AioError::ShutDown.into(),
        }
    }
}

impl Engine {
    /// Submits a request with a callback. `Err` gives the work back, and its callback will never be called.
    pub(crate) fn submit<W: Work<Output = ()>>(&self, work: W) -> Result<(), (io::Error, W)> {
        if let Err(error) = self.check() {
            return Err((error.into(), work));
        }
        Request::offer(work, |request| self.gather_or_send(request))?;
        self.after_submission(self.runs_callbacks_anywhere());
        Ok(())
    }

    /// Submits a request whose result will be asked for.
    pub(crate) fn start<W: Work>(&self, work: W) -> Result<Watch<W>, (io::Error, W)> {
        if let Err(error) = self.check() {
            return Err((error.into(), work));
        }
        // It may be waited for on another thread: it can't stay behind in a batch of callbacks.
        gather::flush_all();
        let watch = Request::offer_watched(work, false, |request| self.send_unattended(request))?;
        self.after_submission(true);
        Ok(watch)
    }

    /// Submits a request and blocks until it is complete.
    pub(crate) fn submit_and_wait<W: Work>(&self, work: W) -> Result<W::Output, (io::Error, W)> {
        if let Err(error) = self.check() {
            return Err((error.into(), work));
        }
        gather::flush_all(); // first what this thread submitted first
        let watch = Request::offer_watched(work, true, |request| self.send_one(request))?;
        let mut unfinished = match self.take_own(watch) {
            Ok(output) => return Ok(output),
            Err(watch) => watch,
        };
        loop {
            self.wait_for_flushed(&mut unfinished, None);
            match unfinished.take() {
                Ok(output) => return Ok(output),
                Err(watch) => unfinished = watch,
            }
        }
    }

    /// A look at the ring in passing.
    pub(crate) fn help(&self) {
        if self.check_origin().is_ok() {
            self.flush();
            self.reap(NOBODY, MOST);
        }
    }

    /// Submits many requests, in one `io_submit` where there are slots. Gives back those that the kernel
    /// refuses at once, with the reason.
    pub(crate) fn submit_list(&self, list: List) -> Vec<(io::Error, Request)> {
        let mut refused = Vec::new();
        if let Err(error) = self.check() {
            list.for_each(|request| refused.push((error.into(), request)));
            return refused;
        }
        self.flush();
        let mut unattended = 0;
        let counted = list.inspect(|request| unattended += isize::from(!request.is_attended()));
        self.tally.attend(unattended);
        let mut refuse = |request, why: Refusal| refused.push((why.into(), request));
        match counted.len() {
            0..=BATCH => self.send::<BATCH>(counted, Gate::Closed, &mut refuse),
            _ => self.send::<LARGE_BATCH>(counted, Gate::Closed, &mut refuse),
        }
        let back = refused
            .iter()
            .filter(|(_, request)| !request.is_attended())
            .count();
        self.tally.attend(-back.cast_signed());
        self.report_if_silent();
        self.after_submission(unattended > 0);
        refused
    }

    /// Completes a watched request that was refused.
    pub(crate) fn settle_refused(&self, request: Request, why: &io::Error) {
        self.settle_unsubmitted(request, why.raw_os_error().unwrap_or(libc::ECANCELED));
    }

    /// Completes a watched request that will never be submitted.
    pub(crate) fn settle_unsubmitted(&self, mut request: Request, errno: i32) {
        request.set_result(-i64::from(errno));
        match request.settle() {
            Settled::Quiet => {}
            Settled::Wake(waker) => self.guard_user_code("a waker", || waker.wake()),
            Settled::Abandoned(request) => {
                self.guard_user_code("dropping an abandoned request", || request.finish());
            }
        }
    }

    /// Drops a request with a callback that will never be submitted.
    pub(crate) fn discard_unsubmitted(&self, request: Request) {
        self.guard_user_code("dropping a request", || request.discard());
    }

    fn gather_or_send(&self, request: Request) -> Result<(), (io::Error, Request)> {
        match gather::push(self.id(), request) {
            Ok(gathered) if gathered < GATHER => Ok(()),
            Ok(_) => {
                self.flush();
                Ok(())
            }
            Err(request) => self.send_unattended(request),
        }
    }

    fn send_unattended(&self, request: Request) -> Result<(), (io::Error, Request)> {
        self.tally.attend(1);
        self.send_one(request)
            .inspect_err(|_| self.tally.attend(-1))
    }

    /// The submitter's own `io_submit`, or the backlog.
    fn send_one(&self, request: Request) -> Result<(), (io::Error, Request)> {
        let mut refused = None;
        self.send::<1>(List::of(request), Gate::Closed, |request, why| {
            refused = Some((why.into(), request))
        });
        let Some(refused) = refused else {
            return Ok(());
        };
        self.report_if_silent(); // for a moment it counted
        Err(refused)
    }

    /// What was submitted may be finished already, then it needs nobody else (`help`). What is not needs the
    /// dispatcher, which may be parked because it had nothing to wait for.
    fn after_submission(&self, help: bool) {
        if gather::is_running_here(self.id()) {
            return;
        }
        if help {
            self.reap(NOBODY, MOST);
        }
        if self.tally.needs_dispatcher() {
            self.call_idle_dispatcher();
        }
    }

    /// Sends what this thread's callbacks have gathered so far.
    #[inline]
    pub(super) fn flush(&self) {
        let gathered = gather::take(self.id());
        if gathered.len() > 0 {
            self.tally.attend(gathered.len().cast_signed());
            self.send_gathered(gathered);
        }
    }

    /// It was accepted: what the kernel refuses now completes with the errno.
    pub(super) fn send_gathered(&self, gathered: List) {
        match gathered.len() {
            0 => {}
            1 => self.send_accepted::<1>(gathered),
            2..=8 => self.send_accepted::<8>(gathered),
            _ => self.send_accepted::<BATCH>(gathered),
        }
    }

    /// Submits again what is not finished, and was taken in hand.
    pub(super) fn go_on(&self, unfinished: List) {
        let count = unfinished.len();
        if count > 0 {
            self.tally.resuming.add(count);
            self.send_accepted::<8>(unfinished);
            self.tally.resuming.take_back(count);
            self.tally.resumed.add(count);
            self.tally.let_go(count);
            self.report_if_silent();
        }
    }

    /// Sends requests that their owners have no claim on any more: a refusal is their result.
    fn send_accepted<const N: usize>(&self, list: List) {
        let mut late = List::new();
        self.send::<N>(list, Gate::Open, |request, why| {
            late.push(self.refuse_late(request, why))
        });
        self.fail(late);
    }

    /// Submits in order, as far as there are slots; the rest goes behind the backlog.
    fn send<const N: usize>(
        &self,
        mut list: List,
        gate: Gate,
        mut refused: impl FnMut(Request, Refusal),
    ) {
        while list.len() > 0 && self.backlog.len() == 0 {
            let slots = self.slots.take(list.len().min(N));
            if slots == 0 {
                break;
            }
            if gate == Gate::Closed && self.tally.is_closing() {
                self.refund(slots);
                return list.for_each(|request| refused(request, Refusal::ShutDown));
            }
            let mut handed = self.hand_over(Batch::<N>::of(&mut list, slots), &mut refused);
            if handed.rest.len() > 0 {
                let mut rest = std::mem::take(&mut handed.rest);
                rest.append(list);
                self.backlog.push(rest);
                self.refund(handed.unused);
                handed.report();
                return self.pump();
            }
            self.refund(handed.unused);
            handed.report();
        }
        if list.len() > 0 {
            self.queue(list, gate, refused);
        }
    }

    fn queue(&self, list: List, gate: Gate, mut refused: impl FnMut(Request, Refusal)) {
        let refuse = || gate == Gate::Closed && self.tally.is_closing();
        match self.backlog.push_unless(list, refuse) {
            // The last reaper may have looked at the backlog just before, and with nothing in flight nobody
            // else would.
            Ok(()) => self.pump(),
            Err(list) => list.for_each(|request| refused(request, Refusal::ShutDown)),
        }
    }

    /// Submits from the backlog while there are slots, unless another thread is at it already.
    pub(super) fn pump(&self) {
        while let Some(mut list) = self.backlog.begin(BATCH, |wanted| self.slots.take(wanted)) {
            let taken = list.len();
            let mut late = List::new();
            let batch = Batch::<BATCH>::of(&mut list, taken);
            let mut handed = self.hand_over(batch, &mut |request, why| {
                late.push(self.refuse_late(request, why))
            });
            let stuck = handed.rest.len() > 0;
            self.backlog
                .end(taken - handed.rest.len(), std::mem::take(&mut handed.rest));
            self.slots.refund(handed.unused);
            self.fail(late);
            self.report_if_silent(); // what was accepted may be complete by now, and its reaper saw it queued
            handed.report();
            // Stuck behind what is in flight: its reaper pumps. It may have come while we were at it, and
            // gone: then we go on.
            if stuck && self.slots.in_use() > 0 {
                return;
            }
        }
    }

    /// Hands a batch, for which slots were taken, to the kernel in order. Whom it refuses goes to `refused`;
    /// what met EAGAIN comes back.
    #[inline]
    fn hand_over<const N: usize>(
        &self,
        mut batch: Batch<N>,
        refused: &mut impl FnMut(Request, Refusal),
    ) -> Handed {
        let mut handed = Handed::without(batch.take_cancelled(), refused);
        let mut tries = 0;
        while batch.len() > 0 {
            let before = batch.len();
            // After an EAGAIN one at a time: the kernel may have memory for one request, or some filter a
            // dislike of many.
            let most = if tries == 0 { N } else { 1 };
            match self.io_submit(&mut batch, most, &mut handed.trouble) {
                Ok(count) if count > 0 => {
                    tries = 0;
                    continue;
                }
                Ok(_) | Err(libc::EAGAIN)
                    if self.slots.in_use() > (handed.unused + before) as u64 =>
                {
                    break;
                }
                Ok(_) | Err(libc::EAGAIN) if tries < TRIES => {
                    // No completion will come to wait for, so give the kernel some time.
                    sleep(Duration::from_millis(1 << tries));
                    tries += 1;
                }
                Ok(_) | Err(libc::EAGAIN) => {
                    handed.trouble = Some(Trouble::Stalled);
                    let head = batch.pop().into_iter();
                    head.for_each(|request| refused(request, Refusal::Stalled));
                }
                Err(libc::EINTR) => {}
                Err(errno) => self.refuse(errno, &mut batch, refused),
            }
            handed.unused += before - batch.len();
        }
        handed.unused += batch.len();
        handed.rest = batch.rest();
        handed
    }

    /// The head of the batch is refused; all of it, if the context is gone. For NOWAIT on a file system that
    /// doesn't know it (EOPNOTSUPP) the helper tries without.
    fn refuse<const N: usize>(
        &self,
        errno: i32,
        batch: &mut Batch<N>,
        refused: &mut impl FnMut(Request, Refusal),
    ) {
        if errno == libc::EINVAL && !self.kernel.is_alive() {
            while let Some(request) = batch.pop() {
                refused(request, Refusal::ContextGone);
            }
            return;
        }
        match batch.pop() {
            Some(request) if request.wants_offload(errno) => {
                self.tally.take_in_hand_without_event(1);
                self.offload(List::of(request));
            }
            Some(request) => refused(request, Refusal::Errno(errno)),
            None => {}
        }
    }

    #[inline]
    fn refund(&self, slots: usize) {
        if slots > 0 {
            self.slots.refund(slots);
            // Somebody may have queued because these slots were taken. (Inside the pump this finds the pump
            // busy, and the pump looks again.)
            self.pump_if_queued();
        }
    }

    #[inline]
    pub(super) fn pump_if_queued(&self) {
        if self.backlog.len() > 0 {
            self.pump();
        }
    }

    #[inline]
    fn io_submit<const N: usize>(
        &self,
        batch: &mut Batch<N>,
        most: usize,
        trouble: &mut Option<Trouble>,
    ) -> Result<usize, i32> {
        let head = batch.head();
        let started = clock::now();
        let submitted = batch.submit(&self.kernel, most);
        if let Some(millis) = clock::slow_since(started) {
            *trouble = Some(Trouble::Blocked { millis, head });
        }
        self.tally.count_call(submitted.unwrap_or(0));
        submitted
    }

    /// Takes a request in hand whose owner has gone, with the refusal as its result.
    pub(super) fn refuse_late(&self, mut request: Request, why: Refusal) -> Request {
        request.set_result(-i64::from(why.errno()));
        self.tally.take_in_hand_without_event(1);
        self.tally.refused_late.add(1);
        request
    }
}

/// Whether requests may still be refused because the engine is closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// They come from outside.
    Closed,
    /// They were let in before.
    Open,
}

/// What `io_submit` left.
struct Handed {
    /// Met EAGAIN behind what is in flight.
    rest: List,
    /// Slots that nobody uses: of the rest and of the refused.
    unused: usize,
    trouble: Option<Trouble>,
}

impl Handed {
    /// Before the first call: those that were cancelled need no slot.
    fn without(cancelled: List, refused: &mut impl FnMut(Request, Refusal)) -> Handed {
        let unused = cancelled.len();
        cancelled.for_each(|request| refused(request, Refusal::Errno(libc::ECANCELED)));
        Handed {
            rest: List::new(),
            unused,
            trouble: None,
        }
    }

    /// Tells the operator, once nothing is held any more: a logger is user code.
    fn report(&self) {
        if let Some(trouble) = &self.trouble {
            clock::report(trouble);
        }
    }
}
