//! From an accepted request to the kernel: slots, backlog, partial acceptance.
//!
//! The short way, for a request that finds a slot and no queue: one `io_submit` on the submitter's thread. The
//! long way: behind the backlog, from where a thread that frees a slot pumps. Inside a callback: held back by
//! the plug, then the short way for all of them at once.
//!
//! `io_submit` may block for as long as the file system likes (buffered or extending I/O, a frozen file
//! system). While it does, its caller holds slots and, when pumping, the pump; no lock and no reaper's role. A
//! thread with a deadline calls none that may block: the helper thread does.

use super::clock::{self, Trouble};
use super::iocb_array::IocbArray;
use super::request::{List, OwnedCell};
use super::{Engine, plug, threads};
use crate::error::AioError;
use crate::sync::sleep;
use crate::user_code;
use std::io;
use std::time::Duration;

/// Requests in one `io_submit`: beyond this a larger group gains nothing measurable (DESIGN.md, "Numbers").
pub(super) const BATCH: usize = 64;
/// The same where a user asks for many at once: the kernel merges adjacent ones within one call.
pub(super) const LARGE_BATCH: usize = 1024;
/// A callback's submissions leave when so many are held back, without waiting for the end of the dispatched
/// batch.
const PLUG: usize = 32;
/// How often a submission is tried that meets EAGAIN with nothing in flight: 1 + 2 + … + 256 ms in all.
const TRIES: u32 = 9;

/// Why the kernel did not take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The errno of `io_submit`.
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

/// Whether requests may be refused because the engine is closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// New ones: they may.
    New,
    /// Accepted earlier: they may not.
    Accepted,
}

/// What is left after a call of `io_submit`, or some.
#[derive(Debug)]
struct SubmitOutcome {
    /// Met EAGAIN behind what is in flight.
    rest: List,
    /// Slots that no request uses: of the rest and of the refused.
    unused: usize,
    trouble: Option<Trouble>,
    /// Some could be cancelled, and a canceller may have come meanwhile.
    may_be_cancelled: bool,
}

impl Engine {
    /// Holds a callback's submission back, or submits the request, for which only the dispatcher reaps.
    #[inline]
    pub(super) fn plug_or_send(&self, request: OwnedCell) -> Result<(), (io::Error, OwnedCell)> {
        match plug::push(self.id(), request) {
            Ok(held_back) if held_back < PLUG => Ok(()),
            Ok(_) => {
                self.unplug();
                Ok(())
            }
            Err(request) => self.send_for_dispatcher(request),
        }
    }

    pub(super) fn send_for_dispatcher(
        &self,
        request: OwnedCell,
    ) -> Result<(), (io::Error, OwnedCell)> {
        self.counters.add_for_dispatcher(1);
        self.send_one(request)
            .inspect_err(|_| self.counters.add_for_dispatcher(-1))
    }

    /// The submitter's own `io_submit`, or the backlog.
    #[inline]
    pub(super) fn send_one(&self, request: OwnedCell) -> Result<(), (io::Error, OwnedCell)> {
        let mut refused = None;
        let refuse = |request, why: Refusal| refused = Some((why.into(), request));
        if self.backlog.len() == 0 && self.slots.take(1) == 1 {
            self.send_array(
                IocbArray::from(request),
                List::new(),
                Admission::New,
                refuse,
            );
        } else {
            self.queue(List::of(request), Admission::New, refuse);
        }
        let Some(refused) = refused else {
            return Ok(());
        };
        self.notify_if_idle(); // for a moment it counted
        Err(refused)
    }

    /// Sends what this thread's callbacks have submitted so far. In a forked child that is the parent's, and
    /// forgotten.
    #[inline]
    pub(super) fn unplug(&self) {
        let plugged = plug::take(self.id());
        if plugged.len() > 0 && self.is_here() {
            self.counters
                .add_for_dispatcher(plugged.len().cast_signed());
            self.send_plugged(plugged);
        }
    }

    /// As `unplug`, for a thread with a deadline.
    fn unplug_without_blocking(&self) {
        let plugged = plug::take(self.id());
        if plugged.len() > 0 && self.is_here() {
            self.counters
                .add_for_dispatcher(plugged.len().cast_signed());
            self.backlog.push(plugged);
            self.pump_elsewhere();
        }
    }

    /// They were accepted: a refusal by the kernel is their result.
    pub(super) fn send_plugged(&self, plugged: List) {
        match plugged.len() {
            0 => {}
            1..=8 => self.send_accepted::<8>(plugged),
            _ => self.send_accepted::<BATCH>(plugged),
        }
    }

    /// Submits again what is not finished, and counts as completing.
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

