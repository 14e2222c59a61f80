//! User code that is due, until a thread takes it that may run it: callbacks are for the dispatcher, wakers
//! and abandoned requests for the next thread whose outermost reap ends.

use super::request::List;
use crate::sync::{AtomicUsize, Mutex, Ordering};
use std::task::Waker;

#[derive(Debug)]
pub(super) struct Inbox {
    inside: Mutex<Inside>,
    /// How many callbacks there are; `deferred`: how many wakers and abandoned requests.
    callbacks: AtomicUsize,
    deferred: AtomicUsize,
}

#[derive(Debug)]
struct Inside {
    callbacks: List,
    wakers: Vec<Waker>,
    abandoned: List,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox {
            inside: Mutex::new(Inside {
                callbacks: List::new(),
                wakers: Vec::new(),
                abandoned: List::new(),
            }),
            callbacks: AtomicUsize::new(0),
            deferred: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        // SeqCst: the dispatcher announces that it will sleep and then looks here, and a thread that puts
        // something in looks for the announcement afterwards; one of the two sees the other.
        self.callbacks.load(Ordering::SeqCst) == 0 && !self.has_deferred()
    }

    /// Whether wakers or abandoned requests wait.
    #[inline]
    pub(super) fn has_deferred(&self) -> bool {
        // SeqCst: see `is_empty`.
        self.deferred.load(Ordering::SeqCst) > 0
    }

    /// The caller wakes the dispatcher afterwards.
    pub(super) fn put_callbacks(&self, list: List) {
        let mut inside = self.inside.lock();
        // SeqCst: see `is_empty`.
        self.callbacks.fetch_add(list.len(), Ordering::SeqCst);
        inside.callbacks.append(list);
    }

    /// The oldest callbacks, at most `most`.
    #[inline]
    pub(super) fn take_callbacks(&self, most: usize) -> List {
        // SeqCst as in `is_empty`, though only the dispatcher takes.
        if self.callbacks.load(Ordering::SeqCst) == 0 {
            return List::new();
        }
        let mut inside = self.inside.lock();
        let taken = inside.callbacks.split(most);
        // SeqCst as all of them.
        self.callbacks.fetch_sub(taken.len(), Ordering::SeqCst);
        taken
    }

    /// The caller wakes the dispatcher afterwards.
    pub(super) fn defer(&self, wakers: impl Iterator<Item = Waker>, abandoned: List) {
        let mut inside = self.inside.lock();
        let before = inside.wakers.len();
        inside.wakers.extend(wakers);
        let count = inside.wakers.len() - before + abandoned.len();
        // SeqCst: see `is_empty`.
        self.deferred.fetch_add(count, Ordering::SeqCst);
        inside.abandoned.append(abandoned);
    }

    /// All wakers and abandoned requests.
    pub(super) fn take_deferred(&self) -> (Vec<Waker>, List) {
        let mut inside = self.inside.lock();
        // SeqCst as all of them.
        self.deferred.store(0, Ordering::SeqCst);
        (
            std::mem::take(&mut inside.wakers),
            std::mem::take(&mut inside.abandoned),
        )
    }
}
