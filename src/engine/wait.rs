//! Which thread sleeps where while there is nothing to reap.
//!
//! The plain version: one thread at a time, the *leader*, sleeps in the kernel, where any event wakes it.
//! Another thread that has to wait is a *follower*: it parks until its result is there or the leader has
//! gone. A leader that goes, because its result is there or because it will run user code or submit, wakes a
//! follower, which takes its place. So once the kernel has nothing more to deliver, no thread sleeps for what
//! was delivered (I13).
//!
//! The fast version: while the leader sleeps, by pure wait, other threads may reap in passing. They are
//! *bystanders*. A thread that submits and finds its event on the ring at once need not wake a leader. But
//! then a bystander could take the very event that the leader sleeps for. Three rules prevent that:
//!
//! 1. A bystander leaves on the ring what only the leader can use: its own event, the dispatcher's callbacks,
//!    the wake-up. An event that is left has woken the leader, or keeps it from falling asleep. The events
//!    behind it stay on the ring as well.
//! 2. Before it sleeps, the leader announces itself and then takes the consumer's lock once, then looks, then
//!    sleeps. A bystander that had the lock before has finished, and the leader sees which results it stored.
//!    A bystander that comes later sees the announcement, and keeps to rule 1. This is why watched requests
//!    are settled under the consumer's lock.
//! 3. A thread that does something for the leader without an event (a late refusal, callbacks put into the
//!    inbox, the order to stop) sends the wake-up afterwards: a read of zero bytes, tagged WAKE, that only
//!    the leader takes off the ring. One wake-up at a time is on its way.
//!
//! In the syscall-only mode the leader sleeps in `io_getevents` with a real buffer and holds the consumer's
//! lock, so no thread can help, and rules 1 and 2 do not apply. Rule 3 is the same.
//!
//! When no request needs the completion thread any more, it parks. If its last round delivered something, it
//! first stays in the kernel for 10 ms, in case another request comes. The next submission that needs it
//! wakes it, once. While every request in flight has a waiting thread of its own, the completion thread goes
//! on sleeping: a wait costs no change of thread.
//!
//! Every "announce, then look" of one thread meets a "make true, then look for announcements" of another,
//! both sequentially consistent: one of the two threads sees the other. The pairs are: the leader and a
//! thread that settles without an event; the parked dispatcher and a thread that counts a request for it; the
//! pusher that finds no slot and the reaper that finds no queue; the thread that closes and one whose request
//! is just being accepted; the thread that listens for the engine to be idle and the one that completes the
//! last request.
//!
//! Tried and dropped: several threads asleep in the kernel at once (every event wakes them all), and a
//! wake-up for every event that a bystander takes on behalf of a sleeper (a system call each, where leaving
//! it costs nothing).

use super::Engine;
use super::account::is_over;
use super::dispatcher::{FOLLOWING, IDLE};
use super::harvest::Harvest;
use super::reap::MOST;
use super::request::{Quorum, Watch};
use super::roles::{DISPATCHER, NO_LEADER, Role, Submits};
use crate::op::Work;
use crate::sync::{Parker, now};
use crate::sys::{Kernel, Mode};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a thread sleeps outside the kernel, where it can't sleep inside, before it looks at the ring
/// again.
const NAP: Duration = Duration::from_millis(1);

/// What a thread waits for, and reaps meanwhile.
pub(super) trait Awaited {
    /// By which the thread is known while it leads, and its events with it.
    fn tag(&self) -> u64;
    fn is_done(&self) -> bool;
    /// Has `parker` woken when it is done. Returns `false` if it is done already.
    fn register_thread(&mut self, parker: &Arc<Parker>) -> bool;
    /// Whether the wait is given up where no more events can come.
    const ENDS_WITH_CONTEXT: bool;
}

/// A request. The kernel may still write to its memory where no event comes: the wait goes on.
impl<W: Work> Awaited for Watch<W> {
    const ENDS_WITH_CONTEXT: bool = false;

    fn tag(&self) -> u64 {
        Watch::tag(self)
    }

    fn is_done(&self) -> bool {
        Watch::is_done(self)
    }

    fn register_thread(&mut self, parker: &Arc<Parker>) -> bool {
        Watch::register_thread(self, parker)
    }
}

