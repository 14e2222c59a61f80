//! Ownership of a cell: submitter, backlog, kernel, reaper and dispatcher have it in turn.
#![allow(
    unsafe_code,
    reason = "type-erased bodies, and requests that are numbers"
)]

use super::arrivals::{self, Arrivals, Put};
use super::cell::{
    ABANDONED, CALLBACK, Cell, DONE, HOLLOW, Header, LEFT, NEW, PENDING, QUEUED, SENT, UNWANTED,
    WAITING, WAKING,
};
use super::list::List;
use super::marks::{CANCELLABLE, HAS_EVENTFD, MAY_GO_ON, OBSERVED, OFFLOAD};
use super::vtable::{Callbacks, Watched};
use super::watch::Watch;
use crate::op::{Progress, Work};
use crate::sync::Ordering;
use crate::sys::{RWF_NOWAIT, io_event, iocb};
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;

/// The one owner of a cell. It has no destructor: it ends in the kernel, in [`OwnedCell::finish`] or in
/// [`OwnedCell::settle`] (I1).
#[derive(Debug)]
#[must_use = "a request that is dropped is never completed"]
pub(crate) struct OwnedCell(pub(super) Cell);

impl OwnedCell {
    /// A request with a callback, and the receipt for its body.
    ///
    /// # Panics
    /// If the file's `as_fd` or the buffer's methods do. Then the body has been dropped.
    pub(crate) fn with_callback<W: Work<Output = ()>>(work: W) -> (OwnedCell, Receipt<W>) {
        let cell = Cell::new(work, CALLBACK, false, &Callbacks::<W>::VTABLE);
        let receipt = Receipt {
            tag: cell.tag(),
            work: PhantomData,
        };
        (OwnedCell(cell), receipt)
    }

    /// A request with a watcher. `reaps_itself`: the watcher waits at once and reaps meanwhile, so that the
    /// dispatcher need not.
    ///
    /// # Panics
    /// As [`with_callback`](OwnedCell::with_callback).
    pub(crate) fn watched<W: Work>(work: W, reaps_itself: bool) -> (OwnedCell, Watch<W>) {
        let cell = Cell::new(work, PENDING, reaps_itself, &Watched::<W>::VTABLE);
        // SAFETY: of the two, owner and watch, the state word says which comes last and empties the cell.
        let shared = unsafe { cell.share() };
        // SAFETY: filled with this W above, PENDING, and this is the only Watch of it.
        let watch = unsafe { Watch::of(shared) };
        (OwnedCell(cell), watch)
    }

    /// A request whose outcome goes to a queue.
    ///
    /// # Panics
    /// As [`with_callback`](OwnedCell::with_callback).
    #[inline]
    pub(super) fn queued<W: Work>(work: W, queue: &Arc<Arrivals>) -> OwnedCell {
        let cell = Cell::new(work, QUEUED, false, &Watched::<W>::VTABLE);
        // SAFETY: a new cell's slot is empty, and no other thread has the cell yet.
        unsafe { cell.header().waker.put_queue(Arc::clone(queue)) };
        OwnedCell(cell)
    }

    /// It is put into a batch. To be called before its watcher knows of it.
    pub(crate) fn set_new(&mut self, position: usize) {
        // Relaxed: no other thread has it yet.
        self.header().admission.store(NEW, Ordering::Relaxed);
        self.set_result(position as i64);
    }

    /// Its batch is submitted. Returns what its watcher has done with it meanwhile.
    pub(crate) fn admit(self) -> Admitted {
        let admission = &self.header().admission;
        // Acquire: of HOLLOW, that the watcher is done with the cell. Relaxed: of SENT nothing follows but
        // that the watcher does not take the body back.
        match admission.compare_exchange(NEW, SENT, Ordering::Relaxed, Ordering::Acquire) {
            Ok(_) | Err(SENT) => Admitted::Sent(self),
            Err(UNWANTED) => self.admit_unwanted(),
            Err(_) => Admitted::TakenBack(TakenBack(self)),
        }
    }

    /// Its watcher cancelled it, and may be about to take it back.
    fn admit_unwanted(self) -> Admitted {
        let admission = &self.header().admission;
        // Relaxed and Acquire: as in `admit`.
        match admission.compare_exchange(UNWANTED, SENT, Ordering::Relaxed, Ordering::Acquire) {
            Ok(_) => Admitted::Unwanted(self),
            Err(_) => Admitted::TakenBack(TakenBack(self)),
        }
    }

