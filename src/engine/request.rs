//! A request: the right to a cell. Whoever has the `Request` is the cell's one owner.
#![allow(
    unsafe_code,
    reason = "type-erased bodies, and requests that are numbers"
)]

use super::cell::{ABANDONED, CALLBACK, CANCELLED, DONE, FREE, HANDED, PENDING, WAITING, WAKING};
use super::cell::{Cell, Header, Verbs};
use super::watch::Watch;
use crate::op::{Progress, Work};
use crate::sync::Ordering;
use crate::sys::{Kernel, RWF_NOWAIT, io_event, iocb};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::task::Waker;

/// Ownership of a cell. It has no destructor: it ends in the kernel's hands, in [`Request::finish`] or in
/// [`Request::settle`].
#[derive(Debug)]
#[must_use = "a request that is let fall is never completed"]
pub(crate) struct Request(pub(super) Cell);

impl Request {
    /// Offers a callback to `taker`, which either keeps the request or gives it back with its reason; then so
    /// do we, whole.
    pub(crate) fn offer<W: Work<Output = ()>, E>(
        work: W,
        taker: impl FnOnce(Request) -> Result<(), (E, Request)>,
    ) -> Result<(), (E, W)> {
        let (request, receipt) = Request::with_callback(work);
        taker(request).map_err(|(error, back)| (error, receipt.redeem(back)))
    }

    /// Offers a request whose result the caller will wait for: by reaping itself (`attended`), or by looking
    /// now and then.
    pub(crate) fn offer_watched<W: Work, E>(
        work: W,
        attended: bool,
        taker: impl FnOnce(Request) -> Result<(), (E, Request)>,
    ) -> Result<Watch<W>, (E, W)> {
        let (request, watch) = Request::watched(work, attended);
        match taker(request) {
            Ok(()) => Ok(watch),
            Err((error, back)) => Err((error, watch.redeem(back))),
        }
    }

    /// A request with a callback, and the receipt for its body.
    pub(crate) fn with_callback<W: Work<Output = ()>>(work: W) -> (Request, Receipt<W>) {
        let cell = Cell::new(work, CALLBACK, false, &Callbacks::<W>::VERBS);
        let receipt = Receipt {
            tag: cell.tag(),
            work: PhantomData,
        };
        (Request(cell), receipt)
    }

    /// A request whose result somebody will ask for.
    pub(crate) fn watched<W: Work>(work: W, attended: bool) -> (Request, Watch<W>) {
        let cell = Cell::new(work, PENDING, attended, &Watched::<W>::VERBS);
        // SAFETY: of the two, request and watch, the state word says who comes last and empties the cell.
        let shared = unsafe { cell.share() };
        // SAFETY: filled with this W above, PENDING, and watched by nobody else.
        let watch = unsafe { Watch::of(shared) };
        (Request(cell), watch)
    }

    /// The request whose event this is.
    ///
    /// # Safety
    /// The event's tag is that of a request that the kernel accepted, and the event was not taken before.
    pub(crate) unsafe fn of(event: &io_event) -> Request {
        // SAFETY: the caller's promise: the tag is that of a live cell, whose ownership the kernel hands over
        // by this event.
        let mut request = Request(unsafe { Cell::from_tag(event.data) });
        request.set_result(event.res);
        request
    }

    #[inline]
    fn header(&self) -> &Header {
        self.0.header()
    }

    fn iocb(&self) -> &iocb {
        // SAFETY: having the Request is owning the cell.
        unsafe { &*self.header().iocb.get() }
    }

    fn iocb_mut(&mut self) -> &mut iocb {
        // SAFETY: as above.
        unsafe { &mut *self.header().iocb.get() }
    }

    /// The number that the kernel knows the request by.
    pub(crate) fn tag(&self) -> u64 {
        self.0.tag()
    }

    /// Whether the request carries a callback, that is: nobody looks at its state.
    pub(crate) fn is_callback(&self) -> bool {
        // Relaxed: this never changes after the cell was filled, and the cell reached us by a synchronising
        // way.
        self.header().state.load(Ordering::Relaxed) == CALLBACK
    }

    /// Whether its watcher reaps for itself.
    pub(crate) fn is_attended(&self) -> bool {
        // Relaxed: written by the owner alone.
        self.header().attended.load(Ordering::Relaxed)
    }

    /// Says before the submission whether its watcher will reap for itself.
    pub(crate) fn set_attended(&mut self, attended: bool) {
        // Relaxed: as above.
        self.header().attended.store(attended, Ordering::Relaxed);
    }

