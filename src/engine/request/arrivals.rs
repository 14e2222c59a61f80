//! Where the requests of a queue arrive when they are complete: their cells, linked as they come. Nothing is
//! copied or allocated for a request; its user takes the outcome out of the cell.
//!
//! Arrivals are put in under the consumer's lock, like the results of watched requests and for the same
//! reason (rule 2 of `wait`), and taken out by the one user of the queue.
#![allow(unsafe_code, reason = "takes bodies out of type-erased cells")]

use super::cell::Cell;
use super::list::List;
use super::owned::OwnedCell;
use crate::op::Work;
use crate::sync::{AtomicU64, Mutex, Ordering, Parker};
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::Waker;

/// The end of a queue that the reaping threads know.
#[derive(Debug)]
pub(crate) struct Arrivals {
    inside: Mutex<Inside>,
    /// How many have arrived since the beginning.
    arrived: AtomicU64,
}

#[derive(Debug)]
struct Inside {
    list: List,
    /// The thread that waits, and for how many arrivals since the beginning.
    waiter: Option<(u64, Arc<Parker>)>,
    /// The user has gone: what arrives is dropped by the thread that reaps it.
    closed: bool,
}

/// What is left to do for requests that were put into a queue.
pub(in crate::engine) enum Put {
    Quiet,
    /// Wake the user's thread.
    Unpark(Waker),
    /// Finish them: the queue was closed.
    Closed(List),
}

impl Arrivals {
    fn new() -> Arrivals {
        Arrivals {
            inside: Mutex::new(Inside {
                list: List::new(),
                waiter: None,
                closed: false,
            }),
            arrived: AtomicU64::new(0),
        }
    }

    /// How many have arrived since the beginning.
    #[inline]
    pub(in crate::engine) fn arrived(&self) -> u64 {
        // SeqCst: a thread that is about to sleep in the kernel announces itself and then looks here, and a
        // thread that puts something in without an event looks for the announcement afterwards (see `wait`).
        self.arrived.load(Ordering::SeqCst)
    }

    /// The caller has the consumer's lock, or looks for a leader to wake afterwards (see `wait`).
    pub(in crate::engine) fn put(&self, requests: List) -> Put {
        let mut inside = self.inside.lock();
        if inside.closed {
            return Put::Closed(requests);
        }
        // Relaxed: written under the lock alone.
        let arrived = self.arrived.load(Ordering::Relaxed) + requests.len() as u64;
        inside.list.append(requests);
        // SeqCst: see `arrived`.
        self.arrived.store(arrived, Ordering::SeqCst);
        match inside.waiter.take_if(|(target, _)| *target <= arrived) {
            Some((_, parker)) => Put::Unpark(Waker::from(parker)),
            None => Put::Quiet,
        }
    }

    fn take(&self) -> List {
        std::mem::take(&mut self.inside.lock().list)
    }

    fn close(&self) -> List {
        let mut inside = self.inside.lock();
        inside.closed = true;
        std::mem::take(&mut inside.list)
    }

    fn register(&self, target: u64, parker: &Arc<Parker>) -> bool {
        let mut inside = self.inside.lock();
        let is_early = self.arrived() < target;
        inside.waiter = is_early.then(|| (target, Arc::clone(parker)));
        is_early
    }

    fn forget_waiter(&self) {
        self.inside.lock().waiter = None;
    }
}

/// The user's end of a queue whose requests carry a `W`. It is to be [closed](Completions::close).
#[derive(Debug)]
pub(crate) struct Completions<W: Work> {
    arrivals: Arc<Arrivals>,
    work: PhantomData<fn() -> W>,
}

impl<W: Work> Completions<W> {
    pub(crate) fn new() -> Completions<W> {
        Completions {
            arrivals: Arc::new(Arrivals::new()),
            work: PhantomData,
        }
    }

    /// A request that will arrive here.
    ///
    /// # Panics
    /// As [`OwnedCell::with_callback`].
    #[inline]
    pub(crate) fn request(&self, work: W) -> OwnedCell {
        OwnedCell::queued(work, &self.arrivals)
    }

    /// How many have arrived since the beginning.
    #[inline]
    pub(crate) fn arrived(&self) -> u64 {
        self.arrivals.arrived()
    }

    /// Takes what has arrived.
    #[inline]
    pub(crate) fn take(&self) -> Completed<W> {
        Completed::of(self.arrivals.take())
    }

    /// Takes what has arrived. What comes later is dropped by the thread that reaps it.
    pub(crate) fn close(&self) -> Completed<W> {
        Completed::of(self.arrivals.close())
    }

    /// What a thread waits for that needs so many arrivals since the beginning.
    pub(crate) fn quorum(&self, target: u64) -> Quorum<'_> {
        Quorum {
            arrivals: &self.arrivals,
            target,
        }
    }
}

/// Requests that have arrived, oldest first.
#[derive(Debug)]
pub(crate) struct Completed<W: Work> {
    list: List,
    work: PhantomData<fn() -> W>,
}

impl<W: Work> Default for Completed<W> {
    fn default() -> Self {
        Completed::of(List::new())
    }
}

impl<W: Work> Completed<W> {
    /// To be called with requests of `Completions<W>` alone.
    fn of(list: List) -> Completed<W> {
        Completed {
            list,
            work: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Puts all of `other` behind all of this.
    #[inline]
    pub(crate) fn append(&mut self, other: Completed<W>) {
        self.list.append(other.list);
    }

    /// The oldest.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Arrived<W>> {
        let request = self.list.pop()?;
        Some(Arrived(request, PhantomData))
    }
}

/// One that has arrived.
#[derive(Debug)]
#[must_use = "a request that is dropped leaks"]
pub(crate) struct Arrived<W: Work>(OwnedCell, PhantomData<fn() -> W>);

impl<W: Work> Arrived<W> {
    /// The outcome. The user's buffer is told what was transferred, which is user code.
    #[inline]
    pub(crate) fn finish(self) -> W::Output {
        let result = self.0.result();
        let cell: Cell = self.0.0;
        // SAFETY: the one owner of the cell, which was filled with a W: only `Completions::request` makes
        // requests that arrive in a queue of this type, and lists of them are not mixed. Its event was taken,
        // or the kernel never had it.
        let work = unsafe { cell.empty::<W>() };
        // SAFETY: the result is what the kernel said of this very request, or the errno with which it refused
        // it.
        unsafe { work.finish(result) }
    }
}

/// A number of arrivals since the beginning, for a thread to wait for.
#[derive(Debug)]
pub(crate) struct Quorum<'a> {
    arrivals: &'a Arc<Arrivals>,
    target: u64,
}

impl Quorum<'_> {
    /// The number that stands for the queue where requests have their tags. No request has it: it is the
    /// address of the queue.
    pub(in crate::engine) fn tag(&self) -> u64 {
        tag(self.arrivals)
    }

    #[inline]
    pub(crate) fn is_there(&self) -> bool {
        self.arrivals.arrived() >= self.target
    }

    /// Has `parker` woken when it is there. Returns `false` if it is there already.
    pub(in crate::engine) fn register_thread(&self, parker: &Arc<Parker>) -> bool {
        self.arrivals.register(self.target, parker)
    }

    pub(in crate::engine) fn forget_thread(&self) {
        self.arrivals.forget_waiter();
    }
}

pub(super) fn tag(arrivals: &Arc<Arrivals>) -> u64 {
    Arc::as_ptr(arrivals).addr() as u64
}
