//! The memory of a request: what `aio_data` points to, from submission until the result has been delivered.
//!
//! ```text
//!   ├───────────────────── Header ──────────────────────┤
//!   ┌──────┬────────┬───────┬────────┬──────────┬───────┬──────────────────────────────┐
//!   │ iocb │ vtable │ links │ result │ state, … │ waker │ body: W, or a box of a big W │
//!   └──────┴────────┴───────┴────────┴──────────┴───────┴──────────────────────────────┘
//! ```
//!
//! The body owns file, buffer and callback. It is written to the cell first and described to the kernel
//! afterwards, at its final address, and no thread moves or touches it before the event has been taken (I2).
//!
//! A cell has one owner at a time, and owning it is having its `OwnedCell`: submitter → backlog → kernel →
//! reaper → dispatcher. While the kernel has it, the `OwnedCell` is the number in `aio_data`. Only a
//! *watched* request is shared, between the thread or future that waits for it (which has the `Watch`) and
//! the reaper that finishes it, and they share it by its state word, see [`Header::state`].
#![allow(unsafe_code, reason = "type-erased memory shared with the kernel")]

use super::arrivals::Arrivals;
use super::marks::Marks;
use super::pool;
use crate::op::{Progress, Work};
use crate::sync::{AtomicBool, AtomicU32, UnsafeCell};
use crate::sys::iocb;
use crate::user_code;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;

pub(super) const PENDING: u32 = 0;
pub(super) const WAITING: u32 = 1;
pub(super) const WAKING: u32 = 2;
pub(super) const DONE: u32 = 3;
pub(super) const ABANDONED: u32 = 4;
pub(super) const CALLBACK: u32 = 5;
pub(super) const QUEUED: u32 = 6;

/// In a batch that has not been submitted.
pub(super) const NEW: u32 = 0;
/// On its way, or never in a batch.
pub(super) const SENT: u32 = 1;
/// Its watcher cancelled it while it was new: the batch completes it.
pub(super) const UNWANTED: u32 = 2;
/// Its watcher takes the body back while it is new.
pub(super) const TAKING: u32 = 3;
/// The watcher has taken the body, and does not use the cell any more.
pub(super) const HOLLOW: u32 = 4;
/// The batch does not use the cell any more.
pub(super) const LEFT: u32 = 5;

/// The operations on a cell that depend on the type of its body.
pub(super) struct VTable {
    /// Empties the cell and gives it back, running a callback with the result.
    pub(super) run: unsafe fn(Cell),
    /// Empties the cell and gives it back, dropping the body.
    pub(super) discard: unsafe fn(Cell),
    /// Asks the body whether the result is the end of it.
    pub(super) proceed: unsafe fn(&Cell) -> Progress,
    /// The eventfd that the body was given.
    pub(super) eventfd: unsafe fn(&Cell) -> Option<Arc<OwnedFd>>,
}

/// The part that every cell has, whatever it carries. As aligned as a body may want to be, so that the body
/// can follow.
#[repr(C, align(16))]
pub(super) struct Header {
    /// The owner's, until the kernel has the request; then no thread may touch it.
    pub(super) iocb: UnsafeCell<iocb>,
    /// What can be done with a body of this type.
    pub(super) vtable: &'static VTable,
    /// The owner's: what follows in the one list in which it keeps the cell, and is owned with it.
    pub(super) next: UnsafeCell<Option<Cell>>,
    /// The owner's: what comes before it in that list.
    pub(super) prev: UnsafeCell<Option<Cell>>,
    /// What the event said: bytes, or a negative errno. The owner's, and from `DONE` on the watcher's.
    pub(super) result: UnsafeCell<i64>,
    /// | state | when | the cell is | the waker is |
    /// | --- | --- | --- | --- |
    /// | `PENDING` | from the beginning | the owner's | empty, the watcher's to write |
    /// | `WAITING` | the watcher left a waker | the owner's | owned by the thread that leaves this state |
    /// | `WAKING` | for some instructions, before `DONE` | the owner's | the owner's |
    /// | `DONE` | the result is stored | the watcher's | empty |
    /// | `ABANDONED` | the watcher went first | the owner's, to drop the body | empty |
    /// | `CALLBACK` | always, where there is no watcher | the owner's | empty |
    /// | `QUEUED` | always, where a queue gets the result | the owner's | the queue's `Arrivals`, until it is settled |
    pub(super) state: AtomicU32,
    /// Between a batch and the watcher of a request in it.
    ///
    /// | admission | when | next |
    /// | --- | --- | --- |
    /// | `NEW` | the batch is not submitted | `SENT`, `UNWANTED`, `TAKING` |
    /// | `SENT` | the batch was submitted or dropped; from the beginning, without a batch | – |
    /// | `UNWANTED` | the watcher cancelled before that: the batch completes the request | – |
    /// | `TAKING` | the watcher waited before that, and takes the body out now | `HOLLOW`, `LEFT` |
    /// | `HOLLOW` | the watcher has taken the body | `LEFT`: the batch gives the cell back |
    /// | `LEFT` | the batch has let go of the cell | `HOLLOW`: the watcher gives the cell back |
    pub(super) admission: AtomicU32,
    /// Whether it waits in the backlog, if it can be cancelled. Changes under the backlog's lock.
    pub(super) queued: AtomicBool,
    /// Whether its watcher reaps for itself, so that the dispatcher need not stay awake for it.
    pub(super) reaps_itself: AtomicBool,
    /// Whether the waker is that of a thread in a wait of this crate, and so no user code. Written before
    /// `WAITING` by the watcher.
    pub(super) thread_waits: AtomicBool,
    /// What `Work::traits` said, and whether it is observed.
    pub(super) marks: Marks,
    /// Holds a waker in `WAITING`, and the queue in `QUEUED`.
    pub(super) waker: WakerSlot,
}