    /// The request whose event this is.
    ///
    /// # Safety
    /// The event's tag is that of a request that the kernel accepted, and the event was not taken before.
    pub(crate) unsafe fn of(event: &io_event) -> OwnedCell {
        // SAFETY: the caller's promise: the tag is that of a live cell, whose ownership the kernel returns
        // with this event.
        let mut request = OwnedCell(unsafe { Cell::from_tag(event.data) });
        request.set_result(event.res);
        request
    }

    #[inline]
    pub(super) fn header(&self) -> &Header {
        self.0.header()
    }

    pub(in crate::engine) fn iocb(&self) -> &iocb {
        // SAFETY: the OwnedCell is the cell's one owner.
        unsafe { &*self.header().iocb.get() }
    }

    fn iocb_mut(&mut self) -> &mut iocb {
        // SAFETY: as in `iocb`.
        unsafe { &mut *self.header().iocb.get() }
    }

    /// The number that the kernel knows the request by.
    pub(crate) fn tag(&self) -> u64 {
        self.0.tag()
    }

    /// A second reference to the cell, for a list of what can be cancelled.
    ///
    /// # Safety
    /// It is dropped before the cell is emptied.
    pub(in crate::engine) unsafe fn share(&self) -> Cell {
        // SAFETY: the caller's promise.
        unsafe { self.0.share() }
    }

    /// Whether the request carries a callback, that is: its state never changes.
    #[inline]
    pub(crate) fn is_callback(&self) -> bool {
        // Relaxed: this never changes after the cell was filled, and the cell reached this thread by a
        // synchronising way.
        self.header().state.load(Ordering::Relaxed) == CALLBACK
    }

    /// Whether its outcome goes to a queue: its state never changes either.
    #[inline]
    pub(in crate::engine) fn is_queued(&self) -> bool {
        // Relaxed: as in `is_callback`.
        self.header().state.load(Ordering::Relaxed) == QUEUED
    }

    /// The tag of what waits for it: its own, or its queue's. To be called before it is settled.
    #[inline]
    pub(crate) fn awaited_by(&self) -> u64 {
        if !self.is_queued() {
            return self.tag();
        }
        // SAFETY: QUEUED and not settled: the slot is full, and the OwnedCell is the cell's one owner.
        arrivals::tag(unsafe { self.header().waker.queue() })
    }