    /// Stores what the kernel said: bytes, or a negative errno.
    pub(crate) fn set_result(&mut self, result: i64) {
        // SAFETY: having the Request is owning the cell; a watcher reads this after DONE.
        unsafe { *self.header().result.get() = result }
    }

    /// What follows in the owner's list, which is taken out of it.
    pub(super) fn take_next(&mut self) -> Option<Request> {
        // SAFETY: having the Request is owning the cell, and the link with it.
        let next = unsafe { &mut *self.header().next.get() };
        next.take().map(Request)
    }

    /// Asks the operation whether the stored result is the end of it, and goes on with it otherwise.
    pub(crate) fn proceed(&mut self) -> Progress {
        if !self.header().traits.may_go_on {
            return Progress::Done;
        }
        // SAFETY: having the Request is owning the cell, whose result is stored, and the function was stored
        // for this very body.
        unsafe { (self.header().verbs.proceed)(&self.0) }
    }

    /// Whether it was submitted with NOWAIT and the wish to go on without, from a thread that may block, and
    /// this errno says that it must.
    pub(crate) fn wants_offload(&self, errno: i32) -> bool {
        self.header().traits.offload
            && self.has_nowait()
            && matches!(errno, libc::EAGAIN | libc::EOPNOTSUPP)
    }

    /// Whether it was offloaded before: its rest may block, too.
    pub(crate) fn was_offloaded(&self) -> bool {
        self.header().traits.offload && !self.has_nowait()
    }

    fn has_nowait(&self) -> bool {
        self.iocb().aio_rw_flags & RWF_NOWAIT != 0
    }

    /// From now on it may block.
    pub(crate) fn allow_blocking(&mut self) {
        self.iocb_mut().aio_rw_flags &= !RWF_NOWAIT;
    }

    /// Runs the callback, or drops the body of an abandoned request; gives the cell back. User code runs here
    /// and may panic.
    pub(crate) fn finish(self) {
        // Relaxed: neither state changes any more.
        debug_assert!(matches!(
            self.header().state.load(Ordering::Relaxed),
            CALLBACK | ABANDONED
        ));
        // SAFETY: the cell is ours alone (no watcher, or gone), and the function was stored for this very
        // body.
        unsafe { (self.header().verbs.run)(self.0) }
    }

    /// Drops the body without running a callback; gives the cell back. For a request that was never
    /// submitted.
    pub(crate) fn discard(self) {
        debug_assert!(self.is_callback());
        // SAFETY: as in `finish`; there is no watcher.
        unsafe { (self.header().verbs.discard)(self.0) }
    }

    /// On its way to the kernel: from now on cancelling is the kernel's. `false`: it was cancelled before.
    pub(super) fn hand(&self) -> bool {
        // Relaxed: the two parties agree on one word and nothing else; the canceller looks at the result by
        // the state.
        !self.header().traits.cancellable
            || self
                .header()
                .hand
                .compare_exchange(FREE, HANDED, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// It goes back to wait for its turn.
    pub(super) fn take_back_from_hand(&self) {
        if self.header().traits.cancellable {
            // Relaxed: as in `hand`.
            self.header().hand.store(FREE, Ordering::Relaxed);
        }
    }

    /// Whether it was cancelled before it was submitted.
    pub(crate) fn is_cancelled(&self) -> bool {
        // Relaxed: as in `hand`.
        self.header().traits.cancellable && self.header().hand.load(Ordering::Relaxed) == CANCELLED
    }

    /// Publishes the stored result to the watcher, and says what is left to do.
    pub(crate) fn settle(self) -> Settled {
        let state = &self.header().state;
        loop {
            // Release: the watcher that sees DONE sees the result. Acquire: of ABANDONED, what the watcher
            // did before. SeqCst beyond that: a watcher about to sleep in the kernel announces itself and
            // then looks here, and who settles without an event looks for the announcement afterwards; one of
            // the two sees the other (see `sleep`).
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
                // Release and SeqCst as above.
                state.store(DONE, Ordering::SeqCst);
                return Settled::Wake(waker);
            }
        }
    }
}

/// What is left to do for a request that was settled.
#[derive(Debug)]
pub(crate) enum Settled {
    /// Nothing: nobody sleeps.
    Quiet,
    /// Wake somebody, outside all locks: a waker is user code.
    Wake(Waker),
    /// Finish it: its watcher has gone.
    Abandoned(Request),
}

/// The right to the body of a request with a callback, should the request come back unsubmitted.
#[derive(Debug)]
pub(crate) struct Receipt<W> {
    tag: u64,
    work: PhantomData<fn() -> W>,
}

impl<W: Work> Receipt<W> {
    /// # Panics
    /// If it is for another request.
    pub(crate) fn redeem(self, back: Request) -> W {
        assert!(
            back.tag() == self.tag,
            "a receipt is good for its own request"
        );
        // SAFETY: having the Request is owning the cell, and there is no watcher. It was filled with this W,
        // and not reused since: receipts are kept with their request, or redeemed where the two were made
        // (see their two users).
        unsafe { back.0.empty::<W>() }
    }
}

/// A request in the form in which `io_submit` takes it: the address of its iocb.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Outgoing(NonNull<iocb>);

impl Outgoing {
    /// Whether the request is still to be submitted is asked here for the last time: `Err` if it was
    /// cancelled.
    pub(super) fn of(request: Request) -> Result<Outgoing, Request> {
        if !request.hand() {
            return Err(request);
        }
        let place = NonNull::new(request.header().iocb.get());
        Ok(Outgoing(place.expect("a part of the cell")))
    }

