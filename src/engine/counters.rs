//! What the engine counts: for its own decisions (is anything outstanding? must the dispatcher stay awake?)
//! and for `Stats`.
//!
//! A request is always in one of three places: queued (`Backlog`), in flight (`Slots`), or completing:
//! between its event and the end of its callback (here). (A watched request that its event settles skips the
//! third.) It enters the next place before it leaves the last, so a reader that looks at them in this order
//! misses nothing that moves forward; what comes in meanwhile shows in counters that only grow
//! (`Engine::outstanding`).

use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, CachePadded, Ordering};

/// Rounds of callbacks after the start during which submissions are not held back, because it is not known
/// yet how long the callbacks take.
const WARM_UP_ROUNDS: usize = 64;
/// The same, after a round that took long.
const SLOW_ROUNDS: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Requests whose event was taken, and whose callback has not returned, or which will be submitted again,
    /// or whose watcher has gone and whose file and buffer are not dropped yet.
    completing: CachePadded<AtomicU64>,
    /// Outstanding requests that no waiting thread will reap, so the dispatcher must watch the ring for them.
    /// A callback's submissions are counted late, so this may be below zero for a moment.
    for_dispatcher: CachePadded<AtomicUsize>,
    /// For so many rounds of callbacks their submissions are not held back.
    unheld_rounds_left: AtomicUsize,
    /// No new requests.
    closing: AtomicBool,
    /// End when nothing is outstanding.
    stopping: AtomicBool,
    /// Threads that wait until nothing is outstanding.
    listeners: AtomicUsize,
    /// Events that were not the end of their request.
    pub(super) resumed: Counter,
    /// Completing requests that are just being submitted again, and so in the next place as well.
    pub(super) resuming: Counter,
    /// Requests that began to complete without an event.
    pub(super) eventless: Counter,
    /// Requests that the kernel refused after they had been accepted.
    pub(super) refused_late: Counter,
    /// Panics of user code.
    pub(super) panics: Counter,
    /// Sleeps in the kernel.
    pub(super) waits: Counter,
    /// A filter refuses `io_getevents`, and that was logged.
    refused_wait: AtomicBool,
    /// Requests that went along in another one's `io_submit`, and calls that took none: calls = requests -
    /// along + empty.
    pub(super) along: Counter,
    pub(super) empty: Counter,
    /// Calls of `io_submit` that blocked, and for how many milliseconds together.
    pub(super) blocked: Counter,
    pub(super) blocked_millis: Counter,
}