    /// Whether its first answer is its end, and all that there is to know of it.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.header().marks.has_none()
    }

    /// Whether the observer has a record of it.
    #[inline]
    pub(in crate::engine) fn is_observed(&self) -> bool {
        self.header().marks.has(OBSERVED)
    }

    /// The observer has a record of it. To be called before it is accepted.
    pub(in crate::engine) fn set_observed(&self) {
        self.header().marks.set(OBSERVED);
    }

    /// Whether its watcher has gone. That stays true; the opposite may change at any moment.
    pub(in crate::engine) fn is_abandoned(&self) -> bool {
        // Relaxed: nothing is touched for it.
        self.header().state.load(Ordering::Relaxed) == ABANDONED
    }

    /// Whether the kernel can cancel it.
    #[inline]
    pub(crate) fn is_cancellable(&self) -> bool {
        self.header().marks.has(CANCELLABLE)
    }

    /// Whether whoever moves it from place to place has more to do than that: it can be cancelled, or it is
    /// observed.
    #[inline]
    pub(in crate::engine) fn is_followed(&self) -> bool {
        self.header().marks.has(CANCELLABLE | OBSERVED)
    }

    /// Whether its watcher reaps for itself.
    #[inline]
    pub(crate) fn reaps_itself(&self) -> bool {
        // Relaxed: written by the owner alone.
        self.header().reaps_itself.load(Ordering::Relaxed)
    }

    /// States before the submission whether its watcher will reap for itself.
    pub(crate) fn set_reaps_itself(&mut self, reaps_itself: bool) {
        // Relaxed: as in `reaps_itself`.
        self.header()
            .reaps_itself
            .store(reaps_itself, Ordering::Relaxed);
    }

    /// Stores the kernel's answer: bytes, or a negative errno.
    #[inline]
    pub(crate) fn set_result(&mut self, result: i64) {
        // SAFETY: the OwnedCell is the cell's one owner; a watcher reads this after DONE.
        unsafe { *self.header().result.get() = result }
    }

    /// What was stored by `set_result`.
    pub(crate) fn result(&self) -> i64 {
        // SAFETY: as in `set_result`.
        unsafe { *self.header().result.get() }
    }

    /// Asks the operation whether the stored result is the end of it, and goes on with it otherwise.
    pub(crate) fn proceed(&mut self) -> Progress {
        if !self.header().marks.has(MAY_GO_ON) {
            return Progress::Done;
        }
        // SAFETY: the OwnedCell is the cell's one owner, the result is stored, and the function was stored
        // for this very body.
        unsafe { (self.header().vtable.proceed)(&self.0) }
    }

    /// The eventfd that the engine raises itself when the request ends by way of `ended`: the kernel raises
    /// it for each event, and so not for an end without one, nor only once for a request that goes on (I14).
    pub(crate) fn eventfd_to_raise(&self, ended: Ended) -> Option<Arc<OwnedFd>> {
        let marks = &self.header().marks;
        let kernel_raises = ended == Ended::ByEvent && !marks.has(MAY_GO_ON | OFFLOAD);
        if !marks.has(HAS_EVENTFD) || kernel_raises {
            return None;
        }
        // SAFETY: the OwnedCell is the cell's one owner, and the function was stored for this very body.
        unsafe { (self.header().vtable.eventfd)(&self.0) }
    }

    /// The descriptor of the eventfd that it was given.
    pub(crate) fn eventfd(&self) -> u32 {
        self.iocb().aio_resfd
    }

    /// Whether the engine raises its eventfd, so that the kernel is not asked to.
    pub(crate) fn has_eventfd_of_its_own(&self) -> bool {
        let marks = &self.header().marks;
        marks.has(HAS_EVENTFD) && marks.has(MAY_GO_ON | OFFLOAD)
    }

    /// Whether it was submitted with NOWAIT and the wish to go on without, from a thread that may block, and
    /// this errno is the kernel's answer to that.
    pub(crate) fn wants_offload(&self, errno: i32) -> bool {
        self.header().marks.has(OFFLOAD)
            && self.has_nowait()
            && matches!(errno, libc::EAGAIN | libc::EOPNOTSUPP)
    }

    /// Whether it was offloaded before: its rest may block, too.
    pub(crate) fn was_offloaded(&self) -> bool {
        self.header().marks.has(OFFLOAD) && !self.has_nowait()
    }

    fn has_nowait(&self) -> bool {
        self.iocb().aio_rw_flags & RWF_NOWAIT != 0
    }

    /// From now on it may block, if it asked for NOWAIT only to try.
    pub(crate) fn allow_blocking(&mut self) {
        if self.header().marks.has(OFFLOAD) {
            self.iocb_mut().aio_rw_flags &= !RWF_NOWAIT;
        }
    }

    /// Runs the callback, or drops the body of a request without one; gives the cell back. User code runs
    /// here and may panic.
    #[inline]
    pub(in crate::engine) fn finish(self) {
        // Relaxed: neither state changes any more.
        debug_assert!(matches!(
            self.header().state.load(Ordering::Relaxed),
            CALLBACK | ABANDONED | QUEUED
        ));
        // SAFETY: this is the cell's last user (no watcher, or it has gone), and the function was stored for
        // this very body.
        unsafe { (self.header().vtable.run)(self.0) }
    }

    /// Drops the body without running a callback; gives the cell back. For a request that was never
    /// submitted. User code runs here and may panic.
    pub(in crate::engine) fn discard(self) {
        debug_assert!(self.is_callback());
        // SAFETY: as in `finish`; there is no watcher.
        unsafe { (self.header().vtable.discard)(self.0) }
    }

    /// States whether it waits in the backlog. To be called under the backlog's lock.
    pub(in crate::engine) fn set_queued(&self, queued: bool) {
        // Relaxed: read and written under that lock.
        self.header().queued.store(queued, Ordering::Relaxed);
    }

    /// Publishes the stored result to the watcher or to the queue, and returns what is left to do.
    #[inline]
    pub(crate) fn settle(self) -> Settled {
        if self.is_queued() {
            return self.arrive();
        }
        self.settle_watched()
    }

    /// As `settle`, for a request with a watcher.
    #[inline]
    pub(in crate::engine) fn settle_watched(self) -> Settled {
        debug_assert!(!self.is_queued() && !self.is_callback());
        let state = &self.header().state;
        loop {
            // Release: the watcher that sees DONE sees the result. Acquire: of ABANDONED, what the watcher
            // did before. SeqCst beyond that: a watcher about to sleep in the kernel announces itself and
            // then looks here, and a thread that settles without an event looks for the announcement
            // afterwards; one of the two sees the other (see `wait`).
            match state.compare_exchange(PENDING, DONE, Ordering::SeqCst, Ordering::Acquire) {
                Ok(_) => return Settled::Quiet,
                Err(ABANDONED) => return Settled::Abandoned(self),
                Err(_) => {}
            }
            // Acquire: the waker was written before WAITING was stored. Relaxed: else the next round tells.
            if state
                .compare_exchange(WAITING, WAKING, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                // SAFETY: leaving WAITING made the waker ours.
                let waker = unsafe { self.header().waker.take() };
                // Relaxed: written before the waker, which Acquire has made ours.
                let thread_waits = self.header().thread_waits.load(Ordering::Relaxed);
                // Release and SeqCst as above. From here on the cell is the watcher's.
                state.store(DONE, Ordering::SeqCst);
                return if thread_waits {
                    Settled::Unpark(waker)
                } else {
                    Settled::Wake(waker)
                };
            }
        }
    }
}

