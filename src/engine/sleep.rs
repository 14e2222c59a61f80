//! Who sleeps where while there is nothing to reap.
//!
//! The plain version: one thread at a time, the *leader*, sleeps in the kernel, where any event wakes it;
//! whoever else has to wait is a *follower* and parks until its result is there or the leader has gone. A
//! leader that goes wakes a follower, which takes its place.
//!
//! The departure, for speed: while the leader sleeps, other threads may reap (a submitter that finds its
//! event in the ring already needs no sleep at all). So the leader could be asleep while somebody else takes
//! the event it sleeps for. Three rules prevent that:
//!
//! 1. A helper leaves in the ring what only the leader can use: its own event, the dispatcher's callbacks,
//!    the wake-up. The event that is left has woken the leader, or keeps it from falling asleep.
//! 2. Before it sleeps, the leader announces itself and then takes the consumer's lock once: a helper that
//!    was there before it has finished, and its work can be seen; one that comes later sees the announcement.
//! 3. What concerns the leader and comes without an event (a callback that the kernel refused late, the order
//!    to stop) is followed by a wake-up: a read of zero bytes, tagged WAKE, that only the leader takes off
//!    the ring.
//!
//! In the syscall-only mode the leader sleeps holding the consumer's lock, and nobody can help; rule 3 is the
//! same.
//!
//! Tried and dropped: several threads asleep in the kernel at once (every event wakes them all), and a
//! wake-up for every event that a helper takes on behalf of a sleeper (a system call each, where leaving it
//! costs nothing).

use super::reap::{Harvest, MOST};
use super::watch::Watch;
use super::{Engine, gather};
use crate::op::Work;
use crate::sync::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Mutex, Ordering, Thread, current, now, park,
    park_timeout, sleep,
};
use crate::sys::Mode;
use std::task::Waker;
use std::time::{Duration, Instant};

/// The tag of whoever reaps in passing, and of "no leader".
pub(super) const NOBODY: u64 = 0;
/// The tag of the completion thread, or of the thread in `poll`: who runs callbacks. Waiters have their
/// request's tag, which is never 1.
pub(super) const DISPATCHER: u64 = 1;

/// Leader and followers.
#[derive(Debug)]
pub(super) struct Roles {
    leader: AtomicU64,
    followers: Mutex<Vec<(u64, Thread)>>,
    /// How many they are, for who only wants to know whether there are any.
    following: AtomicUsize,
    /// A wake-up is on the ring, or on its way there.
    wake_sent: AtomicBool,
}

impl Roles {
    pub(super) fn new() -> Roles {
        Roles {
            leader: AtomicU64::new(NOBODY),
            followers: Mutex::new(Vec::new()),
            following: AtomicUsize::new(0),
            wake_sent: AtomicBool::new(false),
        }
    }

    /// SeqCst: who has made something true looks here afterwards, and the leader looks at it after announcing
    /// itself.
    #[inline]
    pub(super) fn leader(&self) -> u64 {
        self.leader.load(Ordering::SeqCst)
    }

    /// Makes `tag` the leader, or else a follower.
    fn lead_or_follow(&self, tag: u64) -> bool {
        let mut followers = self.followers.lock();
        if self.leader() != NOBODY {
            if !followers.iter().any(|follower| follower.0 == tag) {
                followers.push((tag, current()));
                // SeqCst: a follower is counted and then looks for the leader, before it parks; a leader
                // resigns and then looks here.
                self.following.store(followers.len(), Ordering::SeqCst);
            }
            return false;
        }
        self.strike(&mut followers, tag);
        self.leader.store(tag, Ordering::SeqCst);
        true
    }

    /// The leader is awake again. It either leads again soon, or hands on.
    fn resign(&self) {
        // Only the leader itself stores here while there is one. SeqCst: see `hand_on`.
        self.leader.store(NOBODY, Ordering::SeqCst);
    }

    /// `tag` will not sleep for now: it has its result, or goes off to run user code or to submit, which may
    /// block. If nobody leads, a follower must: it is woken.
    #[inline]
    pub(super) fn hand_on(&self, tag: u64) {
        // SeqCst: the leader has resigned before; see `lead_or_follow`.
        if self.following.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut followers = self.followers.lock();
        // Its own entry goes first: who is not asleep can't take the lead.
        self.strike(&mut followers, tag);
        if self.leader() == NOBODY
            && let Some((_, thread)) = followers.first()
        {
            thread.unpark();
        }
    }

    /// `tag` is awake again: who leaves the lead must not count on it.
    fn unlist(&self, tag: u64) {
        self.strike(&mut self.followers.lock(), tag);
    }

    fn strike(&self, followers: &mut Vec<(u64, Thread)>, tag: u64) {
        if tag != NOBODY {
            followers.retain(|follower| follower.0 != tag);
            // SeqCst as in `lead_or_follow`; that there are fewer may be seen late.
            self.following.store(followers.len(), Ordering::SeqCst);
        }
    }