#[cfg(loom)]
impl Header {
    /// For a model, freeing is a use of everything: a thread that still uses the cell is a race.
    fn end(&self) {
        let _ = (self.iocb.get(), self.next.get(), self.prev.get());
        let _ = self.result.get();
        let _ = self.waker.0.get();
    }
}

/// Room for a waker, or for the queue of a request that has one; full or empty as the state says.
pub(super) struct WakerSlot(UnsafeCell<MaybeUninit<Waker>>);

const _: () = assert!(size_of::<Arc<Arrivals>>() <= size_of::<Waker>());
const _: () = assert!(align_of::<Arc<Arrivals>>() <= align_of::<Waker>());

impl WakerSlot {
    fn empty() -> Self {
        WakerSlot(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// # Safety
    /// It is empty, and no other thread uses it meanwhile.
    pub(super) unsafe fn put(&self, waker: Waker) {
        // SAFETY: our own memory, and the caller's promise.
        unsafe { self.0.get().cast::<Waker>().write(waker) }
    }

    /// # Safety
    /// It is full, no other thread uses it meanwhile, and it counts as empty afterwards.
    pub(super) unsafe fn take(&self) -> Waker {
        // SAFETY: the caller's promise: a value was put here, and is read once.
        unsafe { self.0.get().cast::<Waker>().read() }
    }

    /// # Safety
    /// As `put`.
    pub(super) unsafe fn put_queue(&self, queue: Arc<Arrivals>) {
        // SAFETY: our own memory, large and aligned enough (asserted above), and the caller's promise.
        unsafe { self.0.get().cast::<Arc<Arrivals>>().write(queue) }
    }

    /// # Safety
    /// It holds a queue, and no other thread uses it meanwhile.
    pub(super) unsafe fn queue(&self) -> &Arc<Arrivals> {
        // SAFETY: the caller's promise: a queue was put here.
        unsafe { &*self.0.get().cast::<Arc<Arrivals>>() }
    }

    /// # Safety
    /// It holds a queue, no other thread uses it meanwhile, and it counts as empty afterwards.
    pub(super) unsafe fn take_queue(&self) -> Arc<Arrivals> {
        // SAFETY: the caller's promise: a queue was put here, and is read once.
        unsafe { self.0.get().cast::<Arc<Arrivals>>().read() }
    }
}

#[repr(C)]
struct Layout {
    header: Header,
    /// `W`, or a `Box<W>` where W needs more room or a larger alignment.
    body: MaybeUninit<[u8; ROOM]>,
}

/// Bytes a body may have to be stored without an allocation.
const ROOM: usize = pool::CELL - size_of::<Header>();
const BODY: usize = std::mem::offset_of!(Layout, body);

const _: () = assert!(size_of::<Layout>() == pool::CELL && align_of::<Layout>() <= pool::ALIGN);
const _: () = assert!(cfg!(loom) || ROOM >= 112);
const _: () = assert!(align_of::<Header>() == pool::ALIGN);
const _: () = assert!(BODY.is_multiple_of(pool::ALIGN));

const fn fits<W>() -> bool {
    size_of::<W>() <= ROOM && align_of::<W>() <= pool::ALIGN
}

/// Empties the cell where `describe` panics: it asks the user's file and buffer, whose panic is the caller's.
struct Described<'a, W: Work>(&'a Cell, PhantomData<W>);

impl<W: Work> Drop for Described<'_, W> {
    fn drop(&mut self) {
        // SAFETY: it takes the place of the one that `Cell::new` does not come to return.
        let cell = unsafe { self.0.share() };
        // SAFETY: the body was written, and no kernel has heard of it.
        let work = unsafe { cell.empty::<W>() };
        user_code::drop_value("dropping a request", work);
    }
}

/// A cell that is alive: it is not given back before [`Cell::empty`] takes the last `Cell` of it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) struct Cell(NonNull<Header>);

// SAFETY: the body is Send (`Work: Send`), and the header's parts belong to no thread.
unsafe impl Send for Cell {}
// SAFETY: what safe code can do with a shared header are atomics and constants.
unsafe impl Sync for Cell {}

