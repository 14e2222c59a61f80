//! Memory for request cells, all of one size, kept for the next request instead of being freed.
//!
//! A request is often made by one thread and finished by another. So each thread keeps a small magazine of
//! cells, and full halves of magazines travel through one shared depot: one lock for every 32 cells, and no
//! allocation once the program runs steadily.
#![allow(unsafe_code, reason = "allocates raw cells")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Bytes of a cell: with the allocator's own word no more than 256.
pub(crate) const CELL: usize = 240;
/// Alignment of a cell: what a closure, a file or a buffer handle may need; more is kept in a box.
pub(crate) const ALIGN: usize = 16;

const LAYOUT: Layout = match Layout::from_size_align(CELL, ALIGN) {
    Ok(layout) => layout,
    Err(_) => panic!("CELL and ALIGN do not fit each other"),
};

fn fresh() -> NonNull<u8> {
    // SAFETY: the layout's size is not zero.
    let memory = unsafe { alloc(LAYOUT) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(LAYOUT))
}

/// # Safety
/// `cell` came from [`take`], and nobody uses it any more.
unsafe fn free(cell: NonNull<u8>) {
    // SAFETY: `take` hands out memory of `fresh` only.
    unsafe { dealloc(cell.as_ptr(), LAYOUT) }
}

/// A cell of [`CELL`] bytes aligned to [`ALIGN`], with any content.
#[inline]
pub(crate) fn take() -> NonNull<u8> {
    imp::take()
}

/// Gives a cell back.
///
/// # Safety
/// `cell` came from [`take`], and nobody uses it any more.
#[inline]
pub(crate) unsafe fn give(cell: NonNull<u8>) {
    // SAFETY: the caller's promise.
    unsafe { imp::give(cell) }
}

#[cfg(not(loom))]
mod imp {
    use super::{NonNull, free, fresh};
    use crate::sync::{Mutex, yield_now};
    use parking_lot::MutexGuard;
    use std::cell::RefCell;

    /// A magazine holds at most this many cells, and trades half of them with the depot.
    const MAGAZINE: usize = 64;
    const HALF: usize = MAGAZINE / 2;
    /// Cells that the depot keeps (3.5 MiB); what comes back above that goes back to the allocator.
    const DEPOT: usize = 16 * 1024;

    /// How often the depot is asked for before a thread does without it.
    const TRIES: u32 = 100;

    struct Idle(Vec<NonNull<u8>>);

    // SAFETY: an idle cell is plain memory that nobody refers to.
    unsafe impl Send for Idle {}

    static DEPOT_CELLS: Mutex<Idle> = Mutex::new(Idle(Vec::new()));

    /// The depot, unless another thread keeps it: after a fork it may be one that does not exist here, and would keep it for ever.
    fn depot() -> Option<MutexGuard<'static, Idle>> {
        (0..TRIES).find_map(|_| DEPOT_CELLS.try_lock().or_else(|| (yield_now(), None).1))
    }

    struct Magazine(Vec<NonNull<u8>>);

    thread_local! {
        static MINE: RefCell<Magazine> = const { RefCell::new(Magazine(Vec::new())) };
    }

    pub(super) fn take() -> NonNull<u8> {
        // A thread that is ending has no magazine any more.
        MINE.try_with(|mine| mine.borrow_mut().take())
            .unwrap_or_else(|_| fresh())
    }

    /// # Safety
    /// As [`super::give`].
    pub(super) unsafe fn give(cell: NonNull<u8>) {
        if MINE.try_with(|mine| mine.borrow_mut().give(cell)).is_err() {
            // SAFETY: the caller's promise.
            unsafe { free(cell) }
        }
    }

    impl Magazine {
        fn take(&mut self) -> NonNull<u8> {
            if self.0.is_empty() {
                self.load();
            }
            self.0.pop().unwrap_or_else(fresh)
        }

        fn give(&mut self, cell: NonNull<u8>) {
            if self.0.len() == MAGAZINE {
                self.unload(HALF);
            }
            self.0.reserve(MAGAZINE - self.0.len());
            self.0.push(cell);
        }

        /// Takes half a magazine from the depot, if it has that much.
        fn load(&mut self) {
            let Some(mut depot) = depot() else {
                return;
            };
            let rest = depot.0.len().saturating_sub(HALF);
            self.0.reserve(MAGAZINE);
            self.0.extend(depot.0.drain(rest..));
        }

        /// Gives the newest `count` cells to the depot, or to the allocator where the depot is full or busy.
        fn unload(&mut self, count: usize) {
            let rest = self.0.len() - count;
            let mut depot = depot();
            for cell in self.0.drain(rest..) {
                match &mut depot {
                    Some(depot) if depot.0.len() < DEPOT => depot.keep(cell),
                    // SAFETY: an idle cell, in nobody's list any more.
                    _ => unsafe { free(cell) },
                }
            }
        }
    }

    impl Idle {
        fn keep(&mut self, cell: NonNull<u8>) {
            if self.0.capacity() == 0 {
                self.0.reserve_exact(DEPOT);
            }
            self.0.push(cell);
        }
    }

    impl Drop for Magazine {
        fn drop(&mut self) {
            self.unload(self.0.len());
        }
    }
}

#[cfg(loom)]
mod imp {
    //! No reuse in a model: a cell touched after its end is then a use after free that the checker and the
    //! allocator can see.
    use super::{NonNull, free, fresh};

    pub(super) fn take() -> NonNull<u8> {
        fresh()
    }

    /// # Safety
    /// As [`super::give`].
    pub(super) unsafe fn give(cell: NonNull<u8>) {
        // SAFETY: the caller's promise.
        unsafe { free(cell) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn cells_taken_together_are_different_and_aligned() {
        let cells: Vec<_> = (0..1000).map(|_| take()).collect();
        let mut sorted: Vec<_> = cells.iter().map(|cell| cell.as_ptr() as usize).collect();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] >= CELL));
        assert!(sorted.iter().all(|address| address % ALIGN == 0));
        for cell in cells {
            // SAFETY: taken above, used by nobody.
            unsafe { give(cell) }
        }
    }

    #[test]
    fn a_cell_given_back_is_the_next_one_taken() {
        let cell = take();
        // SAFETY: taken above, used by nobody.
        unsafe { give(cell) };
        let again = take();
        assert_eq!(cell, again);
        // SAFETY: as above.
        unsafe { give(again) };
    }

    #[test]
    fn cells_given_by_another_thread_come_back_through_the_depot() {
        // Other tests use the same depot, so one round may be robbed.
        assert!((0..100).any(|_| some_cells_come_back()));
    }

    fn some_cells_come_back() -> bool {
        let cells: Vec<usize> = (0..256)
            .map(|_| take().as_ptr().expose_provenance())
            .collect();
        let theirs = cells.clone();
        std::thread::spawn(move || give_all(&theirs))
            .join()
            .expect("the giver ends well");
        let again: Vec<usize> = (0..256)
            .map(|_| take().as_ptr().expose_provenance())
            .collect();
        let came_back = again.iter().any(|cell| cells.contains(cell));
        give_all(&again);
        came_back
    }

    fn give_all(cells: &[usize]) {
        for &address in cells {
            let cell =
                NonNull::new(std::ptr::with_exposed_provenance_mut(address)).expect("not null");
            // SAFETY: taken by the test, used by nobody.
            unsafe { give(cell) }
        }
    }
}
