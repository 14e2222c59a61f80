//! The request cell: what `aio_data` points to, from submission until the result has been delivered.
//!
//! ```text
//!   ├──────────────────── Header ──────────────────────┤
//!   ┌──────┬────────┬──────┬────────┬──────────┬───────┬──────────────────────────────┐
//!   │ iocb │ finish │ next │ result │ state, … │ waker │ body: W, or a box of a big W │
//!   └──────┴────────┴──────┴────────┴──────────┴───────┴──────────────────────────────┘
//! ```
//!
//! The body owns file, buffer and callback. It is written to the cell first and described to the kernel
//! afterwards, at its final address, and nobody moves or touches it before the event has been taken (I2).
//!
//! A cell has one owner at a time, and owning it is having its [`Request`]: submitter → backlog → kernel →
//! reaper → dispatcher. While the kernel has it, the `Request` is the number in `aio_data`. Only a *watched*
//! request is shared, between the thread or future that waits for it (which has the [`Watch`]) and the reaper
//! that finishes it, and they share it by its state word:
//!
//! | state | when | the cell is | the waker is |
//! | --- | --- | --- | --- |
//! | `PENDING` | from the beginning | the owner's | empty, the watcher's to write |
//! | `WAITING` | the watcher left a waker | the owner's | whoever leaves this state owns it |
//! | `WAKING` | for some instructions, before `DONE` | the owner's | the owner's |
//! | `DONE` | the result is stored | the watcher's | empty |
//! | `ABANDONED` | the watcher went first | the owner's, to drop the body | empty |
//! | `CALLBACK` | always, where there is no watcher | the owner's | empty |
#![allow(unsafe_code, reason = "type-erased cells shared with the kernel")]

use super::pool;
use crate::operation::{Progress, Traits, Work};
use crate::sync::{AtomicU32, Ordering, yield_now};
use crate::sys::{Kernel, RWF_NOWAIT, io_event, iocb};
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;
use std::task::Waker;

const PENDING: u32 = 0;
const WAITING: u32 = 1;
const WAKING: u32 = 2;
const DONE: u32 = 3;
const ABANDONED: u32 = 4;
const CALLBACK: u32 = 5;

/// Not submitted: a canceller may still keep it from being.
const FREE: u32 = 0;
/// Cancelled before it was submitted: its submitter completes it.
const CANCELLED: u32 = 1;
/// The kernel has it, or will in a moment: only the kernel can cancel it.
const HANDED: u32 = 2;

/// The operations on a cell that depend on the type of its body.
struct Verbs {
    /// Empties the cell and gives it back, running a callback with the result.
    run: unsafe fn(NonNull<Header>),
    /// Empties the cell and gives it back, dropping the body.
    discard: unsafe fn(NonNull<Header>),
    /// Asks the body whether the result is the end of it.
    proceed: unsafe fn(NonNull<Header>) -> Progress,
}

/// The part that every cell has, whatever it carries. As aligned as a body may want to be, so that the body can follow.
#[repr(C, align(16))]
struct Header {
    iocb: UnsafeCell<iocb>,
    /// What can be done with a body of this type.
    verbs: &'static Verbs,
    /// Link of the one list in which the cell's owner keeps it.
    next: UnsafeCell<Option<NonNull<Header>>>,
    /// What the event said: bytes, or a negative errno.
    result: UnsafeCell<i64>,
    state: AtomicU32,
    /// Between a canceller and the submitter: `FREE`, `CANCELLED` or `HANDED`.
    hand: AtomicU32,
    /// Whether its watcher takes the reaper's role itself, so that the dispatcher need not stay awake for it.
    attended: bool,
    /// What `Work::traits` said.
    traits: Traits,
    /// Full in `WAITING`.
    waker: Slot<Waker>,
}

/// Room for a value, full or empty as the state says.
struct Slot<T>(UnsafeCell<MaybeUninit<T>>);

