//! The kernel's slots: how many requests may be submitted and not yet reaped.
//!
//! Two counters that only grow (but for refunds), on cache lines of their own, because submitters write one
//! and the reaper the other.

use crate::sync::{AtomicU64, CachePadded, Ordering};

#[derive(Debug)]
pub(super) struct Slots {
    /// Slots ever taken, less refunds.
    taken: CachePadded<AtomicU64>,
    /// Slots whose event was reaped.
    returned: CachePadded<AtomicU64>,
    /// How often slots were refunded: only grows.
    refunds: AtomicU64,
    /// Slots that were taken for good, for another context: only grows.
    ceded: AtomicU64,
    depth: u64,
}

impl Slots {
    pub(super) fn new(depth: u32) -> Slots {
        Slots {
            taken: CachePadded(AtomicU64::new(0)),
            returned: CachePadded(AtomicU64::new(0)),
            refunds: AtomicU64::new(0),
            ceded: AtomicU64::new(0),
            depth: depth.into(),
        }
    }

    pub(super) fn depth(&self) -> u64 {
        self.depth
    }

    /// Slots that are not another context's.
    pub(super) fn own(&self) -> u64 {
        // SeqCst: as for `taken`.
        self.depth - self.ceded.load(Ordering::SeqCst)
    }

    /// Slots ever taken for requests, less refunds.
    #[inline]
    pub(super) fn taken(&self) -> u64 {
        // SeqCst: a slot is taken before it is ceded, so read in this order there are never too few.
        let ceded = self.ceded.load(Ordering::SeqCst);
        // SeqCst: see `take`, and `Engine::outstanding`.
        self.taken.load(Ordering::SeqCst).saturating_sub(ceded)
    }

    /// Whether no slot is free.
    pub(super) fn is_full(&self) -> bool {
        let returned = self.returned();
        // SeqCst: as in `in_use`. Those of other contexts are not free either.
        self.taken.load(Ordering::SeqCst).saturating_sub(returned) >= self.depth
    }

    /// A slot that was taken is another context's from now on, and no request of this one's.
    pub(super) fn cede(&self) {
        // SeqCst: see `taken`.
        self.ceded.fetch_add(1, Ordering::SeqCst);
    }

    /// Slots whose event was reaped.
    #[inline]
    pub(super) fn returned(&self) -> u64 {
        // SeqCst: as for `taken`.
        self.returned.load(Ordering::SeqCst)
    }

    /// Returned is read first, so that the answer is never too small.
    #[inline]
    pub(super) fn in_use(&self) -> u64 {
        let returned = self.returned();
        self.taken().saturating_sub(returned)
    }

    /// Takes at most `wanted` slots and returns how many it took. They count as in use before the kernel
    /// hears of them (I3).
    #[inline]
    pub(super) fn take(&self, wanted: usize) -> usize {
        // SeqCst: pairs with a refund as described below for `returned`.
        let mut taken = self.taken.load(Ordering::SeqCst);
        loop {
            // SeqCst: a thread that queued a request and found no slot, and a thread that returned a slot and
            // found no queue, must not both be right (I5). An old `returned` shows fewer free slots than
            // there are, never more.
            let in_use = taken.saturating_sub(self.returned.load(Ordering::SeqCst));
            let got = (self.depth.saturating_sub(in_use)).min(wanted as u64);
            if got == 0 {
                return 0;
            }
            // SeqCst: a taken slot counts as outstanding, and its taker looks next whether the engine is
            // closing; a closing thread stores that and then counts what is outstanding. One of the two sees
            // the other. Relaxed: what a failed try sees is tried again.
            match self.taken.compare_exchange_weak(
                taken,
                taken + got,
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => return usize::try_from(got).unwrap_or(wanted),
                Err(now) => taken = now,
            }
        }
    }

    /// Returns numbers that change with each slot that is taken or refunded: the same numbers again mean that
    /// no slot was taken in between.
    pub(super) fn moves(&self) -> (u64, u64) {
        // SeqCst: what `Engine::outstanding` reads between two of these is not older than the first.
        (
            self.taken.load(Ordering::SeqCst),
            self.refunds.load(Ordering::SeqCst),
        )
    }

    /// Gives back slots of requests that the kernel did not accept.
    #[inline]
    pub(super) fn refund(&self, count: usize) {
        // Before `taken` goes back: see `moves`. SeqCst: so that it is seen before, too.
        self.refunds.fetch_add(1, Ordering::SeqCst);
        // SeqCst: as in `give_back`.
        self.taken.fetch_sub(count as u64, Ordering::SeqCst);
    }

    /// Returns the slots of reaped events. To be called after the ring's head has moved, so that the kernel
    /// has room when a thread submits.
    #[inline]
    pub(super) fn give_back(&self, count: usize) {
        // SeqCst: the slot is returned, and then the thread looks for a queue; see `take`.
        self.returned.fetch_add(count as u64, Ordering::SeqCst);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_more_slots_are_taken_than_there_are() {
        let slots = Slots::new(10);
        assert_eq!((slots.take(7), slots.take(7), slots.take(7)), (7, 3, 0));
        slots.give_back(4);
        assert_eq!((slots.in_use(), slots.take(9)), (6, 4));
    }

    #[test]
    fn a_ceded_slot_is_neither_free_nor_in_use() {
        let slots = Slots::new(2);
        assert_eq!(slots.take(1), 1);
        slots.cede();
        assert_eq!(
            (slots.taken(), slots.in_use(), slots.is_full()),
            (0, 0, false)
        );
        assert_eq!((slots.own(), slots.depth()), (1, 2));
        assert_eq!(
            (slots.take(2), slots.in_use(), slots.is_full()),
            (1, 1, true)
        );
        slots.give_back(1);
        assert_eq!((slots.in_use(), slots.is_full()), (0, false));
    }

    #[test]
    fn a_refund_makes_room_without_counting_as_reaped() {
        let slots = Slots::new(2);
        assert_eq!(slots.take(2), 2);
        slots.refund(1);
        assert_eq!((slots.in_use(), slots.take(5)), (1, 1));
    }
}