    /// Sends requests that their owners have no claim on any more: a refusal is their result.
    fn send_accepted<const N: usize>(&self, list: List) {
        let mut late = List::new();
        self.send::<N>(list, Admission::Accepted, |request, why| {
            late.push(self.refuse_late(request, why));
        });
        self.fail(late);
    }

    /// Submits in order, as far as there are slots; the rest goes behind the backlog.
    pub(super) fn send<const N: usize>(
        &self,
        mut list: List,
        admission: Admission,
        mut refused: impl FnMut(OwnedCell, Refusal),
    ) {
        while list.len() > 0 && self.backlog.len() == 0 {
            let slots = self.slots.take(list.len().min(N));
            if slots == 0 {
                break;
            }
            let array = IocbArray::<N>::of(&mut list, slots);
            list = self.send_array(array, list, admission, &mut refused);
        }
        if list.len() > 0 {
            self.queue(list, admission, refused);
        }
    }

    /// Submits an array for which slots were taken. What the kernel has no room for goes behind the backlog,
    /// with all that was to follow; otherwise that is returned.
    #[inline]
    fn send_array<const N: usize>(
        &self,
        mut array: IocbArray<N>,
        following: List,
        admission: Admission,
        mut refused: impl FnMut(OwnedCell, Refusal),
    ) -> List {
        if admission == Admission::New && self.counters.is_closing() {
            self.refund(array.len());
            let all = std::iter::from_fn(|| array.pop());
            all.for_each(|request| refused(request, Refusal::ShutDown));
            following.for_each(|request| refused(request, Refusal::ShutDown));
            return List::new();
        }
        let mut outcome = self.submit_array(array, &mut refused);
        let mut rest = std::mem::take(&mut outcome.rest);
        if rest.len() == 0 {
            self.refund(outcome.unused);
            self.conclude_submission(&outcome);
            return following;
        }
        rest.append(following);
        self.backlog.push(rest);
        self.refund(outcome.unused);
        self.conclude_submission(&outcome);
        self.pump();
        List::new()
    }

    fn queue(&self, list: List, admission: Admission, mut refused: impl FnMut(OwnedCell, Refusal)) {
        let may_be_cancelled = list.may_be_cancelled();
        let refuse = || admission == Admission::New && self.counters.is_closing();
        match self.backlog.push_unless(list, refuse) {
            // The last reaper may have looked at the backlog just before, and with nothing in flight no
            // thread would look again.
            Ok(()) => {
                self.pump();
                self.retry_cancelling(may_be_cancelled);
                self.warn_of_idle_polls();
            }
            Err(list) => list.for_each(|request| refused(request, Refusal::ShutDown)),
        }
    }

    /// Submits from the backlog while there are slots, unless another thread is at it already.
    pub(super) fn pump(&self) {
        while let Some(mut list) = self.backlog.begin(BATCH, |wanted| self.slots.take(wanted)) {
            let taken = list.len();
            let mut late = List::new();
            let array = IocbArray::<BATCH>::of(&mut list, taken);
            let mut outcome = self.submit_array(array, &mut |request, why| {
                late.push(self.refuse_late(request, why));
            });
            let rest = std::mem::take(&mut outcome.rest);
            let stuck = rest.len() > 0;
            self.backlog.end(taken - rest.len(), rest);
            self.slots.refund(outcome.unused);
            if !self.fail(late) {
                return; // a forked child
            }
            self.notify_if_idle(); // what was accepted may be complete by now, and its reaper saw it queued
            self.conclude_submission(&outcome);
            // Stuck behind what is in flight: its reaper pumps. It may have come while we were at it, and
            // gone: then we go on.
            if (stuck && self.slots.in_use() > 0) || !self.is_here() {
                return;
            }
        }
    }

    #[inline]
    pub(super) fn pump_if_queued(&self) {
        if self.backlog.len() > 0 {
            self.pump();
        }
    }

    /// Submits an array, for which slots were taken, in order. What the kernel refuses goes to `refused`; what
    /// met EAGAIN comes back.
    #[inline]
    fn submit_array<const N: usize>(
        &self,
        mut array: IocbArray<N>,
        refused: &mut impl FnMut(OwnedCell, Refusal),
    ) -> SubmitOutcome {
        let mut outcome = SubmitOutcome {
            rest: List::new(),
            unused: 0,
            trouble: None,
            may_be_cancelled: array.may_be_cancelled(),
        };
        let mut tries = 0;
        while array.len() > 0 {
            let before = array.len();
            // After an EAGAIN one at a time: the kernel may have memory for one request, or some filter a
            // dislike of many.
            let most = if tries == 0 { N } else { 1 };
            match self.io_submit(&mut array, most, &mut outcome.trouble) {
                Ok(count) if count > 0 => {
                    tries = 0;
                    continue;
                }
                Ok(_) | Err(libc::EAGAIN)
                    if self.slots.in_use() > (outcome.unused + before) as u64 =>
                {
                    break;
                }
                Ok(_) | Err(libc::EAGAIN) if tries < TRIES => {
                    // No completion will come to wait for, so give the kernel some time.
                    sleep(Duration::from_millis(1 << tries));
                    tries += 1;
                }
                Ok(_) | Err(libc::EAGAIN) => {
                    outcome.trouble = Some(Trouble::Stalled);
                    let head = array.pop().into_iter();
                    head.for_each(|request| refused(request, Refusal::Stalled));
                }
                Err(libc::EINTR) => {}
                Err(errno) => self.refuse(errno, &mut array, refused),
            }
            outcome.unused += before - array.len();
        }
        outcome.unused += array.len();
        outcome.rest = array.rest();
        outcome
    }

