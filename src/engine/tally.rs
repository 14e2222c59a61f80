//! What the engine counts: for its own decisions (is anything outstanding? must the dispatcher stay awake?)
//! and for `Stats`.
//!
//! A request is always in one of three places: queued (`Backlog`), in flight (`Slots`), or in hand, between
//! its event and the end of its callback (here). It enters the next place before it leaves the last, so a
//! reader that looks at them in this order misses nothing that moves forward; what comes in meanwhile shows
//! in counters that only grow (`Engine::outstanding`).

use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Line, Ordering};

/// A new engine dispatches so many batches of callbacks with care, until it trusts them to be fast.
const TRUST: usize = 64;
/// After a slow batch it does so again for a while.
const PATIENCE: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Requests whose event was taken, and whose callback has not returned, or which will be submitted again.
    in_hand: Line<AtomicU64>,
    /// Outstanding requests that nobody reaps for but the dispatcher. Counted up late inside callbacks, so it
    /// may be below zero for a moment.
    unattended: Line<AtomicUsize>,
    /// For so many batches of callbacks what they submit is not gathered.
    patience: AtomicUsize,
    /// No new requests.
    closing: AtomicBool,
    /// End when nothing is outstanding.
    stopping: AtomicBool,
    /// Threads that want to hear when nothing is outstanding.
    listeners: AtomicUsize,
    /// Events that were not the end of their request.
    pub(super) resumed: Counter,
    /// Requests in hand that are just being submitted again, and so in the next place as well.
    pub(super) resuming: Counter,
    /// Requests that came in hand without an event.
    pub(super) eventless: Counter,
    pub(super) refused_late: Counter,
    pub(super) panics: Counter,
    pub(super) waits: Counter,
    /// Requests that went along in another one's `io_submit`, and calls that took none: calls = requests -
    /// along + empty.
    pub(super) along: Counter,
    pub(super) empty: Counter,
}

/// A number for `Stats`. Relaxed: only people conclude anything from it.
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

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            patience: AtomicUsize::new(TRUST),
            ..Tally::default()
        }
    }

    /// SeqCst: counted before the slot is returned, so that the request is not missed on its way.
    #[inline]
    pub(super) fn take_in_hand(&self, count: usize) {
        if count > 0 {
            self.in_hand.fetch_add(count as u64, Ordering::SeqCst);
        }
    }

    /// As `take_in_hand`, for requests that the kernel did not take.
    pub(super) fn take_in_hand_without_event(&self, count: usize) {
        self.take_in_hand(count);
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

    /// They are complete, or counted elsewhere again. SeqCst: not before, so that they are not missed on
    /// their way; and whoever lets go looks for listeners afterwards, see `has_listeners`.
    #[inline]
    pub(super) fn let_go(&self, count: usize) {
        if count > 0 {
            self.in_hand.fetch_sub(count as u64, Ordering::SeqCst);
        }
    }

    #[inline]
    pub(super) fn in_hand(&self) -> u64 {
        // SeqCst: the last of the places that `Engine::outstanding` looks at, in this order.
        self.in_hand.load(Ordering::SeqCst)
    }

    /// Requests that wait for the dispatcher have come, or (negative) gone.
    #[inline]
    pub(super) fn attend(&self, change: isize) {
        if change != 0 {
            // SeqCst: the dispatcher announces that it parks and then looks here; see `sleep`. Two's
            // complement: adding is subtracting.
            self.unattended
                .fetch_add(change.cast_unsigned(), Ordering::SeqCst);
        }
    }

    /// Whether anything waits for the dispatcher.
    #[inline]
    pub(super) fn needs_dispatcher(&self) -> bool {
        // SeqCst: see `attend`.
        self.unattended.load(Ordering::SeqCst).cast_signed() > 0
    }

    /// Whether what callbacks submit should leave at once: one that blocks would hold back what others before
    /// it have submitted.
    #[inline]
    pub(super) fn are_callbacks_slow(&self) -> bool {
        // Relaxed: a guess.
        self.patience.load(Ordering::Relaxed) > 0
    }

    /// Takes note of a batch of callbacks. Relaxed: a guess, and no harm if it is wrong.
    pub(super) fn note_callbacks(&self, slow: bool) {
        let patience = self.patience.load(Ordering::Relaxed);
        if slow {
            self.patience.store(PATIENCE, Ordering::Relaxed);
        } else if patience > 0 {
            self.patience.store(patience - 1, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn has_listeners(&self) -> bool {
        // SeqCst: a listener registers and then looks whether anything is outstanding; who completes
        // something looks here afterwards.
        self.listeners.load(Ordering::SeqCst) > 0
    }

    pub(super) fn close(&self) {
        // SeqCst: see `is_closing`.
        self.closing.store(true, Ordering::SeqCst);
    }

    /// SeqCst, after taking a slot: who closes stores the flag and then waits for what is counted. One of the
    /// two sees the other.
    #[inline]
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// From now on the dispatcher hears of silence, and ends at it. Says whether that was so before.
    pub(super) fn stop(&self) -> bool {
        // SeqCst: stored, and then the dispatcher is roused; it announces its sleep and then looks here.
        self.listeners.fetch_add(1, Ordering::SeqCst);
        self.stopping.swap(true, Ordering::SeqCst)
    }

    #[inline]
    pub(super) fn is_stopping(&self) -> bool {
        // SeqCst: see `stop`.
        self.stopping.load(Ordering::SeqCst)
    }

    pub(super) fn listen(&self) -> Listening<'_> {
        // SeqCst: see `has_listeners`.
        self.listeners.fetch_add(1, Ordering::SeqCst);
        Listening(self)
    }
}

/// While it lives, silence is reported.
#[derive(Debug)]
pub(super) struct Listening<'a>(&'a Tally);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        // SeqCst as all of them; that nobody listens any more may be seen late.
        self.0.listeners.fetch_sub(1, Ordering::SeqCst);
    }
}
