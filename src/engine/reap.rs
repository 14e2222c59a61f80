//! Taking events off the ring, and what follows: store results, wake watchers, run callbacks.
//!
//! One thread at a time is the consumer (I4): the lock is held while events are copied out and results
//! stored, never while user code runs. Any consumer stores results for watchers. Callbacks run where
//! `Dispatch` says.
#![allow(unsafe_code, reason = "the kernel's events are addresses of requests")]

use super::harvest::Harvest;
use super::plug::{self, Link};
use super::request::{List, OwnedCell, Watch};
use super::roles::{DISPATCHER, NO_LEADER, Role, Submits};
use super::unplug::unplug_all_before;
use super::{Engine, clock};
use crate::op::Work;
use crate::sync::before_blocking;
use crate::sys::{Mode, Take, WAKE, io_event};
use crate::user_code::{self, Frame};
use std::mem::ManuallyDrop;
use std::task::Waker;
use std::time::Duration;

/// The most events taken in one round: enough to spread its cost, few enough that callbacks' submissions
/// leave soon.
pub(super) const MOST: usize = 64;

/// The right to take events, while the context exists.
#[derive(Debug, Default)]
pub(super) struct Consumer {
    closed: bool,
    /// Memory for wakers.
    pub(super) spare: Vec<Waker>,
}

impl Consumer {
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Forbids all threads to read the ring from now on. Returns whether that was so before.
    pub(super) fn close(&mut self) -> bool {
        std::mem::replace(&mut self.closed, true)
    }
}

impl Engine {
    /// Takes what is on the ring, at most `most` events, and does what follows. Returns how many requests
    /// came to their end; 0 also if another thread is the consumer.
    pub(super) fn reap(&self, role: Role, most: usize) -> usize {
        if !self.is_here() {
            return 0; // user code has forked: the ring is not mapped in the child
        }
        let mut harvest = ManuallyDrop::new(Harvest::default());
        {
            let Some(mut consumer) = self.consumer.try_lock() else {
                return 0;
            };
            if consumer.closed {
                return 0;
            }
            self.take(&mut consumer, &mut harvest, role, most);
        }
        let ended = self.conclude(&mut harvest, role);
        harvest.end();
        ended
    }