    /// The head of the array is refused; all of it, if the context is gone. For NOWAIT on a file system that
    /// doesn't know it (EOPNOTSUPP) the helper tries without.
    fn refuse<const N: usize>(
        &self,
        errno: i32,
        array: &mut IocbArray<N>,
        refused: &mut impl FnMut(OwnedCell, Refusal),
    ) {
        if errno == libc::EINVAL && !self.kernel.is_alive() {
            while let Some(request) = array.pop() {
                refused(request, Refusal::ContextGone);
            }
            return;
        }
        match array.pop() {
            Some(request) if request.wants_offload(errno) => {
                self.counters.begin_completing_without_event(1);
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
            // Another thread may have queued because these slots were taken. (Inside the pump this finds the
            // pump busy, and the pump looks again.)
            self.pump_if_queued();
        }
    }

    #[inline]
    fn io_submit<const N: usize>(
        &self,
        array: &mut IocbArray<N>,
        most: usize,
        trouble: &mut Option<Trouble>,
    ) -> Result<usize, i32> {
        let head = array.head();
        let started = clock::now();
        let submitted = array.submit(&self.kernel, most);
        if let Some(millis) = clock::slow_since(started) {
            *trouble = Some(Trouble::Blocked { millis, head });
        }
        self.counters.count_call(submitted.unwrap_or(0));
        submitted
    }

    /// What remains to be done when this thread holds nothing any more: a logger is user code.
    #[inline]
    fn conclude_submission(&self, outcome: &SubmitOutcome) {
        self.retry_cancelling(outcome.may_be_cancelled);
        if let Some(trouble) = &outcome.trouble {
            clock::report(&self.config.thread_name, trouble);
        }
    }

    /// A canceller may have looked for a request while this thread was moving it.
    #[inline]
    fn retry_cancelling(&self, may_be_cancelled: bool) {
        if may_be_cancelled && self.polls.has_unfinished() {
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
        let (polls, depth) = (self.polls.count(), self.slots.depth());
        if polls as u64 >= depth && self.polls.is_first_warning() {
            user_code::warn(format_args!(
                "{}: {polls} waits for readiness are under way and hold all {depth} slots: other requests wait \
                 until one of them fires; build the context with a larger depth, or use another one for polls",
                self.config.thread_name
            ));
        }
    }

    /// Begins to complete a request whose owner has gone, with the refusal as its result.
    fn refuse_late(&self, mut request: OwnedCell, why: Refusal) -> OwnedCell {
        request.set_result(-i64::from(why.errno()));
        self.counters.begin_completing_without_event(1);
        self.counters.refused_late.add(1);
        request
    }

    /// Submits `list` again from the helper thread, without NOWAIT. It was counted when it came first.
    pub(super) fn offload(&self, list: List) {
        let list = list.inspect(OwnedCell::allow_blocking);
        if list.len() > 0 && self.helper.put(list) {
            self.start_helper();
        }
    }

    /// Pumps on the helper thread.
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
        let started = threads::start("kiocb-helper", hook, move || engine.help_out(true));
        if let Err(error) = started {
            user_code::warn(format_args!(
                "no helper thread for requests that block ({error}): submitting them here"
            ));
            self.help_out(false);
        }
    }

    fn help_out(&self, linger: bool) {
        while let Some(work) = self.helper.take(linger) {
            self.send_again(work.list);
            if work.pump {
                self.pump();
            }
        }
    }
}

/// Sends all that this thread's callbacks have submitted, for any engine: before it blocks, whatever it waits
/// for.
#[inline]
pub(super) fn unplug_all() {
    plug::for_each_engine(Engine::unplug);
}

/// As `unplug_all`, for a thread with a deadline.
fn unplug_all_without_blocking() {
    plug::for_each_engine(Engine::unplug_without_blocking);
}

/// One or the other.
pub(super) fn unplug_all_before(has_deadline: bool) {
    if has_deadline {
        unplug_all_without_blocking();
    } else {
        unplug_all();
    }
}
