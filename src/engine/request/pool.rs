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
/// `cell` came from [`take`], and no thread uses it any more.
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
/// `cell` came from [`take`], and no thread uses it any more.
#[inline]
pub(crate) unsafe fn give(cell: NonNull<u8>) {
    // SAFETY: the caller's promise.
    unsafe { imp::give(cell) }
}

#[cfg(not(any(loom, shuttle)))]
mod imp {
    use super::{NonNull, free, fresh};
    use crate::sync::{Mutex, MutexGuard, yield_now};
    use std::cell::RefCell;

    /// A magazine holds at most this many cells, and trades half of them with the depot.
    const MAGAZINE: usize = 64;
    const HALF: usize = MAGAZINE / 2;
    /// Cells that the depot keeps (3.5 MiB); what comes back above that goes back to the allocator.
    const MOST: usize = 16 * 1024;
    /// How often the depot is asked for before a thread does without it.
    const TRIES: u32 = 100;

    static SHARED: Depot = Depot::new();

    thread_local! {
        // Not a `const` block: compilers before 1.90 refuse one that refers to a static with a lock in it.
        static MINE: RefCell<Magazine> = RefCell::new(Magazine::of(&SHARED));
    }

    pub(super) fn take() -> NonNull<u8> {
        // A thread that is ending has no magazine any more.
        MINE.try_with(|mine| mine.borrow_mut().take())
            .unwrap_or_else(|_| fresh())
    }

    /// # Safety
    /// As [`super::give`].
    pub(super) unsafe fn give(cell: NonNull<u8>) {
        // SAFETY: the caller's promise.
        let kept = MINE.try_with(|mine| unsafe { mine.borrow_mut().give(cell) });
        if kept.is_err() {
            // SAFETY: as above, and the magazine did not keep it.
            unsafe { free(cell) }
        }
    }

    /// Cells on their way from the threads that give to those that take.
    pub(super) struct Depot(Mutex<Idle>);

    struct Idle(Vec<NonNull<u8>>);

    // SAFETY: an idle cell is plain memory to which nothing refers.
    unsafe impl Send for Idle {}

    impl Depot {
        pub(super) const fn new() -> Depot {
            Depot(Mutex::new(Idle(Vec::new())))
        }

        /// `None` where another thread keeps it: after a fork it may be one that does not exist here, and
        /// would keep it for ever.
        fn open(&self) -> Option<MutexGuard<'_, Idle>> {
            (0..TRIES).find_map(|_| self.0.try_lock().or_else(|| (yield_now(), None).1))
        }
    }

    impl Idle {
        /// Keeps the cell, or gives it back to the allocator where there are enough.
        fn keep(&mut self, cell: NonNull<u8>) {
            if self.0.len() == MOST {
                // SAFETY: an idle cell that is in no list any more.
                return unsafe { free(cell) };
            }
            if self.0.capacity() == 0 {
                self.0.reserve_exact(MOST);
            }
            self.0.push(cell);
        }
    }

    /// One thread's cells, and the depot with which it trades.
    pub(super) struct Magazine {
        cells: Vec<NonNull<u8>>,
        depot: &'static Depot,
    }

    impl Magazine {
        pub(super) fn of(depot: &'static Depot) -> Magazine {
            let cells = Vec::new();
            Magazine { cells, depot }
        }

        pub(super) fn take(&mut self) -> NonNull<u8> {
            if self.cells.is_empty() {
                self.load();
            }
            self.cells.pop().unwrap_or_else(fresh)
        }

        /// # Safety
        /// As [`super::give`].
        pub(super) unsafe fn give(&mut self, cell: NonNull<u8>) {
            if self.cells.len() == self.cells.capacity() {
                self.make_room();
            }
            self.cells.push(cell);
        }

        #[cold]
        fn make_room(&mut self) {
            if self.cells.len() >= MAGAZINE {
                self.unload(HALF);
            }
            self.cells.reserve_exact(MAGAZINE - self.cells.len());
        }

        /// Takes half a magazine from the depot, if it has that much.
        fn load(&mut self) {
            let Some(mut depot) = self.depot.open() else {
                return;
            };
            let rest = depot.0.len().saturating_sub(HALF);
            self.cells.reserve_exact(MAGAZINE);
            self.cells.extend(depot.0.drain(rest..));
        }

        /// Gives the newest `count` cells to the depot, or to the allocator where that can't be had.
        fn unload(&mut self, count: usize) {
            let rest = self.cells.len() - count;
            let mut depot = self.depot.open();
            for cell in self.cells.drain(rest..) {
                match &mut depot {
                    Some(depot) => depot.keep(cell),
                    // SAFETY: an idle cell that is in no list any more.
                    None => unsafe { free(cell) },
                }
            }
        }
    }

    impl Drop for Magazine {
        fn drop(&mut self) {
            self.unload(self.cells.len());
        }
    }
}

#[cfg(any(loom, shuttle))]
mod imp {
    //! No reuse in a model or a simulation: a cell touched after its end is then a use after free that the
    //! checker and the allocator can see.
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

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn cells_taken_together_are_different_and_aligned() {
        let cells: Vec<_> = (0..1000).map(|_| take()).collect();
        let mut sorted: Vec<_> = cells.iter().map(|cell| cell.as_ptr() as usize).collect();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] >= CELL));
        assert!(sorted.iter().all(|address| address % ALIGN == 0));
        for cell in cells {
            // SAFETY: taken above, and not used.
            unsafe { give(cell) }
        }
    }

    #[test]
    fn a_cell_given_back_is_the_next_one_taken() {
        let cell = take();
        // SAFETY: taken above, and not used.
        unsafe { give(cell) };
        let again = take();
        assert_eq!(cell, again);
        // SAFETY: as above.
        unsafe { give(again) };
    }

    #[test]
    fn cells_given_by_another_thread_come_back_through_the_depot() {
        let depot: &imp::Depot = Box::leak(Box::new(imp::Depot::new()));
        let mut mine = imp::Magazine::of(depot);
        let cells: Vec<usize> = (0..256).map(|_| address(mine.take())).collect();
        let theirs = cells.clone();
        let giver = std::thread::spawn(move || give_all(imp::Magazine::of(depot), &theirs));
        giver.join().expect("the giver ends well");
        let again: HashSet<usize> = (0..256).map(|_| address(mine.take())).collect();
        assert_eq!(again, cells.iter().copied().collect());
        give_all(mine, &cells);
    }

    fn address(cell: NonNull<u8>) -> usize {
        cell.as_ptr().expose_provenance()
    }

    fn give_all(mut magazine: imp::Magazine, cells: &[usize]) {
        for &address in cells {
            let cell = std::ptr::with_exposed_provenance_mut(address);
            // SAFETY: taken by the test, and not used.
            unsafe { magazine.give(NonNull::new(cell).expect("not null")) }
        }
    }
}
