//! The other end of a watched request: where its result arrives.
#![allow(
    unsafe_code,
    reason = "shares a request's cell with its owner by turns"
)]

use super::cell::{
    ABANDONED, Cell, DONE, HOLLOW, Header, LEFT, NEW, PENDING, TAKING, UNWANTED, WAITING, WAKING,
};
use super::marks::{CANCELLABLE, MAY_GO_ON, OBSERVED, OFFLOAD};
use super::owned::OwnedCell;
use crate::completion::{CANCELLED, FORKED, NOT_SUBMITTED};
use crate::op::Work;
use crate::sync::{Ordering, Parker, yield_now};
use crate::user_code;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::task::Waker;

/// The watcher's share of a cell that carries a `W`. Dropping it lets the request go: its reaper drops file
/// and buffer.
///
/// The table at [`Header::state`] says which side may touch what, and when.
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
        // Acquire: of DONE, the result. SeqCst: see `OwnedCell::settle`.
        self.header().state.load(Ordering::SeqCst) == DONE
    }

    /// Whether the result is there and says that the request, a wait for readiness, was cancelled. The kernel
    /// says it by an event without events.
    pub(crate) fn was_cancelled(&self) -> bool {
        // SAFETY: DONE made the cell the watcher's alone, and the result was stored before.
        self.is_done() && matches!(unsafe { *self.header().result.get() }, 0 | CANCELLED)
    }

    /// Whether more than its result must be looked after when its event is taken.
    pub(crate) fn is_special(&self) -> bool {
        let special = MAY_GO_ON | OFFLOAD | CANCELLABLE | OBSERVED;
        self.header().marks.has(special)
    }

    /// Whether the observer has a record of it.
    pub(crate) fn is_observed(&self) -> bool {
        self.header().marks.has(OBSERVED)
    }

    /// Registers `waker`, which is called when the result is there. Returns `false` if it is there already:
    /// then no waker is called.
    pub(crate) fn register_waker(&mut self, waker: &Waker) -> bool {
        match self.take_waker() {
            Err(Finished) => false,
            Ok(Some(old)) if old.will_wake(waker) => self.put_waker(old),
            Ok(old) => {
                drop_waker(old);
                self.put_waker(user_code::clone_waker(waker))
            }
        }
    }

    /// Drops the waker that was registered, if there was one: it will not be called. That is user code.
    #[inline]
    pub(crate) fn forget_waker(&mut self) {
        // Relaxed: only this watcher stores WAITING, and it sees that or what came of it.
        if self.header().state.load(Ordering::Relaxed) != PENDING {
            drop_waker(self.take_waker().unwrap_or(None));
        }
    }

    /// As `register_waker`, for a thread that waits in this crate.
    pub(crate) fn register_thread(&mut self, parker: &Arc<Parker>) -> bool {
        let Ok(old) = self.take_waker() else {
            return false;
        };
        drop_waker(old);
        self.put_waker_of(Waker::from(Arc::clone(parker)), true)
    }

    fn put_waker(&mut self, waker: Waker) -> bool {
        self.put_waker_of(waker, false)
    }

    fn put_waker_of(&mut self, waker: Waker, thread_waits: bool) -> bool {
        // Relaxed: published with the waker.
        self.header()
            .thread_waits
            .store(thread_waits, Ordering::Relaxed);
        // SAFETY: the state is PENDING, or DONE by a reaper that came from PENDING: the slot is the
        // watcher's, and empty.
        unsafe { self.header().waker.put(waker) };
        // Release: the reaper that leaves WAITING sees the waker. SeqCst: see `OwnedCell::settle`. Acquire:
        // of DONE, the result.
        let state = &self.header().state;
        if state
            .compare_exchange(PENDING, WAITING, Ordering::SeqCst, Ordering::Acquire)
            .is_ok()
        {
            return true;
        }
        // SAFETY: written above, and the reaper went from PENDING to DONE without looking at it.
        drop_waker(Some(unsafe { self.header().waker.take() }));
        false
    }

    /// Takes back the waker that was registered, if there was one.
    fn take_waker(&mut self) -> Result<Option<Waker>, Finished> {
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
    #[inline]
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
    /// `result` is what the request's event said, the event was taken by the caller, and no other thread has
    /// the OwnedCell.
    pub(crate) unsafe fn finish(mut self, result: i64) -> W::Output {
        self.forget_waker();
        // SAFETY: with its event the caller took the cell.
        let work = unsafe { self.into_cell().empty::<W>() };
        // SAFETY: the caller's promise.
        unsafe { work.finish(result) }
    }

    /// The body back, with the request that came back unsubmitted.
    ///
    /// # Panics
    /// If it is for another request.
    pub(crate) fn redeem(self, back: OwnedCell) -> W {
        assert!(back.tag() == self.tag(), "a watch is for its own request");
        // SAFETY: with the OwnedCell and the Watch both of the cell's users are here, and end here.
        unsafe { self.into_cell().empty::<W>() }
    }

    /// The cell without its Watch, whose destructor would let the request go.
    fn into_cell(self) -> Cell {
        let watch = ManuallyDrop::new(self);
        // SAFETY: it takes the place of the Watch's own, which is not used again.
        unsafe { watch.cell.share() }
    }

    pub(crate) fn is_cancellable(&self) -> bool {
        self.header().marks.has(CANCELLABLE)
    }

    /// Takes the request back, if it is in a batch that has not been submitted.
    pub(crate) fn take_unsubmitted(self) -> Result<W::Output, Watch<W>> {
        let Some(result) = self.claim_unsubmitted() else {
            return Err(self);
        };
        let mut watch = self;
        watch.forget_waker();
        let cell = watch.into_cell();
        // SAFETY: TAKING: the batch lets go of the cell without a look at its body.
        let work = unsafe { cell.take_body::<W>() };
        // Acquire and Release: the other side's last use of the cell comes before the end of it.
        if cell.header().admission.swap(HOLLOW, Ordering::AcqRel) == LEFT {
            // SAFETY: LEFT: the batch does not use the cell any more, and the body was taken.
            unsafe { cell.give_back() }
        }
        // SAFETY: a number that stands for "never submitted", or for "cancelled".
        Ok(unsafe { work.finish(result) })
    }

    /// Makes the request the watcher's alone, if it is in a batch that has not been submitted. Returns what is
    /// its result then.
    fn claim_unsubmitted(&self) -> Option<i64> {
        let admission = &self.header().admission;
        // Relaxed: the batch and its watcher agree on one word; what the batch's maker wrote to the cell came
        // to this thread with the watch.
        let claim = |from| {
            admission
                .compare_exchange(from, TAKING, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        };
        [(NEW, NOT_SUBMITTED), (UNWANTED, CANCELLED)]
            .into_iter()
            .find_map(|(from, result)| claim(from).then_some(result))
    }

    /// Cancels the request, if it is in a batch that has not been submitted.
    pub(crate) fn cancel_unsubmitted(&self) -> bool {
        let admission = &self.header().admission;
        // Relaxed: as in `take_unsubmitted`.
        let before =
            admission.compare_exchange(NEW, UNWANTED, Ordering::Relaxed, Ordering::Relaxed);
        matches!(before, Ok(_) | Err(UNWANTED))
    }

    /// The finished work in a forked child: the result, if it was there at the fork; else one that says
    /// `Forked`. The request itself is the parent's.
    pub(crate) fn take_in_child(self) -> W::Output {
        let is_done = self.is_done();
        let watch = match if is_done {
            Err(self)
        } else {
            self.take_unsubmitted()
        } {
            Ok(output) => return output,
            Err(watch) => watch,
        };
        let cell = watch.into_cell();
        // SAFETY: in the child this thread is the cell's only user: reapers, submitters and the kernel are
        // the parent's, and it is the parent's memory that they use. (A child's engine does nothing.)
        let result = unsafe { *cell.header().result.get() };
        // SAFETY: as above.
        let work = unsafe { cell.empty::<W>() };
        // SAFETY: the kernel's answer, or one that stands for none.
        unsafe { work.finish(if is_done { result } else { FORKED }) }
    }

    /// The body in a forked child, as if it had not been submitted: the request is the parent's.
    pub(crate) fn reclaim_in_child(self) -> W {
        // SAFETY: as in `take_in_child`.
        unsafe { self.into_cell().empty::<W>() }
    }

    /// Drops nothing: in a forked child the cell is a copy of something that only the parent may end.
    pub(crate) fn forget(self) {
        std::mem::forget(self);
    }

    /// Whether the cell is now the reaper's, which drops the body when the event comes.
    fn abandon(&mut self) -> bool {
        let Ok(waker) = self.take_waker() else {
            return false;
        };
        // Release: the reaper that sees ABANDONED sees everything the watcher did. Acquire: of DONE, the
        // result.
        let gone = self
            .header()
            .state
            .compare_exchange(PENDING, ABANDONED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        drop_waker(waker);
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
        let work = unsafe { cell.empty::<W>() };
        // The destructor of a file or a buffer is user code, on this thread as on the one that completes.
        user_code::drop_value("dropping a request", work);
    }
}

/// A waker's destructor is user code.
fn drop_waker(waker: Option<Waker>) {
    if let Some(waker) = waker {
        user_code::drop_value("dropping a waker", waker);
    }
}