impl Cell {
    /// A new cell with this body, described to the kernel.
    pub(super) fn new<W: Work>(
        work: W,
        state: u32,
        reaps_itself: bool,
        vtable: &'static VTable,
    ) -> Cell {
        let header = pool::take().cast::<Header>();
        let content = Header {
            iocb: UnsafeCell::new(iocb::default()),
            vtable,
            next: UnsafeCell::new(None),
            prev: UnsafeCell::new(None),
            result: UnsafeCell::new(0),
            state: AtomicU32::new(state),
            admission: AtomicU32::new(SENT),
            queued: AtomicBool::new(false),
            reaps_itself: AtomicBool::new(reaps_itself),
            thread_waits: AtomicBool::new(false),
            marks: Marks::of(work.traits()),
            waker: WakerSlot::empty(),
        };
        // SAFETY: the pool's cells are large and aligned enough for a header (asserted above), and this one
        // is ours.
        unsafe { header.write(content) };
        let mut cell = Cell(header);
        // SAFETY: the body has not been written yet, and the only Cell is here.
        unsafe { cell.fill(work) };
        cell
    }

    /// Writes the body and describes it to the kernel at its final address.
    ///
    /// # Safety
    /// There is no body yet, and no other `Cell`.
    unsafe fn fill<W: Work>(&mut self, work: W) {
        let home = if fits::<W>() {
            let home = self.room().cast::<W>();
            debug_assert!(home.is_aligned());
            // SAFETY: the body has the room and the alignment (`fits`), and is empty.
            unsafe { home.write(work) };
            home
        } else {
            let home = NonNull::from(Box::leak(Box::new(work)));
            // SAFETY: the body has room for a pointer.
            unsafe { self.room().cast::<NonNull<W>>().write(home) };
            home
        };
        let tag = self.tag();
        // SAFETY: no other `Cell` of it exists.
        let iocb = unsafe { &mut *self.header().iocb.get() };
        iocb.aio_data = tag;
        let described = Described(self, PhantomData::<W>);
        // SAFETY: written just now; it does not overlap with the iocb.
        unsafe { &mut *home.as_ptr() }.describe(iocb);
        std::mem::forget(described);
    }

    /// A second one of the same cell.
    ///
    /// # Safety
    /// It is let go before the last one of the others is emptied.
    pub(super) unsafe fn share(&self) -> Cell {
        Cell(self.0)
    }

    /// The number that identifies the cell to the kernel. Cells are aligned, so it is never 0 or 1.
    pub(super) fn tag(&self) -> u64 {
        self.0.as_ptr().expose_provenance() as u64
    }

    /// # Safety
    /// `tag` is that of a live cell, and the answer is let go before the cell is emptied by another `Cell`.
    pub(super) unsafe fn from_tag(tag: u64) -> Cell {
        let address = usize::try_from(tag).expect("a tag is an address");
        let header = std::ptr::with_exposed_provenance_mut::<Header>(address);
        debug_assert!(!header.is_null() && header.is_aligned());
        // SAFETY: the address of a cell, by the caller's promise, so not null.
        Cell(unsafe { NonNull::new_unchecked(header) })
    }

    #[inline]
    pub(super) fn header(&self) -> &Header {
        // SAFETY: a Cell is of a live cell, whose header was written by `new`. What changes in it lies in
        // UnsafeCells and atomics.
        unsafe { self.0.as_ref() }
    }

    /// Where the body lies, or the pointer to it.
    fn room(&self) -> NonNull<u8> {
        // SAFETY: a header is the beginning of a cell of CELL bytes, and BODY < CELL (asserted above).
        unsafe { self.0.cast::<u8>().add(BODY) }
    }

    /// Where the body lives.
    ///
    /// # Safety
    /// The cell was filled with this `W`.
    pub(super) unsafe fn body<W>(&self) -> NonNull<W> {
        if fits::<W>() {
            return self.room().cast();
        }
        // SAFETY: `fill` wrote the address of a leaked box there.
        unsafe { self.room().cast::<NonNull<W>>().read() }
    }

    /// Takes the body out and gives the cell back.
    ///
    /// # Safety
    /// The cell was filled with this `W`, the kernel does not have it, and no other `Cell` of it is used any
    /// more.
    pub(super) unsafe fn empty<W: Work>(self) -> W {
        // SAFETY: the caller's promise.
        let work = unsafe { self.take_body::<W>() };
        // SAFETY: as above, and the body is gone.
        unsafe { self.give_back() };
        work
    }

    /// Takes the body out.
    ///
    /// # Safety
    /// The cell was filled with this `W`, the kernel does not have it, and the body is not used again.
    pub(super) unsafe fn take_body<W: Work>(&self) -> W {
        // SAFETY: the caller's promise.
        let home = unsafe { self.body::<W>() };
        if fits::<W>() {
            // SAFETY: `fill` wrote it there, and it is read once.
            unsafe { home.read() }
        } else {
            // SAFETY: `fill` leaked this box, and it is taken back once.
            *unsafe { Box::from_raw(home.as_ptr()) }
        }
    }

    /// Gives the cell back, without its body.
    ///
    /// # Safety
    /// The body was taken, and no other `Cell` of it is used any more.
    pub(super) unsafe fn give_back(self) {
        #[cfg(loom)]
        self.header().end();
        // SAFETY: the cell came from the pool, and its content has been moved out.
        unsafe { pool::give(self.0.cast()) };
    }
}