impl<T> Slot<T> {
    const fn empty() -> Self {
        Slot(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// # Safety
    /// It is empty, and nobody else uses it meanwhile.
    unsafe fn put(&self, value: T) {
        // SAFETY: our own memory, and the caller's promise.
        unsafe { self.0.get().cast::<T>().write(value) }
    }

    /// # Safety
    /// It is full, nobody else uses it meanwhile, and it counts as empty afterwards.
    unsafe fn take(&self) -> T {
        // SAFETY: the caller's promise: a value was put here, and is read once.
        unsafe { self.0.get().cast::<T>().read() }
    }
}

#[repr(C)]
struct Cell {
    header: Header,
    /// `W`, or a `Box<W>` where W needs more room or a larger alignment.
    body: MaybeUninit<[u8; ROOM]>,
}

/// Bytes a body may have to be stored without an allocation.
const ROOM: usize = pool::CELL - size_of::<Header>();
const BODY: usize = std::mem::offset_of!(Cell, body);

const _: () = assert!(size_of::<Cell>() == pool::CELL && align_of::<Cell>() <= pool::ALIGN);
const _: () = assert!(cfg!(loom) || ROOM >= 112);
const _: () = assert!(align_of::<Header>() == pool::ALIGN);
const _: () = assert!(BODY.is_multiple_of(pool::ALIGN));

const fn fits<W>() -> bool {
    size_of::<W>() <= ROOM && align_of::<W>() <= pool::ALIGN
}

/// Ownership of a cell. It has no destructor: it ends in the kernel's hands, in [`Request::finish`] or in
/// [`Request::settle`].
#[derive(Debug)]
#[must_use = "a request that is let fall is never completed"]
pub(crate) struct Request(NonNull<Header>);

// SAFETY: bodies are Send (`Work: Send`), and having the Request is having the cell.
unsafe impl Send for Request {}

impl Request {
    /// Offers a callback to `taker`, which either keeps the request or gives it back with its reason; then so do we, whole.
    pub(crate) fn offer<W: Work<Output = ()>, E>(
        work: W,
        taker: impl FnOnce(Request) -> Result<(), (E, Request)>,
    ) -> Result<(), (E, W)> {
        let (request, receipt) = Request::with_callback(work);
        taker(request).map_err(|(error, back)| (error, receipt.redeem(back)))
    }

    /// Offers a request whose result the caller will wait for: by reaping itself (`attended`), or by looking now and then.
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
        let request = Request::new(work, CALLBACK, false, &Callbacks::<W>::VERBS);
        let receipt = Receipt {
            cell: request.0,
            work: PhantomData,
        };
        (request, receipt)
    }

    /// A request whose result somebody will ask for.
    pub(crate) fn watched<W: Work>(work: W, attended: bool) -> (Request, Watch<W>) {
        let request = Request::new(work, PENDING, attended, &Watched::<W>::VERBS);
        let watch = Watch {
            cell: request.0,
            work: PhantomData,
        };
        (request, watch)
    }

    fn new<W: Work>(work: W, state: u32, attended: bool, verbs: &'static Verbs) -> Request {
        let header = pool::take().cast::<Header>();
        let content = Header {
            iocb: UnsafeCell::new(iocb::default()),
            verbs,
            next: UnsafeCell::new(None),
            result: UnsafeCell::new(0),
            state: AtomicU32::new(state),
            hand: AtomicU32::new(FREE),
            attended,
            traits: work.traits(),
            waker: Slot::empty(),
        };
        // SAFETY: the pool's cells are large and aligned enough for a header (asserted above), and this one is ours.
        unsafe { header.write(content) };
        // SAFETY: the header was just written, and the body has not been.
        unsafe { put(header, work) };
        Request(header)
    }

    /// The request whose event this is.
    ///
    /// # Safety
    /// The event's tag is that of a request that the kernel accepted, and the event was not taken before.
    pub(crate) unsafe fn of(event: &io_event) -> Request {
        // SAFETY: the caller's promise: the tag is the address of a live cell, which the kernel hands over by
        // this event.
        let mut request = unsafe { Request::from_tag(event.data) };
        request.set_result(event.res);
        request
    }

    /// # Safety
    /// `tag` is [`tag`] of a cell, and the caller owns that cell.
    unsafe fn from_tag(tag: u64) -> Request {
        let address = usize::try_from(tag).expect("a tag is an address");
        let header = std::ptr::with_exposed_provenance_mut::<Header>(address);
        debug_assert!(!header.is_null() && header.is_aligned());
        // SAFETY: the caller's promise: an address of a cell, so not null.
        Request(unsafe { NonNull::new_unchecked(header) })
    }

    fn header(&self) -> &Header {
        // SAFETY: having the Request is having the cell.
        unsafe { self.0.as_ref() }
    }

    /// The number that the kernel knows the request by.
    pub(crate) fn tag(&self) -> u64 {
        tag(self.0)
    }

    /// Whether the request carries a callback, that is: nobody looks at its state.
    pub(crate) fn is_callback(&self) -> bool {
        // Relaxed: this never changes after the cell was filled, and the cell reached us by a synchronising way.
        self.header().state.load(Ordering::Relaxed) == CALLBACK
    }

    /// Whether its watcher reaps for itself.
    pub(crate) fn is_attended(&self) -> bool {
        self.header().attended
    }

    /// Says before the submission whether its watcher will reap for itself.
    pub(crate) fn set_attended(&mut self, attended: bool) {
        // SAFETY: having the Request is owning the cell, and watchers don't look at this.
        unsafe { (*self.0.as_ptr()).attended = attended }
    }

    /// Stores what the kernel said: bytes, or a negative errno.
    pub(crate) fn set_result(&mut self, result: i64) {
        // SAFETY: the owner alone writes, and a watcher reads after DONE.
        unsafe { *self.header().result.get() = result }
    }

    /// Asks the operation whether the stored result is the end of it, and goes on with it otherwise.
    pub(crate) fn proceed(&mut self) -> Progress {
        if !self.header().traits.may_go_on {
            return Progress::Done;
        }
        // SAFETY: having the Request is owning the cell, whose result is stored, and the function was stored
        // for this very body.
        unsafe { (self.header().verbs.proceed)(self.0) }
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
        // SAFETY: having the Request is owning the cell, iocb included.
        unsafe { (*self.header().iocb.get()).aio_rw_flags & RWF_NOWAIT != 0 }
    }

    /// Whether it was cancelled before it was submitted.
    pub(crate) fn is_cancelled(&self) -> bool {
        // Relaxed: see `hand`.
        self.header().traits.cancellable && self.header().hand.load(Ordering::Relaxed) == CANCELLED
    }

    /// From now on it may block.
    pub(crate) fn allow_blocking(&mut self) {
        // SAFETY: having the Request is owning the cell, iocb included.
        unsafe { (*self.header().iocb.get()).aio_rw_flags &= !RWF_NOWAIT };
    }

    /// Runs the callback, or drops the body of an abandoned request; gives the cell back. User code runs here
    /// and may panic.
    pub(crate) fn finish(self) {
        debug_assert!(matches!(
            self.header().state.load(Ordering::Relaxed),
            CALLBACK | ABANDONED
        ));
        // SAFETY: having the Request is owning the cell, and the function was stored for this very body.
        unsafe { (self.header().verbs.run)(self.0) }
    }

    /// Drops the body without running a callback; gives the cell back. For a request that was never submitted.
    pub(crate) fn discard(self) {
        debug_assert_eq!(self.header().state.load(Ordering::Relaxed), CALLBACK);
        // SAFETY: as in `finish`; there is no watcher.
        unsafe { (self.header().verbs.discard)(self.0) }
    }

    /// On its way to the kernel: from now on cancelling is the kernel's. `false`: it was cancelled before.
    fn hand(&self) -> bool {
        // Relaxed: the two parties agree on one word and nothing else; the canceller looks at the result by the state.
        !self.header().traits.cancellable
            || self
                .header()
                .hand
                .compare_exchange(FREE, HANDED, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// It goes back to wait for its turn.
    fn take_back_from_hand(&self) {
        if self.header().traits.cancellable {
            self.header().hand.store(FREE, Ordering::Relaxed);
        }
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
            // Acquire: the waker was written before WAITING was stored.
            if state
                .compare_exchange(WAITING, WAKING, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                // SAFETY: leaving WAITING made the waker ours.
                let waker = unsafe { self.header().waker.take() };
                state.store(DONE, Ordering::SeqCst);
                return Settled::Wake(waker);
            }
        }
    }
}

/// The right to the body of a request with a callback, should the request come back unsubmitted.
#[derive(Debug)]
pub(crate) struct Receipt<W> {
    cell: NonNull<Header>,
    work: PhantomData<fn() -> W>,
}

// SAFETY: a receipt is a number until it is redeemed with the Request, which is Send itself.
unsafe impl<W> Send for Receipt<W> {}
// SAFETY: as above.
unsafe impl<W> Sync for Receipt<W> {}

impl<W: Work> Receipt<W> {
    /// # Panics
    /// If it is for another request.
    pub(crate) fn redeem(self, back: Request) -> W {
        assert!(back.0 == self.cell, "a receipt is good for its own request");
        // SAFETY: having the Request is owning the cell. It was filled with this W, and not reused since: receipts are
        // kept with their request, or redeemed where the two were made (see their two users).
        unsafe { empty::<W>(back.0) }
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

/// The other end of a watched request: where its result arrives. Dropping it lets the request go: its reaper
/// drops file and buffer.
#[derive(Debug)]
pub(crate) struct Watch<W: Work> {
    cell: NonNull<Header>,
    work: PhantomData<W>,
}

// SAFETY: the watcher reads and writes only the state word, the waker (Send + Sync) in its turn, and at the
// end W, which is Send.
unsafe impl<W: Work> Send for Watch<W> {}
// SAFETY: what takes `&self` touches atomics only.
unsafe impl<W: Work> Sync for Watch<W> {}

impl<W: Work> Watch<W> {
    fn header(&self) -> &Header {
        // SAFETY: the cell lives until the watcher has emptied or abandoned it, which consumes the Watch.
        unsafe { self.cell.as_ref() }
    }

    /// The number that the kernel knows the request by. Never 0, and never that of another live request.
    pub(crate) fn tag(&self) -> u64 {
        tag(self.cell)
    }

    /// Whether the result is there.
    pub(crate) fn is_done(&self) -> bool {
        // Acquire: of DONE, the result. SeqCst: see `Request::settle`.
        self.header().state.load(Ordering::SeqCst) == DONE
    }

    /// As `is_done`, but waits for a reaper that is just taking the waker: between two instructions, or
    /// preempted there.
    fn is_done_or_untouched(&self) -> bool {
        loop {
            match self.header().state.load(Ordering::SeqCst) {
                WAKING => yield_now(),
                state => return state == DONE,
            }
        }
    }

    /// Leaves `waker` to be woken when the result is there. `false`: it is there already, and nobody will be woken.
    pub(crate) fn leave(&mut self, waker: &Waker) -> bool {
        match self.recall() {
            Err(Finished) => false,
            Ok(Some(old)) if old.will_wake(waker) => self.post(old),
            // A panic of the user's `clone` leaves PENDING and no waker: harmless.
            Ok(_) => self.post(waker.clone()),
        }
    }

    fn post(&mut self, waker: Waker) -> bool {
        // SAFETY: the state is PENDING, or DONE by a reaper that came from PENDING: the slot is the
        // watcher's, and empty.
        unsafe { self.header().waker.put(waker) };
        // Release: the reaper that leaves WAITING sees the waker. SeqCst: see `Request::settle`.
        let state = &self.header().state;
        if state
            .compare_exchange(PENDING, WAITING, Ordering::SeqCst, Ordering::Acquire)
            .is_ok()
        {
            return true;
        }
        // SAFETY: written above, and the reaper went from PENDING to DONE without looking at it.
        drop(unsafe { self.header().waker.take() });
        false
    }

    /// Takes back the waker that was left, if there was one.
    fn recall(&mut self) -> Result<Option<Waker>, Finished> {
        // Relaxed: the waker was written by this watcher, and the reaper has not looked at it.
        let state = &self.header().state;
        if state
            .compare_exchange(WAITING, PENDING, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
        {
            // SAFETY: leaving WAITING made the waker ours.
            return Ok(Some(unsafe { self.header().waker.take() }));
        }
        if self.is_done_or_untouched() {
            Err(Finished)
        } else {
            Ok(None)
        }
    }

    /// The finished work, or the watch back where the result is not there yet.
    pub(crate) fn take(self) -> Result<W::Output, Watch<W>> {
        if !self.is_done() {
            return Err(self);
        }
        let watch = ManuallyDrop::new(self);
        // SAFETY: DONE made the cell the watcher's alone, and the result was stored before.
        let result = unsafe { *watch.header().result.get() };
        // SAFETY: as above; it was filled with this W, and the Watch is forgotten.
        let work = unsafe { empty::<W>(watch.cell) };
        // SAFETY: the result is what the kernel said of this very request, or the errno with which it refused it.
        Ok(unsafe { work.finish(result) })
    }

    /// The body back, with the request that came back unsubmitted.
    fn redeem(self, back: Request) -> W {
        let watch = ManuallyDrop::new(self);
        assert!(back.0 == watch.cell, "a watch is for its own request");
        // SAFETY: with the Request and the Watch, both of the cell's users are here; it was filled with this W.
        unsafe { empty::<W>(watch.cell) }
    }

    /// Whether its first event may not be its last.
    pub(crate) fn may_go_on(&self) -> bool {
        let traits = self.header().traits;
        traits.may_go_on || traits.offload
    }

    /// The finished work, by a watcher that took the event itself.
    ///
    /// # Safety
    /// `result` is what the request's event said, the event was taken by the caller, and nobody else has the Request.
    pub(crate) unsafe fn finish(mut self, result: i64) -> W::Output {
        drop(self.recall()); // a waker that nobody will call
        let watch = ManuallyDrop::new(self);
        // SAFETY: with its event the caller took the cell; the Watch is forgotten.
        let work = unsafe { empty::<W>(watch.cell) };
        // SAFETY: the caller's promise.
        unsafe { work.finish(result) }
    }

    pub(crate) fn is_cancellable(&self) -> bool {
        self.header().traits.cancellable
    }

    /// Keeps the request from being submitted, if it was not: its submitter completes it then.
    pub(crate) fn cancel_before_submission(&self) -> bool {
        let before = self.header().hand.compare_exchange(
            FREE,
            CANCELLED,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        matches!(before, Ok(FREE) | Err(CANCELLED))
    }

    /// Asks the kernel to cancel the request; `false`: it doesn't have it, any more or yet.
    pub(crate) fn cancel_in(&self, kernel: &Kernel) -> bool {
        // SAFETY: the cell lives as long as the Watch, so its address is this request's and no other's.
        unsafe { kernel.cancel(self.header().iocb.get()) }
    }

    /// Lets go of the cell for ever: in a forked child it is a copy of something that only the parent may end.
    pub(crate) fn forget(self) {
        let _ = ManuallyDrop::new(self);
    }

    /// Whether the cell is now the reaper's, which drops the body when the event comes.
    fn abandon(&mut self) -> bool {
        let Ok(waker) = self.recall() else {
            return false;
        };
        // Release: the reaper that sees ABANDONED sees everything the watcher did. Acquire: of DONE, the result.
        let gone = self
            .header()
            .state
            .compare_exchange(PENDING, ABANDONED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        drop(waker); // last: a waker is user code and may panic
        gone
    }
}

impl<W: Work> Drop for Watch<W> {
    fn drop(&mut self) {
        if !self.abandon() {
            // SAFETY: the state is DONE: the cell is the watcher's alone, and the Watch ends here.
            drop(unsafe { empty::<W>(self.cell) });
        }
    }
}

/// The result came before its watcher looked.
struct Finished;

/// The number that identifies the cell to the kernel. Cells are aligned, so it is never 0 or 1.
fn tag(cell: NonNull<Header>) -> u64 {
    cell.as_ptr().expose_provenance() as u64
}

/// Where the body of a cell lies.
fn body(cell: NonNull<Header>) -> NonNull<u8> {
    // SAFETY: a header is the beginning of a cell of CELL bytes, and BODY < CELL (asserted above).
    unsafe { cell.cast::<u8>().add(BODY) }
}

/// Writes the body and describes it to the kernel at its final address.
///
/// # Safety
/// `cell` has its header and no body, and the caller owns it.
unsafe fn put<W: Work>(cell: NonNull<Header>, work: W) {
    let home = if fits::<W>() {
        let home = body(cell).cast::<W>();
        debug_assert!(home.is_aligned());
        // SAFETY: the body has the room and the alignment (`fits`), and is empty.
        unsafe { home.write(work) };
        home
    } else {
        let home = NonNull::from(Box::leak(Box::new(work)));
        // SAFETY: the body has room for a pointer.
        unsafe { body(cell).cast::<NonNull<W>>().write(home) };
        home
    };
    // SAFETY: the caller owns the cell.
    let iocb = unsafe { iocb_of(cell) };
    iocb.aio_data = tag(cell);
    // SAFETY: written just now and ours, beside the iocb.
    unsafe { &mut *home.as_ptr() }.describe(iocb);
}

/// Takes the body out and gives the cell back.
///
/// # Safety
/// The caller owns the cell, which was filled with this `W`, and nobody uses it afterwards.
unsafe fn empty<W: Work>(cell: NonNull<Header>) -> W {
    // SAFETY: the caller's promise.
    let home = unsafe { home::<W>(cell) };
    let work = if fits::<W>() {
        // SAFETY: `put` wrote it there, and it is read once.
        unsafe { home.read() }
    } else {
        // SAFETY: `put` leaked this box, and it is taken back once.
        *unsafe { Box::from_raw(home.as_ptr()) }
    };
    // SAFETY: the cell came from the pool, and its content has been moved out.
    unsafe { pool::give(cell.cast()) };
    work
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
/// As [`empty`]; the result is stored.
unsafe fn run_callback<W: Work<Output = ()>>(cell: NonNull<Header>) {
    // SAFETY: the caller owns the cell.
    let result = unsafe { *result_of(cell) };
    // SAFETY: the caller's promise. The cell is free before the callback runs: the request that it submits
    // finds it warm.
    let work = unsafe { empty::<W>(cell) };
    // SAFETY: the result is what the kernel said of this very request, or the errno with which it refused it.
    unsafe { work.finish(result) }
}

/// # Safety
/// As [`empty`].
unsafe fn drop_body<W: Work>(cell: NonNull<Header>) {
    // SAFETY: the caller's promise.
    drop(unsafe { empty::<W>(cell) });
}

/// # Safety
/// The caller owns the cell, which was filled with this `W`; the result is stored.
unsafe fn proceed<W: Work>(cell: NonNull<Header>) -> Progress {
    // SAFETY: the caller owns the cell.
    let iocb = unsafe { iocb_of(cell) };
    // SAFETY: as above.
    let result = unsafe { result_of(cell) };
    // SAFETY: filled with this W.
    let home = unsafe { home::<W>(cell) };
    // SAFETY: the kernel is done with the request, so the body may be touched; it lies beside iocb and result.
    unsafe { &mut *home.as_ptr() }.proceed(iocb, result)
}

/// # Safety
/// The caller owns the cell for as long as it has the answer, and has no other reference to its iocb.
unsafe fn iocb_of<'a>(cell: NonNull<Header>) -> &'a mut iocb {
    // SAFETY: the header of a live cell.
    let place = unsafe { &(*cell.as_ptr()).iocb };
    // SAFETY: the caller's promise.
    unsafe { &mut *place.get() }
}

/// # Safety
/// The caller owns the cell for as long as it has the answer, and has no other reference to its result.
unsafe fn result_of<'a>(cell: NonNull<Header>) -> &'a mut i64 {
    // SAFETY: the header of a live cell.
    let place = unsafe { &(*cell.as_ptr()).result };
    // SAFETY: the caller's promise.
    unsafe { &mut *place.get() }
}

/// Where the body lives.
///
/// # Safety
/// The cell was filled with this `W`.
unsafe fn home<W>(cell: NonNull<Header>) -> NonNull<W> {
    if fits::<W>() {
        return body(cell).cast();
    }
    // SAFETY: `put` wrote the address of a leaked box there.
    unsafe { body(cell).cast::<NonNull<W>>().read() }
}

/// A queue of requests, first in first out, linked through the cells: it never allocates.
#[derive(Debug, Default)]
pub(crate) struct List {
    ends: Option<(NonNull<Header>, NonNull<Header>)>,
    len: usize,
}

// SAFETY: a list owns its requests, which are Send.
unsafe impl Send for List {}

impl List {
    pub(crate) const fn new() -> List {
        List { ends: None, len: 0 }
    }

    pub(crate) fn of(request: Request) -> List {
        let mut list = List::new();
        list.push(request);
        list
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, request: Request) {
        link(request.0, None);
        self.append(List {
            ends: Some((request.0, request.0)),
            len: 1,
        });
    }

    /// Takes them off one after the other.
    pub(crate) fn for_each(mut self, mut each: impl FnMut(Request)) {
        while let Some(request) = self.pop() {
            each(request);
        }
    }

    /// Puts all of `other` behind all of this.
    pub(crate) fn append(&mut self, other: List) {
        self.len += other.len;
        self.ends = match (self.ends, other.ends) {
            (Some((first, last)), Some((next, end))) => {
                link(last, Some(next));
                Some((first, end))
            }
            (ends, None) => ends,
            (None, ends) => ends,
        };
    }

    /// The oldest `most` of them, or all.
    pub(crate) fn split(&mut self, most: usize) -> List {
        if most >= self.len {
            return std::mem::take(self);
        }
        let mut oldest = List::new();
        while oldest.len < most
            && let Some(request) = self.pop()
        {
            oldest.push(request);
        }
        oldest
    }

    /// The oldest.
    pub(crate) fn pop(&mut self) -> Option<Request> {
        let (first, last) = self.ends?;
        // SAFETY: the list owns its requests.
        let header = unsafe { first.as_ref() };
        // SAFETY: with the request it owns the link.
        let next = unsafe { *header.next.get() };
        self.ends = next.map(|next| (next, last));
        self.len -= 1;
        Some(Request(first))
    }
}

/// Only lists call this, for a request that is theirs.
fn link(cell: NonNull<Header>, next: Option<NonNull<Header>>) {
    // SAFETY: the list owns the request.
    let header = unsafe { cell.as_ref() };
    // SAFETY: the link belongs to whoever owns the request.
    unsafe { *header.next.get() = next }
}

/// Requests on their way through one `io_submit` after the other, oldest first.
#[derive(Debug)]
pub(crate) struct Batch<const N: usize> {
    iocbs: [*mut iocb; N],
    /// Before `next` the kernel has them, or they were taken out; up to `end` they are ours.
    next: usize,
    end: usize,
    /// Cancelled before they were submitted.
    cancelled: List,
}

impl<const N: usize> Batch<N> {
    /// The first `count` of `list`, but at most N.
    pub(crate) fn of(list: &mut List, count: usize) -> Batch<N> {
        let mut batch = Batch {
            iocbs: [std::ptr::null_mut(); N],
            next: 0,
            end: 0,
            cancelled: List::new(),
        };
        for _ in 0..count.min(N) {
            match list.pop() {
                None => break,
                Some(request) if request.hand() => batch.push(request),
                Some(request) => batch.cancelled.push(request),
            }
        }
        batch
    }

    fn push(&mut self, request: Request) {
        self.iocbs[self.end] = request.header().iocb.get();
        self.end += 1;
    }

    /// What was cancelled instead of being submitted.
    pub(crate) fn take_cancelled(&mut self) -> List {
        std::mem::take(&mut self.cancelled)
    }

    /// How many are still ours.
    pub(crate) fn len(&self) -> usize {
        self.end - self.next
    }

    /// One `io_submit` of at most `most` of what is still ours. What it accepts is ours no more, from before
    /// the call returns (I3).
    pub(crate) fn submit(&mut self, kernel: &Kernel, most: usize) -> Result<usize, i32> {
        let most = most.min(self.len());
        // SAFETY: the iocbs are of requests that we own and that were described at their final address; their
        // bodies own what they point to, and are not touched before their event is taken.
        let accepted = unsafe { kernel.submit(&self.iocbs[self.next..self.next + most]) }?;
        debug_assert!(accepted <= most);
        self.next += accepted;
        Ok(accepted)
    }

    /// What the head of the batch is, for the log: its descriptor and opcode.
    pub(crate) fn head(&self) -> Option<(u32, u16)> {
        let iocb = *self.iocbs[self.next..self.end].first()?;
        // SAFETY: the request is ours.
        let iocb = unsafe { &*iocb };
        Some((iocb.aio_fildes, iocb.aio_lio_opcode))
    }

    /// Takes out the oldest that is still ours.
    pub(crate) fn pop(&mut self) -> Option<Request> {
        let iocb = *self.iocbs[self.next..self.end].first()?;
        self.next += 1;
        // SAFETY: the request is ours.
        let tag = unsafe { (*iocb).aio_data };
        // SAFETY: as above, and its iocb carries its tag.
        Some(unsafe { Request::from_tag(tag) })
    }

    /// All that is still ours, as a list.
    pub(crate) fn rest(mut self) -> List {
        let mut list = List::new();
        while let Some(request) = self.pop() {
            request.take_back_from_hand();
            list.push(request);
        }
        list
    }
}