    fn iocb(&self) -> &iocb {
        // SAFETY: having it is having the Request of which it was made, and so the cell.
        unsafe { self.0.as_ref() }
    }

    /// What it is, for the log: descriptor and opcode.
    pub(super) fn name(&self) -> (u32, u16) {
        (self.iocb().aio_fildes, self.iocb().aio_lio_opcode)
    }

    /// The request again. It still counts as handed over.
    pub(super) fn into_request(self) -> Request {
        // SAFETY: `Cell::new` put the tag there, and this is the cell's owner.
        Request(unsafe { Cell::from_tag(self.iocb().aio_data) })
    }

    /// One `io_submit`. What it accepts is taken out of the slice, from the front on; it was the kernel's
    /// from before the call returned (I3).
    pub(super) fn submit(batch: &mut [Option<Outgoing>], kernel: &Kernel) -> Result<usize, i32> {
        // SAFETY: an Option of a transparent NonNull is laid out as a pointer that may be null.
        let iocbs = unsafe { &*(std::ptr::from_ref(batch) as *const [*mut iocb]) };
        // SAFETY: the iocbs are of requests that we own and that were described at their final address; their
        // bodies own what they point to, and are not touched before their event is taken. Null would be
        // EFAULT.
        let accepted = unsafe { kernel.submit(iocbs) }?;
        debug_assert!(accepted <= batch.len());
        batch
            .iter_mut()
            .take(accepted)
            .for_each(|sent| *sent = None);
        Ok(accepted)
    }
}

/// The verbs of a request with a callback.
struct Callbacks<W>(PhantomData<W>);

impl<W: Work<Output = ()>> Callbacks<W> {
    const VERBS: Verbs = Verbs {
        run: run_callback::<W>,
        discard: drop_body::<W>,
        proceed: proceed::<W>,
    };
}

/// The verbs of a request with a watcher.
struct Watched<W>(PhantomData<W>);

impl<W: Work> Watched<W> {
    const VERBS: Verbs = Verbs {
        run: drop_body::<W>,
        discard: drop_body::<W>,
        proceed: proceed::<W>,
    };
}

/// # Safety
/// As [`Cell::empty`]; the result is stored.
unsafe fn run_callback<W: Work<Output = ()>>(cell: Cell) {
    // SAFETY: the caller owns the cell, so the result is not being written.
    let result = unsafe { *cell.header().result.get() };
    // SAFETY: the caller's promise. The cell is free before the callback runs: the request that it submits
    // finds it warm.
    let work = unsafe { cell.empty::<W>() };
    // SAFETY: the result is what the kernel said of this very request, or the errno with which it refused it.
    unsafe { work.finish(result) }
}

/// # Safety
/// As [`Cell::empty`].
unsafe fn drop_body<W: Work>(cell: Cell) {
    // SAFETY: the caller's promise.
    drop(unsafe { cell.empty::<W>() });
}

/// # Safety
/// The caller owns the cell, which was filled with this `W`; the result is stored.
unsafe fn proceed<W: Work>(cell: &Cell) -> Progress {
    // SAFETY: the caller owns the cell.
    let iocb = unsafe { &mut *cell.header().iocb.get() };
    // SAFETY: as above.
    let result = unsafe { &mut *cell.header().result.get() };
    // SAFETY: the caller's promise.
    let home = unsafe { cell.body::<W>() };
    // SAFETY: the kernel is done with it, so the body may be touched; it overlaps with neither of the two.
    unsafe { &mut *home.as_ptr() }.proceed(iocb, result)
}
