//! The other end of a watched request: where its result arrives.
#![allow(
    unsafe_code,
    reason = "shares a request's cell with its owner by turns"
)]

use super::cell::{ABANDONED, CANCELLED, DONE, FREE, PENDING, WAITING, WAKING};
use super::cell::{Cell, Header};
use super::request::Request;
use crate::op::Work;
use crate::sync::{Ordering, yield_now};
use crate::sys::Kernel;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::task::Waker;

/// The watcher's share of a cell that carries a `W`. Dropping it lets the request go: its reaper drops file
/// and buffer.
///
/// Who may touch what, and when, is said at [`Header::state`].
#[derive(Debug)]
pub(crate) struct Watch<W: Work> {
    cell: Cell,
    work: PhantomData<fn() -> W>,
}

/// The result came before its watcher looked.
struct Finished;

impl<W: Work> Watch<W> {
    /// # Safety
    /// The cell was filled with this `W` and is `PENDING`, and this is its only Watch.
    pub(super) unsafe fn of(cell: Cell) -> Watch<W> {
        Watch {
            cell,
            work: PhantomData,
        }
    }

    #[inline]
    fn header(&self) -> &Header {
        self.cell.header()
    }

    /// The number that the kernel knows the request by. Never 0, and never that of another live request.
    pub(crate) fn tag(&self) -> u64 {
        self.cell.tag()
    }

    /// Whether the result is there.
    pub(crate) fn is_done(&self) -> bool {
        // Acquire: of DONE, the result. SeqCst: see `Request::settle`.
        self.header().state.load(Ordering::SeqCst) == DONE
    }

    /// Whether its first event may not be its last.
    pub(crate) fn may_go_on(&self) -> bool {
        let traits = self.header().traits;
        traits.may_go_on || traits.offload
    }

    /// Leaves `waker` to be woken when the result is there. `false`: it is there already, and nobody will be
    /// woken.
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
        // Release: the reaper that leaves WAITING sees the waker. SeqCst: see `Request::settle`. Acquire: of
        // DONE, the result.
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

    /// As `is_done`, but waits for a reaper that is just taking the waker: between two instructions, or
    /// preempted there.
    fn is_done_or_untouched(&self) -> bool {
        loop {
            // SeqCst: as in `is_done`.
            match self.header().state.load(Ordering::SeqCst) {
                WAKING => yield_now(),
                state => return state == DONE,
            }
        }
    }

    /// The finished work, or the watch back where the result is not there yet.
    pub(crate) fn take(self) -> Result<W::Output, Watch<W>> {
        if !self.is_done() {
            return Err(self);
        }
        let cell = self.into_cell();
        // SAFETY: DONE made the cell the watcher's alone, and the result was stored before.
        let result = unsafe { *cell.header().result.get() };
        // SAFETY: as above.
        let work = unsafe { cell.empty::<W>() };
        // SAFETY: the result is what the kernel said of this very request, or the errno with which it refused
        // it.
        Ok(unsafe { work.finish(result) })
    }

    /// The finished work, by a watcher that took the event itself.
    ///
    /// # Safety
    /// `result` is what the request's event said, the event was taken by the caller, and nobody else has the
    /// Request.
    pub(crate) unsafe fn finish(mut self, result: i64) -> W::Output {
        drop(self.recall()); // a waker that nobody will call
        // SAFETY: with its event the caller took the cell.
        let work = unsafe { self.into_cell().empty::<W>() };
        // SAFETY: the caller's promise.
        unsafe { work.finish(result) }
    }

    /// The body back, with the request that came back unsubmitted.
    pub(super) fn redeem(self, back: Request) -> W {
        assert!(back.0 == self.cell, "a watch is for its own request");
        // SAFETY: with the Request and the Watch both of the cell's users are here, and end here.
        unsafe { self.into_cell().empty::<W>() }
    }

    /// The cell without its Watch, whose destructor would let the request go.
    fn into_cell(self) -> Cell {
        let watch = ManuallyDrop::new(self);
        // SAFETY: it takes the place of the Watch's own, which is not used again.
        unsafe { watch.cell.share() }
    }

    pub(crate) fn is_cancellable(&self) -> bool {
        self.header().traits.cancellable
    }

    /// Keeps the request from being submitted, if it was not: its submitter completes it then.
    pub(crate) fn cancel_before_submission(&self) -> bool {
        // Relaxed: see `Request::hand`.
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

    /// Lets go of the cell for ever: in a forked child it is a copy of something that only the parent may
    /// end.
    pub(crate) fn forget(self) {
        std::mem::forget(self);
    }

    /// Whether the cell is now the reaper's, which drops the body when the event comes.
    fn abandon(&mut self) -> bool {
        let Ok(waker) = self.recall() else {
            return false;
        };
        // Release: the reaper that sees ABANDONED sees everything the watcher did. Acquire: of DONE, the
        // result.
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
        if self.abandon() {
            return;
        }
        // SAFETY: it takes the place of the Watch's own, which ends here.
        let cell = unsafe { self.cell.share() };
        // SAFETY: the state is DONE: the cell is the watcher's alone.
        drop(unsafe { cell.empty::<W>() });
    }
}
