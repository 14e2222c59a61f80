//! Taking events off the ring, and what follows: results stored, sleepers woken, callbacks run.
//!
//! One thread at a time is the consumer (I4): the lock is held while events are copied out and results
//! stored, never while user code runs. What a waiter or a future needs any consumer does; callbacks run where
//! `Dispatch` says.
#![allow(unsafe_code, reason = "the kernel's events are addresses of requests")]

use super::list::List;
use super::request::{Request, Settled};
use super::sleep::{DISPATCHER, NOBODY};
use super::wakers::Wakers;
use super::watch::Watch;
use super::{Engine, clock, gather};
use crate::op::{Progress, Work};
use crate::sys::{Mode, Take, WAKE, io_event};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Duration;

/// Events taken in one go: enough to spread the costs of a round, few enough to submit again soon.
pub(super) const MOST: usize = 64;

/// What only the consumer may do, and only while the context exists.
#[derive(Debug, Default)]
pub(super) struct Consumer {
    closed: bool,
    /// Memory for wakers.
    spare: Vec<Waker>,
}

impl Consumer {
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }
}

/// What was taken off the ring in one go, with what is left to do outside the lock.
#[derive(Debug, Default)]
pub(super) struct Harvest {
    callbacks: List,
    abandoned: List,
    /// Not finished yet: to be submitted again.
    again: List,
    /// The same, from a thread that may block.
    offload: List,
    wakers: Wakers,
    /// Watched requests whose result was stored, and how many of them the dispatcher stays awake for.
    settled: usize,
    unattended: isize,
    wakes: usize,
}

impl Harvest {
    /// Takes in a request for which an event came.
    fn add_event(&mut self, mut request: Request, result: i64, spare: &mut Vec<Waker>) {
        if result < 0 && i32::try_from(-result).is_ok_and(|errno| request.wants_offload(errno)) {
            return self.offload.push(request);
        }
        match request.proceed() {
            Progress::Done => self.add(request, spare),
            Progress::Again if request.was_offloaded() => self.offload.push(request),
            Progress::Again => self.again.push(request),
        }
    }

    /// Takes in a request whose result is stored.
    fn add(&mut self, request: Request, spare: &mut Vec<Waker>) {
        if request.is_callback() {
            self.callbacks.push(request);
            return;
        }
        self.settled += 1;
        self.unattended += isize::from(!request.is_attended());
        match request.settle() {
            Settled::Quiet => {}
            Settled::Wake(waker) => self.wakers.push(waker, spare),
            Settled::Abandoned(request) => self.abandoned.push(request),
        }
    }

    /// Requests that are neither in flight any more nor at their end.
    fn in_hand(&self) -> usize {
        self.callbacks.len() + self.abandoned.len() + self.again.len() + self.offload.len()
    }

    fn is_empty(&self) -> bool {
        self.in_hand() + self.settled == 0
    }
}

impl Engine {
    /// Takes what is on the ring (at most `most`) and does what follows. `me` is the tag of the role in which
    /// the caller reaps. Says how much there was; 0 also when another thread is at it.
    pub(super) fn reap(&self, me: u64, most: usize) -> usize {
        let mut harvest = Harvest::default();
        {
            let Some(mut consumer) = self.consumer.try_lock() else {
                return 0;
            };
            if consumer.closed {
                return 0;
            }
            self.take(&mut consumer, &mut harvest, me, most);
        }
        self.conclude(&mut harvest, me)
    }

    /// The short way for a waiter whose own event is the oldest on the ring: takes just that one, and nobody
    /// has to be told.
    pub(super) fn take_own<W: Work>(&self, watch: Watch<W>) -> Result<W::Output, Watch<W>> {
        if self.kernel.mode() != Mode::Ring || watch.may_go_on() {
            return Err(watch);
        }
        let Some(result) = self.take_event_of(watch.tag()) else {
            return Err(watch);
        };
        self.pump_if_queued();
        self.report_if_silent();
        // SAFETY: this is the request's event, and it was taken here, once.
        Ok(unsafe { watch.finish(result) })
    }

