//! Requests that wait for a slot, in the order in which they came. The backlog has no limit and never
//! allocates.
//!
//! A request that was taken off to be submitted counts as queued until the kernel has taken or refused it. So
//! its thread's next request finds a backlog, goes behind it, and can't overtake (I7). For the same reason
//! one thread at a time takes requests off.
#![allow(unsafe_code, reason = "takes a cancelled request out of the middle")]

use super::request::{Cell, List, OwnedCell};
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering};
use std::collections::HashSet;
use std::sync::atomic;

#[derive(Debug)]
pub(super) struct Backlog {
    queue: Mutex<Queue>,
    /// Requests that wait, and those that the pump is submitting.
    queued: AtomicUsize,
    /// How often requests were queued.
    pushes: AtomicU64,
    /// The most that have waited at once. Not modelled: nothing is decided by it.
    longest: atomic::AtomicUsize,
}

#[derive(Debug)]
struct Queue {
    list: List,
    /// A thread is submitting from the head.
    pumping: bool,
}

impl Backlog {
    pub(super) fn new() -> Backlog {
        Backlog {
            queue: Mutex::new(Queue {
                list: List::new(),
                pumping: false,
            }),
            queued: AtomicUsize::new(0),
            pushes: AtomicU64::new(0),
            longest: atomic::AtomicUsize::new(0),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        // SeqCst: the reaper's half of the pairing that `Slots::take` describes. For a submitter Acquire
        // would do: it only asks about its own earlier requests, whose pump it may not overtake.
        self.queued.load(Ordering::SeqCst)
    }

    /// Returns how many wait. Those that the pump is submitting have a slot and are not counted, so that a
    /// sum with the slots counts each request once.
    pub(super) fn waiting(&self) -> usize {
        // Not `lock`: the statistics never wait.
        self.queue
            .try_lock()
            .map_or_else(|| self.len(), |queue| queue.list.len())
    }

    /// The most that have waited at once.
    pub(super) fn longest(&self) -> usize {
        // Relaxed: a number for people.
        self.longest.load(Ordering::Relaxed)
    }

    /// The numbers of the requests that wait.
    pub(super) fn tags(&self) -> HashSet<u64> {
        self.queue.lock().list.tags().collect()
    }

    pub(super) fn pushes(&self) -> u64 {
        // SeqCst: see `Engine::outstanding`.
        self.pushes.load(Ordering::SeqCst)
    }

    pub(super) fn push(&self, list: List) {
        // The closure never refuses, so no list comes back.
        let _ = self.push_unless(list, || false);
    }

    /// Queues the list, unless `refuse` returns true once it counts as queued.
    pub(super) fn push_unless(
        &self,
        list: List,
        refuse: impl FnOnce() -> bool,
    ) -> Result<(), List> {
        let mut queue = self.queue.lock();
        // SeqCst: the request is counted, and only then its thread looks for a free slot (it pumps): see
        // `Slots::take`.
        self.queued.fetch_add(list.len(), Ordering::SeqCst);
        if refuse() {
            // SeqCst as in `end`; nothing was taken off meanwhile.
            self.queued.fetch_sub(list.len(), Ordering::SeqCst);
            return Err(list);
        }
        // SeqCst, after counting and before the list leaves its old place: see `Engine::outstanding`.
        self.pushes.fetch_add(1, Ordering::SeqCst);
        queue.list.append(mark_queued(list));
        // Relaxed: a number for people, written under the lock.
        self.longest.fetch_max(queue.list.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Takes the oldest requests off: as many as `slots` returns for those that are there. Returns `None` if
    /// nothing waits, no slot is free, or another thread is pumping and will look again when it is done.
    pub(super) fn begin(&self, most: usize, slots: impl FnOnce(usize) -> usize) -> Option<List> {
        let mut queue = self.queue.lock();
        if queue.pumping || queue.list.len() == 0 {
            return None;
        }
        let wanted = queue.list.len().min(most);
        let taken = queue.list.split(slots(wanted));
        queue.pumping = taken.len() > 0;
        queue.pumping.then(|| mark_taken(taken))
    }

    /// Takes a request that is being cancelled out of the queue, if it waits there. It ceases to count as
    /// queued by [`forget`](Backlog::forget).
    pub(super) fn remove(&self, cell: &Cell) -> Option<OwnedCell> {
        let mut queue = self.queue.lock();
        if !cell.is_queued() {
            return None;
        }
        // SAFETY: of the requests that can be cancelled those are marked as queued, under this lock, that are
        // in this list: the cell is from the `polls` of the same engine.
        let request = unsafe { queue.list.unlink(cell) };
        request.set_queued(false);
        Some(request)
    }

    /// Stops counting requests as queued that are counted elsewhere now.
    pub(super) fn forget(&self, count: usize) {
        // SeqCst: counted elsewhere before; see `Engine::outstanding`.
        self.queued.fetch_sub(count, Ordering::SeqCst);
    }

    /// Ends what `begin` began: `dealt` requests were accepted or refused, and the `rest` goes back to the
    /// head.
    pub(super) fn end(&self, dealt: usize, rest: List) {
        let mut queue = self.queue.lock();
        let mut rest = mark_queued(rest);
        rest.append(std::mem::take(&mut queue.list));
        queue.list = rest;
        queue.pumping = false;
        // Release: a submitter that sees none queued comes after the io_submit that took the last one. SeqCst
        // for `Engine::outstanding`: they are counted elsewhere by now.
        self.queued.fetch_sub(dealt, Ordering::SeqCst);
    }
}

/// Most lists hold nothing that can be cancelled, and are not walked.
fn mark_queued(list: List) -> List {
    if !list.is_followed() {
        return list;
    }
    list.inspect(|request| request.set_queued(true))
}

fn mark_taken(list: List) -> List {
    if !list.is_followed() {
        return list;
    }
    list.inspect(|request| request.set_queued(false))
}