    /// The short way for a waiting thread whose own event is the oldest on the ring: takes that one event and
    /// returns the result. No other thread need be woken.
    pub(super) fn take_own<W: Work>(&self, watch: Watch<W>) -> Result<W::Output, Watch<W>> {
        if !self.is_here() || self.kernel.mode() != Mode::Ring || watch.is_special() {
            return Err(watch);
        }
        let Some(result) = self.take_event_of(watch.tag()) else {
            return Err(watch);
        };
        self.pump_if_queued();
        self.notify_if_idle();
        self.run_deferred();
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
        // SAFETY: the Consumer's lock makes this thread the only one, and the context lives until it is
        // closed.
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

    fn take(&self, consumer: &mut Consumer, harvest: &mut Harvest, role: Role, most: usize) {
        // Without a ring no event can be left for the leader, and none need be: the leader holds the
        // consumer's lock while it sleeps.
        let leader = if self.kernel.mode() == Mode::Ring {
            self.roles.leader()
        } else {
            NO_LEADER
        };
        // SAFETY: the Consumer's lock makes this thread the only one, and the context lives until it is
        // closed.
        let taken = unsafe {
            self.kernel.take(most, |event| {
                self.sort(event, leader, role.tag, harvest, &mut consumer.spare)
            })
        };
        harvest.put_arriving(&mut consumer.spare);
        self.count_taken(taken, harvest);
    }

    /// Counts requests as completing before their slots are returned.
    #[inline]
    fn count_taken(&self, taken: usize, harvest: &mut Harvest) {
        if harvest.wakes > 0 {
            self.roles.wake_arrived(); // not before the event is off the ring: it has one place for wake-ups
        }
        if taken > 0 {
            // `wake_tasks` will defer them, for the dispatcher: it must not end before.
            harvest.are_wakers_counted =
                !harvest.wakers.is_empty() && user_code::innermost() == Some(Frame::Other);
            let completing = harvest.completing() + usize::from(harvest.are_wakers_counted);
            self.counters.begin_completing(completing);
            self.slots.give_back(taken - harvest.wakes);
        }
    }

    /// The sleep of the leader in the syscall-only mode. EINTR is no error: SIGSTOP and SIGCONT cause it
    /// (I11). With a signal mask it is what the caller waits for.
    pub(super) fn fetch(
        &self,
        consumer: &mut Consumer,
        harvest: &mut Harvest,
        tag: u64,
        most: usize,
        timeout: Option<Duration>,
        mask: Option<u64>,
    ) -> Result<(), i32> {
        // SAFETY: as in `take`.
        let taken = unsafe {
            self.kernel
                .fetch(1, most.min(MOST), timeout, mask, |event| {
                    self.sort(event, NO_LEADER, tag, harvest, &mut consumer.spare)
                })
        };
        harvest.put_arriving(&mut consumer.spare);
        match taken {
            Ok(taken) => {
                self.count_taken(taken, harvest);
                Ok(())
            }
            Err(libc::EINTR) if mask.is_none() => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Looks at one event, and decides whether this thread takes it or leaves it for the sleeping leader
    /// (rule 1 of `wait`).
    #[inline]
    fn sort(
        &self,
        event: &io_event,
        leader: u64,
        tag: u64,
        harvest: &mut Harvest,
        spare: &mut Vec<Waker>,
    ) -> Take {
        let others = leader != NO_LEADER && leader != tag;
        if event.data == WAKE {
            if others {
                return Take::Leave;
            }
            harvest.wakes += 1;
            return Take::Taken;
        }
        if others && event.data == leader {
            return Take::Leave;
        }
        // SAFETY: every iocb that is submitted carries the tag of its request, the kernel accepted this one,
        // and the event is taken once: if it is left after all, the request is forgotten again, which has no
        // effect.
        let request = unsafe { OwnedCell::of(event) };
        if others && self.is_for_leader(&request, leader) {
            return Take::Leave;
        }
        harvest.add_event(request, event.res, (&self.polls, &self.observer), spare);
        Take::Taken
    }

    /// Whether only the leader, which is another thread, can use the request: a callback, or one of its queue.
    fn is_for_leader(&self, request: &OwnedCell, leader: u64) -> bool {
        if request.is_callback() {
            return leader == DISPATCHER && !self.runs_callbacks_anywhere();
        }
        request.awaited_by() == leader
    }

    /// Does what follows a harvest, without the consumer's lock. Returns how many requests came to their end.
    pub(super) fn conclude(&self, harvest: &mut Harvest, role: Role) -> usize {
        let ended = harvest.ended();
        if ended == 0 && harvest.completing() == 0 {
            return 0;
        }
        let mut callbacks = std::mem::take(&mut harvest.callbacks);
        if callbacks.len() > 0 && !self.may_run_callbacks(role) {
            self.pass_to_dispatcher(std::mem::take(&mut callbacks));
        }
        if !harvest.eventfds.is_empty() {
            self.raise(std::mem::take(&mut harvest.eventfds));
        }
        if harvest.settled > 0 && !self.deliver_watched(harvest, role.tag) {
            return ended;
        }
        if self.submit_more(harvest, role) && self.dispatch(callbacks, role) {
            self.run_deferred();
        }
        ended
    }

    /// Submits from the backlog, which has slots now, and the requests that go on. Returns `false` in a
    /// forked child.
    #[inline]
    fn submit_more(&self, harvest: &mut Harvest, role: Role) -> bool {
        let nothing = self.backlog.len() + harvest.again.len() + harvest.offload.len() == 0;
        nothing || self.submit_what_goes_on(harvest, role)
    }

    fn submit_what_goes_on(&self, harvest: &mut Harvest, role: Role) -> bool {
        self.offload(std::mem::take(&mut harvest.offload));
        let again = std::mem::take(&mut harvest.again);
        if role.submits != Submits::Everything {
            self.offload(again);
            self.pump_elsewhere();
            return true;
        }
        self.roles.pass_lead(role.tag); // io_submit may block
        self.pump_if_queued();
        self.send_again(again);
        self.is_here()
    }

    /// Runs callbacks, holding back what they submit until the end. Returns `false` in a forked child.
    #[inline]
    pub(super) fn dispatch(&self, callbacks: List, role: Role) -> bool {
        callbacks.len() == 0 || self.dispatch_some(callbacks, role)
    }

    fn dispatch_some(&self, mut callbacks: List, role: Role) -> bool {
        let count = callbacks.len();
        self.roles.pass_lead(role.tag);
        self.dispatcher.note_delivery();
        let began = (count > 1).then(clock::now);
        before_blocking(unplug_all_before);
        let may_block = role.submits != Submits::Nothing;
        let mut is_here = true;
        let run = |plug: &Link| is_here = self.run_callbacks(&mut callbacks, plug);
        let plugged = plug::with_plug(self, may_block, run);
        if !is_here {
            return false;
        }
        if let Some(began) = began {
            self.counters.note_callbacks(clock::is_long_since(began));
        }
        // The requests that the callbacks submitted need the dispatcher now, and the callbacks themselves no
        // longer do.
        self.counters
            .add_for_dispatcher(plugged.len().cast_signed() - count.cast_signed());
        if may_block && count == 1 {
            self.send_at_once(plugged);
        } else if may_block {
            self.send_plugged(plugged);
        } else {
            self.send_elsewhere(plugged);
        }
        self.counters.end_completing(count);
        self.notify_if_idle();
        self.wake_idle_dispatcher();
        self.is_here()
    }

    /// Runs the callbacks in order; what they submit leaves in groups. Returns `false` in a forked child: there
    /// the rest is the parent's.
    fn run_callbacks(&self, callbacks: &mut List, plug: &Link) -> bool {
        let (mut group, groups) = self.groups_of_round(callbacks.len());
        while let Some(request) = callbacks.pop() {
            if !self.finish_request("a callback", request) {
                return false;
            }
            // What the last one submits leaves now in any case.
            if callbacks.len() > 0 && plug.len() >= group {
                group = groups;
                self.unplug();
                if !self.is_here() {
                    return false; // a waker of what was refused forked
                }
            }
        }
        true
    }

    /// How many submissions leave together while so many callbacks run: at first, and after that.
    #[inline]
    fn groups_of_round(&self, callbacks: usize) -> (usize, usize) {
        if callbacks == 1 || self.counters.are_callbacks_slow() {
            return (1, 1);
        }
        let in_flight = usize::try_from(self.slots.in_use()).unwrap_or(usize::MAX);
        let group = self.medium.group(in_flight.saturating_add(callbacks));
        (self.medium.first_group(), group)
    }
}