    #[inline]
    fn take_event_of(&self, tag: u64) -> Option<i64> {
        let consumer = self.consumer.try_lock()?;
        if consumer.closed {
            return None;
        }
        let mut result = None;
        // SAFETY: having the Consumer is being the only one, and the context lives until it is closed.
        unsafe {
            self.kernel.take(1, |event| {
                if event.data != tag {
                    return Take::Leave;
                }
                result = Some(event.res);
                Take::Taken
            })
        };
        if result.is_some() {
            self.slots.give_back(1);
        }
        result
    }

    fn take(&self, consumer: &mut Consumer, harvest: &mut Harvest, me: u64, most: usize) {
        // Without a ring nothing can be left for the leader, and needn't be: it holds the consumer's lock
        // while it sleeps.
        let leader = if self.kernel.mode() == Mode::Ring {
            self.roles.leader()
        } else {
            NOBODY
        };
        // SAFETY: having the Consumer is being the only one, and the context lives until it is closed.
        let taken = unsafe {
            self.kernel.take(most, |event| {
                self.sort(event, leader, me, harvest, &mut consumer.spare)
            })
        };
        self.account(taken, harvest);
    }

    /// What is in hand counts before it ceases to be in flight.
    fn account(&self, taken: usize, harvest: &Harvest) {
        if taken > 0 {
            self.tally.take_in_hand(harvest.in_hand());
            self.slots.give_back(taken - harvest.wakes);
        }
    }