impl OwnedCell {
    /// Takes out the queue that it is to be put into. Once it is there, the queue's user may drop both at any
    /// moment.
    #[inline]
    pub(in crate::engine) fn take_queue(&mut self) -> Arc<Arrivals> {
        assert!(self.is_queued(), "a request that goes to a queue");
        // SAFETY: QUEUED and not put there: the slot is full, and the OwnedCell is the cell's one owner. It
        // is put there next, so this is not called again.
        unsafe { self.header().waker.take_queue() }
    }

    /// Puts it where its queue's user finds it.
    #[cold]
    fn arrive(mut self) -> Settled {
        match self.take_queue().put(List::of(self)) {
            Put::Quiet => Settled::Quiet,
            Put::Unpark(waker) => Settled::Unpark(waker),
            Put::Closed(mut list) => {
                let request = list.pop().expect("one was put");
                Settled::Abandoned(request)
            }
        }
    }
}

impl Cell {
    /// Whether it waits in the backlog. To be called under the backlog's lock.
    pub(in crate::engine) fn is_queued(&self) -> bool {
        // Relaxed: as in `set_queued`.
        self.header().queued.load(Ordering::Relaxed)
    }
}

/// A request whose batch is submitted.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// It is to be submitted.
    Sent(OwnedCell),
    /// Its watcher cancelled it.
    Unwanted(OwnedCell),
    /// Its watcher took it back.
    TakenBack(TakenBack),
}

/// A cell whose body its watcher has taken, or is about to take.
#[derive(Debug)]
pub(crate) struct TakenBack(pub(in crate::engine) OwnedCell);

impl TakenBack {
    /// The batch has no more to do with the cell: of the two, the one that comes last gives it back.
    pub(crate) fn let_go(self) {
        let OwnedCell(cell) = self.0;
        // Acquire and Release: the other side's last use of the cell comes before the end of it.
        if cell.header().admission.swap(LEFT, Ordering::AcqRel) == HOLLOW {
            // SAFETY: HOLLOW: the body was taken, and the watcher does not use the cell any more.
            unsafe { cell.give_back() }
        }
    }
}

/// How a request came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The kernel put an event on the ring.
    ByEvent,
    /// The kernel refused it late, or it was cancelled before the kernel had it.
    WithoutEvent,
}

/// What is left to do for a request that was settled.
#[derive(Debug)]
pub(crate) enum Settled {
    /// Nothing: its watcher does not sleep.
    Quiet,
    /// Wake the thread that waits, which is no user code.
    Unpark(Waker),
    /// Call this waker, outside all locks: a waker is user code.
    Wake(Waker),
    /// Finish it: its watcher, or the user of its queue, has gone.
    Abandoned(OwnedCell),
}

/// The right to the body of a request with a callback, should the request come back unsubmitted.
#[derive(Debug)]
pub(crate) struct Receipt<W> {
    tag: u64,
    work: PhantomData<fn() -> W>,
}

impl<W: Work> Receipt<W> {
    /// The number of the request that it is for.
    pub(crate) fn tag(&self) -> u64 {
        self.tag
    }

    /// The body of the request.
    ///
    /// # Panics
    /// If it is for another request.
    pub(crate) fn redeem(self, back: OwnedCell) -> W {
        assert!(
            back.tag() == self.tag,
            "a receipt is good for its own request"
        );
        // SAFETY: the OwnedCell is the cell's one owner, and there is no watcher. It was filled with this W,
        // and not reused since: a receipt is kept with its request, or redeemed where the two were made (see
        // its two users).
        unsafe { back.0.empty::<W>() }
    }
}