/// So many requests of a queue. What is still in flight stays where it is, so the wait may end.
impl Awaited for Quorum<'_> {
    const ENDS_WITH_CONTEXT: bool = true;

    fn tag(&self) -> u64 {
        Quorum::tag(self)
    }

    fn is_done(&self) -> bool {
        self.is_there()
    }

    fn register_thread(&mut self, parker: &Arc<Parker>) -> bool {
        Quorum::register_thread(self, parker)
    }
}

impl Engine {
    /// Blocks until the result is there or the time is over, and reaps meanwhile. Returns whether the result
    /// is there. In a forked child it returns at once. The caller has submitted what this thread's callbacks
    /// held back.
    pub(super) fn wait_for<A: Awaited>(&self, watch: &mut A, deadline: Option<Instant>) -> bool {
        let role = Role::waiter(watch.tag(), deadline.is_some());
        let mut parker = None;
        while self.is_here() && !watch.is_done() {
            let ended = self.reap(role, MOST);
            if !self.is_here() || watch.is_done() || is_over(deadline) {
                break;
            }
            if A::ENDS_WITH_CONTEXT && self.is_lost() {
                break;
            }
            if ended == 0 && !self.pump_before_sleeping(role) && self.is_here() {
                let parker = parker.get_or_insert_with(Parker::current);
                self.sleep_for(watch, role, deadline, parker);
            }
        }
        if !self.is_here() {
            return false;
        }
        if parker.is_some() {
            self.roles.pass_lead(role.tag);
        }
        watch.is_done()
    }

    /// If a waker waits, the reap that called the waker is below it on the stack, and pumps only when the
    /// waker returns. So the wait pumps here. Returns whether something was submitted here.
    fn pump_before_sleeping(&self, role: Role) -> bool {
        if self.backlog.len() == 0 || self.slots.is_full() {
            return false;
        }
        if role.submits == Submits::Everything {
            self.roles.pass_lead(role.tag); // io_submit may block
            let progress = self.pump();
            return self.run_deferred() && progress;
        }
        self.pump_elsewhere();
        false
    }

    fn sleep_for<A: Awaited>(
        &self,
        watch: &mut A,
        role: Role,
        deadline: Option<Instant>,
        parker: &Arc<Parker>,
    ) {
        if self.is_lost() || self.end.is_destroying() {
            // No event will come. Its batch may still be dropped or refused; otherwise the wait goes on,
            // because the kernel may still write to the memory.
            if watch.register_thread(parker) {
                while !watch.is_done() && parker.park(deadline) {}
            }
        } else if self.roles.lead_or_follow(role.tag, parker) {
            self.lead(role, MOST, &Sleep::until(deadline), || watch.is_done());
        } else if watch.register_thread(parker) {
            while !watch.is_done() && self.roles.leader() != NO_LEADER && parker.park(deadline) {}
            self.roles.remove_follower(role.tag);
        }
    }

    /// The leader's sleep, until there is an event, the time is over, a signal comes, or another thread sends
    /// the wake-up. Returns how many requests came to their end (in the syscall-only mode sleeping is
    /// reaping).
    fn lead(&self, role: Role, most: usize, sleep: &Sleep, ready: impl Fn() -> bool) -> usize {
        let harvest = match self.kernel.mode() {
            Mode::Ring => self
                .lead_beside_bystanders(sleep, ready)
                .map(|()| Harvest::default()),
            Mode::Syscalls => self.lead_alone(role.tag, most, sleep, ready),
        };
        self.roles.step_down();
        match harvest {
            Ok(mut harvest) => self.conclude(&mut harvest, role),
            Err(errno) if sleep.mask.is_some() && is_of_mask(errno) => {
                sleep.end_with(errno);
                0
            }
            Err(errno) => {
                let failed = self.note_failed_wait(errno); // before another thread leads, and reads the ring
                self.roles.pass_lead(role.tag);
                if let Some(failed) = &failed {
                    self.tell_failed_wait(failed);
                }
                self.nap(sleep.deadline);
                0
            }
        }
    }

    fn lead_beside_bystanders(&self, sleep: &Sleep, ready: impl Fn() -> bool) -> Result<(), i32> {
        let consumer = self.consumer.lock();
        let ending = consumer.is_closed() || self.end.is_destroying();
        let stay_awake = ending || ready() || self.kernel.has_events();
        drop(consumer);
        if stay_awake {
            return Ok(());
        }
        self.counters.waits.add(1);
        self.kernel.pure_wait(sleep.time_left(), sleep.mask)?;
        sleep.note_masked();
        Ok(())
    }