    /// The wake-up was taken off the ring, or could not be sent.
    pub(super) fn wake_arrived(&self) {
        // SeqCst: see `Engine::rouse_leader`.
        self.wake_sent.store(false, Ordering::SeqCst);
    }
}

/// The state of the thread that runs callbacks: the completion thread, or whoever is in `poll`.
#[derive(Debug)]
pub(super) struct Dispatcher {
    state: AtomicU32,
    thread: Mutex<Option<Thread>>,
}

/// How often the wake-up is tried, about a millisecond apart.
const WAKE_TRIES: u32 = 1000;

/// Running, or leading.
const AWAKE: u32 = 0;
/// Parked with nothing to wait for: the next submission calls it.
const IDLE: u32 = 1;
/// Parked as a follower: the leader calls it when it has callbacks for it, or goes.
const FOLLOWING: u32 = 2;

impl Dispatcher {
    pub(super) fn new() -> Dispatcher {
        Dispatcher {
            state: AtomicU32::new(AWAKE),
            thread: Mutex::new(None),
        }
    }

    /// This thread is the dispatcher now.
    pub(super) fn adopt(&self) {
        *self.thread.lock() = Some(current());
    }

    fn park(&self, state: u32, deadline: Option<Instant>, ready: impl Fn() -> bool) {
        // SeqCst: announce, then look; see `Engine::rouse_dispatcher` and `Tally::attend`.
        self.state.store(state, Ordering::SeqCst);
        while !ready() && park_until(deadline) {}
        // SeqCst as before; who still sees it parked unparks it once too often, which is harmless.
        self.state.store(AWAKE, Ordering::SeqCst);
    }

    pub(super) fn is_this_thread(&self) -> bool {
        self.thread
            .lock()
            .as_ref()
            .is_some_and(|thread| thread.id() == current().id())
    }

    fn unpark(&self) {
        if let Some(thread) = &*self.thread.lock() {
            thread.unpark();
        }
    }
}

impl Engine {
    /// Blocks until the result is there or the time is over, reaping meanwhile; says whether it is there.
    pub(crate) fn wait_for<W: Work>(
        &self,
        watch: &mut Watch<W>,
        deadline: Option<Instant>,
    ) -> bool {
        gather::flush_all();
        self.wait_for_flushed(watch, deadline)
    }

    /// As `wait_for`, where this thread has nothing gathered.
    pub(super) fn wait_for_flushed<W: Work>(
        &self,
        watch: &mut Watch<W>,
        deadline: Option<Instant>,
    ) -> bool {
        let mut slept = false;
        while !watch.is_done() && !is_over(deadline) {
            if self.reap(watch.tag(), MOST) == 0 && !watch.is_done() {
                slept = true;
                self.sleep_for(watch, deadline);
            }
        }
        if slept {
            self.roles.hand_on(watch.tag());
        }
        watch.is_done()
    }

    fn sleep_for<W: Work>(&self, watch: &mut Watch<W>, deadline: Option<Instant>) {
        if self.roles.lead_or_follow(watch.tag()) {
            self.lead(watch.tag(), MOST, deadline, || watch.is_done());
        } else if with_thread_waker(|waker| watch.leave(waker)) {
            while !watch.is_done() && self.roles.leader() != NOBODY && park_until(deadline) {}
            self.roles.unlist(watch.tag());
        }
    }

    /// The leader's sleep: until there is an event, the time is over, a signal came or somebody sent the
    /// wake-up. Says how many results it brought (in the syscall-only mode sleeping is reaping).
    fn lead(
        &self,
        tag: u64,
        most: usize,
        deadline: Option<Instant>,
        ready: impl Fn() -> bool,
    ) -> usize {
        let harvest = match self.kernel.mode() {
            Mode::Ring => self
                .lead_beside_helpers(deadline, ready)
                .map(|()| Harvest::default()),
            Mode::Syscalls => self.lead_alone(tag, most, deadline, ready),
        };
        self.roles.resign();
        match harvest {
            Ok(mut harvest) => self.conclude(&mut harvest, tag),
            Err(errno) => self.mourn(errno),
        }
    }

    fn lead_beside_helpers(
        &self,
        deadline: Option<Instant>,
        ready: impl Fn() -> bool,
    ) -> Result<(), i32> {
        let consumer = self.consumer.lock();
        let stay_awake = consumer.is_closed() || ready() || self.kernel.has_events();
        drop(consumer);
        if stay_awake {
            return Ok(());
        }
        self.count_wait();
        self.kernel.pure_wait(time_left(deadline))
    }