    /// The sleep of the leader in the syscall-only mode.
    pub(super) fn fetch(
        &self,
        consumer: &mut Consumer,
        harvest: &mut Harvest,
        me: u64,
        most: usize,
        timeout: Option<Duration>,
    ) -> Result<(), i32> {
        // SAFETY: as in `take`.
        let taken = unsafe {
            self.kernel.fetch(1, most.min(MOST), timeout, |event| {
                self.sort(event, NOBODY, me, harvest, &mut consumer.spare)
            })
        };
        match taken {
            Ok(taken) => {
                self.account(taken, harvest);
                Ok(())
            }
            Err(libc::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Looks at one event: mine to take, or the sleeping leader's?
    fn sort(
        &self,
        event: &io_event,
        leader: u64,
        me: u64,
        harvest: &mut Harvest,
        spare: &mut Vec<Waker>,
    ) -> Take {
        let others = leader != NOBODY && leader != me;
        if event.data == WAKE {
            if others {
                return Take::Leave;
            }
            self.roles.wake_arrived();
            harvest.wakes += 1;
            return Take::Taken;
        }
        if others && event.data == leader {
            return Take::Leave;
        }
        // SAFETY: every iocb that is submitted carries the tag of its request, the kernel accepted this one,
        // and the event is taken once: if it is left after all, the request is forgotten again, which has no
        // effect.
        let request = unsafe { Request::of(event) };
        if others
            && leader == DISPATCHER
            && request.is_callback()
            && !self.runs_callbacks_anywhere()
        {
            return Take::Leave;
        }
        harvest.add_event(request, event.res, spare);
        Take::Taken
    }

    /// What follows a harvest, outside the lock. Says how many results it brought.
    pub(super) fn conclude(&self, harvest: &mut Harvest, me: u64) -> usize {
        if harvest.is_empty() {
            return 0;
        }
        let brought = harvest.in_hand() + harvest.settled;
        let mut callbacks = std::mem::take(&mut harvest.callbacks);
        if !self.may_run_callbacks(me) {
            self.hand_over_callbacks(std::mem::take(&mut callbacks));
        }
        if harvest.settled > 0 {
            self.wake_watchers(harvest, me);
        }
        if self.backlog.len() + harvest.again.len() > 0 {
            self.roles.hand_on(me); // io_submit may block
            self.pump_if_queued();
        }
        self.go_on(std::mem::take(&mut harvest.again));
        self.offload(std::mem::take(&mut harvest.offload));
        self.dispatch(callbacks, me);
        brought
    }

    /// Watched requests were settled under the lock: what is left is user code.
    fn wake_watchers(&self, harvest: &mut Harvest, me: u64) {
        self.tally.attend(-harvest.unattended);
        let abandoned = std::mem::take(&mut harvest.abandoned);
        if !harvest.wakers.is_empty() || abandoned.len() > 0 {
            self.roles.hand_on(me);
            let _frame = gather::UserCode::other(self);
            self.call_wakers(&mut harvest.wakers);
            self.drop_abandoned(abandoned);
        }
        self.report_if_silent();
    }

    fn call_wakers(&self, wakers: &mut Wakers) {
        while let Some(waker) = wakers.pop() {
            self.guard_user_code("a waker", || waker.wake());
        }
        if let Some(spare) = wakers.spare()
            && let Some(mut consumer) = self.consumer.try_lock()
        {
            consumer.spare = spare;
        }
    }

    /// They count as outstanding until their files are closed.
    fn drop_abandoned(&self, abandoned: List) {
        let count = abandoned.len();
        abandoned.for_each(|request| {
            self.guard_user_code("dropping an abandoned request", || request.finish());
        });
        self.tally.let_go(count);
    }

    /// Completes requests that were accepted and then refused by the kernel: they are in hand, with their
    /// result, and no event will come.
    pub(super) fn fail(&self, mut late: List) {
        while let Some(request) = late.pop() {
            let tag = request.tag();
            let mut harvest = Harvest::default();
            harvest.add(request, &mut Vec::new());
            if harvest.settled > 0 {
                // Rule 3 of `sleep`: the watcher may be leader and asleep, and no event will wake it.
                self.rouse_leader(tag);
                self.tally.let_go(harvest.settled - harvest.abandoned.len());
                self.wake_watchers(&mut harvest, NOBODY);
            }
            self.hand_over_callbacks(harvest.callbacks);
        }
    }

    /// Whether callbacks may run on this thread, in the role `me`: not inside other user code, where they
    /// would nest.
    fn may_run_callbacks(&self, me: u64) -> bool {
        (me == DISPATCHER || self.runs_callbacks_anywhere()) && !gather::is_running_here(self.id())
    }

    fn hand_over_callbacks(&self, callbacks: List) {
        if callbacks.len() > 0 {
            self.inbox.put(callbacks);
            self.rouse_dispatcher();
        }
    }

    /// Runs callbacks, gathering what they submit.
    pub(super) fn dispatch(&self, mut callbacks: List, me: u64) {
        let count = callbacks.len();
        if count == 0 {
            return;
        }
        self.roles.hand_on(me);
        let frame = gather::UserCode::callbacks(self);
        let began = (count > 1).then(clock::now);
        while let Some(request) = callbacks.pop() {
            self.guard_user_code("a callback", || request.finish());
            if self.tally.are_callbacks_slow() {
                self.flush();
            }
        }
        if let Some(began) = began {
            self.tally.note_callbacks(clock::is_long_since(began));
        }
        let gathered = gather::take(self.id());
        drop(frame);
        // What the callbacks submitted waits for the dispatcher, and they themselves don't any more.
        self.tally
            .attend(gathered.len().cast_signed() - count.cast_signed());
        self.send_gathered(gathered);
        self.tally.let_go(count);
        self.report_if_silent();
        if self.tally.needs_dispatcher() {
            self.call_idle_dispatcher();
        }
    }

    /// User code may panic: that is its own affair, and not the end of everybody's completions.
    pub(super) fn guard_user_code(&self, what: &str, run: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            self.tally.panics.add(1);
            // A logger is user code too.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                log::error!("{what} panicked: {}", message(&*panic))
            }));
            // The payload is user code too, and its destructor may panic: what that throws is let go.
            if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
                std::mem::forget(second);
            }
        }
    }

    /// Shuts the ring for good and destroys the context. Nothing is outstanding, so nobody sleeps in the
    /// kernel.
    pub(super) fn tear_down(&self) {
        let mut consumer = self.consumer.lock();
        if std::mem::replace(&mut consumer.closed, true) {
            return;
        }
        drop(consumer);
        // SAFETY: `closed` keeps everybody from the ring from now on.
        if let Err(errno) = unsafe { self.kernel.destroy() } {
            log::error!("io_destroy failed with errno {errno}");
        }
    }
}

/// What a panic said.
fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}