/// A number for `Stats`. Relaxed: the engine decides nothing by it.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn take_back(&self, count: usize) {
        self.0.fetch_sub(count as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn new() -> Counters {
        Counters {
            unheld_rounds_left: AtomicUsize::new(WARM_UP_ROUNDS),
            ..Counters::default()
        }
    }

    /// SeqCst: counted before the slot is returned, so that the request is not missed on its way.
    #[inline]
    pub(super) fn begin_completing(&self, count: usize) {
        if count > 0 {
            self.completing.fetch_add(count as u64, Ordering::SeqCst);
        }
    }

    /// As `begin_completing`, for requests that the kernel did not take.
    pub(super) fn begin_completing_without_event(&self, count: usize) {
        self.begin_completing(count);
        self.eventless.add(count);
    }

    /// Counts a call of `io_submit` that took so many.
    #[inline]
    pub(super) fn count_call(&self, took: usize) {
        match took {
            0 => self.empty.add(1),
            1 => {}
            more => self.along.add(more - 1),
        }
    }

    /// Counts a call of `io_submit` that blocked.
    #[cold]
    #[inline(never)]
    pub(super) fn count_blocked(&self, millis: u64) {
        self.blocked.add(1);
        self.blocked_millis
            .add(usize::try_from(millis).unwrap_or_default());
    }

    /// Stops counting requests as completing that are complete, or counted elsewhere. SeqCst: so that none is
    /// missed on its way; and the thread that ends them looks for listeners afterwards, see `has_listeners`.
    #[inline]
    pub(super) fn end_completing(&self, count: usize) {
        if count > 0 {
            self.completing.fetch_sub(count as u64, Ordering::SeqCst);
        }
    }

    #[inline]
    pub(super) fn completing(&self) -> u64 {
        // SeqCst: the last of the places that `Engine::outstanding` looks at, in this order.
        self.completing.load(Ordering::SeqCst)
    }

    /// Requests that wait for the dispatcher have come, or (negative) gone.
    #[inline]
    pub(super) fn add_for_dispatcher(&self, change: isize) {
        if change != 0 {
            // SeqCst: the dispatcher announces that it parks and then looks here; see `wait`. Two's
            // complement: adding is subtracting.
            self.for_dispatcher
                .fetch_add(change.cast_unsigned(), Ordering::SeqCst);
        }
    }

    /// Whether anything waits for the dispatcher.
    #[inline]
    pub(super) fn needs_dispatcher(&self) -> bool {
        // SeqCst: see `add_for_dispatcher`.
        self.for_dispatcher.load(Ordering::SeqCst).cast_signed() > 0
    }

    /// Whether what callbacks submit should leave at once: one that blocks would hold back what others before
    /// it have submitted.
    #[inline]
    pub(super) fn are_callbacks_slow(&self) -> bool {
        // Relaxed: a guess.
        self.unheld_rounds_left.load(Ordering::Relaxed) > 0
    }

    /// Takes note of a round of callbacks. Relaxed: a guess, and no harm if it is wrong.
    pub(super) fn note_callbacks(&self, slow: bool) {
        let unheld_rounds_left = self.unheld_rounds_left.load(Ordering::Relaxed);
        if slow {
            self.unheld_rounds_left
                .store(SLOW_ROUNDS, Ordering::Relaxed);
        } else if unheld_rounds_left > 0 {
            self.unheld_rounds_left
                .store(unheld_rounds_left - 1, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn has_listeners(&self) -> bool {
        // SeqCst: a listener registers and then looks whether anything is outstanding; a thread that
        // completes something looks here afterwards.
        self.listeners.load(Ordering::SeqCst) > 0
    }

    pub(super) fn close(&self) {
        // SeqCst: see `is_closing`.
        self.closing.store(true, Ordering::SeqCst);
    }

    /// SeqCst, after taking a slot: the thread that closes stores the flag and then waits for what is
    /// counted. One of the two sees the other.
    #[inline]
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// From now on the dispatcher is woken when nothing is outstanding, and ends then. Returns whether that
    /// was so before.
    pub(super) fn stop(&self) -> bool {
        // SeqCst: stored, and then the dispatcher is woken; it announces its sleep and then looks here.
        self.listeners.fetch_add(1, Ordering::SeqCst);
        self.stopping.swap(true, Ordering::SeqCst)
    }

    #[inline]
    pub(super) fn is_stopping(&self) -> bool {
        // SeqCst: see `stop`.
        self.stopping.load(Ordering::SeqCst)
    }

    /// Returns true the first time: a refused `io_getevents` is logged once.
    pub(super) fn is_first_refused_wait(&self) -> bool {
        // Relaxed: of several threads one gets `true`.
        !self.refused_wait.swap(true, Ordering::Relaxed)
    }

    pub(super) fn listen(&self) -> Listening<'_> {
        self.add_listener();
        Listening(self)
    }

    /// For a listener that is not a thread: `remove_listener` follows.
    pub(super) fn add_listener(&self) {
        // SeqCst: see `has_listeners`.
        self.listeners.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn remove_listener(&self) {
        // SeqCst as all of them; the last listener's end may be seen late.
        self.listeners.fetch_sub(1, Ordering::SeqCst);
    }
}

/// While it lives, the thread that completes the last request wakes the waiting threads.
#[derive(Debug)]
pub(super) struct Listening<'a>(&'a Counters);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.remove_listener();
    }
}