    fn lead_alone(
        &self,
        tag: u64,
        most: usize,
        deadline: Option<Instant>,
        ready: impl Fn() -> bool,
    ) -> Result<Harvest, i32> {
        let mut harvest = Harvest::default();
        let mut consumer = self.consumer.lock();
        if !consumer.is_closed() && !ready() {
            self.count_wait();
            self.fetch(&mut consumer, &mut harvest, tag, most, time_left(deadline))?;
        }
        Ok(harvest)
    }

    /// A wait that failed otherwise than by time or signal: somebody destroyed the context, or unmapped its
    /// ring. What was in flight is lost, and its memory with it, because the kernel may still write there.
    /// Its waiters wait for ever.
    fn mourn(&self, errno: i32) -> usize {
        if !self.tally.is_closing() {
            log::error!(
                "io_getevents failed with errno {errno}: the kernel AIO context was destroyed behind our back"
            );
            park_timeout(Duration::from_secs(1)); // nothing will ever come: don't burn the processor
        }
        0
    }

    /// The dispatcher rests until there is something for it, or the time is over. Says how many results it
    /// brought.
    pub(super) fn rest(&self, most: usize, deadline: Option<Instant>) -> usize {
        let ready = || !self.inbox.is_empty() || self.is_silent_for_dispatcher();
        if self.roles.lead_or_follow(DISPATCHER) {
            return self.lead(DISPATCHER, most, deadline, ready);
        }
        self.dispatcher.park(FOLLOWING, deadline, || {
            ready() || self.roles.leader() == NOBODY
        });
        self.roles.unlist(DISPATCHER);
        0
    }

    /// The dispatcher has nothing to wait for, and sleeps until it has.
    pub(super) fn rest_idle(&self) {
        self.roles.hand_on(DISPATCHER);
        self.dispatcher.park(IDLE, None, || {
            !self.inbox.is_empty() || self.tally.needs_dispatcher() || self.is_finished()
        });
    }

    /// A request was counted as unattended before this call.
    #[inline]
    pub(super) fn call_idle_dispatcher(&self) {
        // SeqCst: the count was raised before, and the dispatcher looks at it after announcing itself.
        if self.dispatcher.state.load(Ordering::SeqCst) == IDLE {
            self.dispatcher.unpark();
        }
    }

    /// Something for the dispatcher became true before this call: it will look.
    pub(super) fn rouse_dispatcher(&self) {
        // SeqCst: the other half of `Dispatcher::park`.
        if self.dispatcher.state.load(Ordering::SeqCst) != AWAKE {
            self.dispatcher.unpark();
        }
        self.rouse_leader(DISPATCHER);
    }

    /// Sends the wake-up, if `tag` leads.
    pub(super) fn rouse_leader(&self, tag: u64) {
        // SeqCst: who finds that a wake-up is on its way made its own thing true before; the leader takes the
        // wake-up off the ring, says so, and looks at what is true after that.
        if self.roles.leader() == tag && !self.roles.wake_sent.swap(true, Ordering::SeqCst) {
            self.send_wake(tag);
        }
    }

    /// A slot is kept for the wake-up, so that EAGAIN can only be a lack of memory: it is tried for a while,
    /// as long as it is needed.
    fn send_wake(&self, tag: u64) {
        for _ in 0..WAKE_TRIES {
            match self.kernel.wake() {
                Ok(()) => return,
                Err(libc::EAGAIN) if self.roles.leader() == tag => sleep(Duration::from_millis(1)),
                Err(_) => break,
            }
        }
        self.roles.wake_arrived();
        if self.roles.leader() == tag {
            log::error!(
                "the wake-up of a sleeping thread can't be submitted: it sleeps on until the next completion"
            );
        }
    }
}

pub(super) fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| now() >= deadline)
}

fn time_left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(now()))
}

/// Parks until unparked, or perhaps a little less; `false` once the time is over.
fn park_until(deadline: Option<Instant>) -> bool {
    match time_left(deadline) {
        None => park(),
        Some(Duration::ZERO) => return false,
        Some(left) => park_timeout(left),
    }
    true
}

/// This thread's waker: unparks it. Made once for each thread.
fn with_thread_waker<R>(look: impl FnOnce(&Waker) -> R) -> R {
    struct Unpark(Thread);

    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }

    #[cfg(not(loom))]
    {
        thread_local! {
            static WAKER: std::cell::OnceCell<Waker> = const { std::cell::OnceCell::new() };
        }
        let make = || Waker::from(std::sync::Arc::new(Unpark(current())));
        let mut look = Some(look);
        let seen = WAKER.try_with(|waker| look.take().map(|look| look(waker.get_or_init(make))));
        match (seen, look) {
            (Ok(Some(result)), _) => result,
            // A thread that is ending has no memory for one any more: make one for this once.
            (_, Some(look)) => look(&make()),
            (_, None) => unreachable!("the closure was called, and its result returned"),
        }
    }
    #[cfg(loom)]
    look(&Waker::from(std::sync::Arc::new(Unpark(current()))))
}