    fn lead_alone(
        &self,
        tag: u64,
        most: usize,
        sleep: &Sleep,
        ready: impl Fn() -> bool,
    ) -> Result<Harvest, i32> {
        let mut harvest = Harvest::default();
        let mut consumer = self.consumer.lock();
        if !consumer.is_closed() && !self.end.is_destroying() && !ready() {
            self.counters.waits.add(1);
            let (timeout, mask) = (sleep.time_left(), sleep.mask);
            self.fetch(&mut consumer, &mut harvest, tag, most, timeout, mask)?;
            sleep.note_masked();
        }
        Ok(harvest)
    }

    fn nap(&self, deadline: Option<Instant>) {
        let end = now() + NAP;
        Parker::current().park(Some(deadline.map_or(end, |deadline| deadline.min(end))));
    }

    /// The dispatcher sleeps until there is something for it, or the time is over. Returns how many requests
    /// came to their end.
    pub(super) fn park(
        &self,
        role: Role,
        most: usize,
        sleep: &Sleep,
        parker: &Arc<Parker>,
    ) -> usize {
        let ready = || !self.inbox.is_empty() || self.is_idle_for_dispatcher();
        if self.roles.lead_or_follow(DISPATCHER, parker) {
            return self.lead(role, most, sleep, ready);
        }
        let ready = || ready() || self.roles.leader() == NO_LEADER;
        match sleep.mask {
            None => self
                .dispatcher
                .park(FOLLOWING, sleep.deadline, parker, ready),
            Some(mask) => self.nap_with_mask(mask, sleep, ready),
        }
        self.roles.remove_follower(DISPATCHER);
        0
    }

    /// A follower with a signal mask: only a sleep in the kernel can change it and sleep in one step, and there
    /// another thread leads. So it sleeps for a moment at a time.
    #[cold]
    #[inline(never)]
    fn nap_with_mask(&self, mask: u64, sleep: &Sleep, ready: impl Fn() -> bool) {
        while !ready() && !is_over(sleep.deadline) {
            let timeout = sleep.time_left().unwrap_or(NAP).min(NAP);
            if let Err(errno) = Kernel::nap(timeout, mask) {
                return sleep.end_with(errno);
            }
        }
    }

    /// The dispatcher's sleep while it has nothing to wait for.
    pub(super) fn park_idle(&self, parker: &Arc<Parker>) {
        self.roles.pass_lead(DISPATCHER);
        self.dispatcher.park(IDLE, None, parker, || {
            !self.inbox.is_empty()
                || (self.counters.needs_dispatcher() && !self.is_lost())
                || self.is_finished()
        });
    }
}

/// How a thread sleeps.
#[derive(Debug)]
pub(super) struct Sleep {
    deadline: Option<Instant>,
    /// The signals that it does not take meanwhile; `None`: those that it never takes.
    mask: Option<u64>,
    /// The errno that ended it, with a signal mask. Kept here, and not in the engine: a thread that waits for
    /// its turn to poll has another sleep.
    errno: Cell<Option<i32>>,
}

impl Sleep {
    pub(super) fn until(deadline: Option<Instant>) -> Sleep {
        Sleep {
            deadline,
            mask: None,
            errno: Cell::new(None),
        }
    }

    pub(super) fn with_mask(self, mask: Option<u64>) -> Sleep {
        Sleep { mask, ..self }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The errno that has ended it, if a signal did, or the kernel's refusal of the mask.
    pub(super) fn errno(&self) -> Option<i32> {
        self.errno.get()
    }

    fn end_with(&self, errno: i32) {
        self.errno.set(Some(errno));
    }

    /// A sleep in the kernel was ended by an event. `io_pgetevents` is EINTR only where there is none: a signal
    /// that came together with the event has had its handler run, and nobody is told. So with a mask that is
    /// an end as if one had come.
    fn note_masked(&self) {
        if self.mask.is_some() {
            self.end_with(libc::EINTR);
        }
    }

    fn time_left(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(now()))
    }
}

/// What `io_pgetevents` says of signals, or of itself: there is no such call, or a filter refuses it.
fn is_of_mask(errno: i32) -> bool {
    matches!(
        errno,
        libc::EINTR | libc::ENOSYS | libc::EPERM | libc::EACCES
    )
}
