//! A global allocator that counts: how `allocs_per_io` is known and not guessed.
#![allow(unsafe_code, reason = "GlobalAlloc is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Const-initialised and without a destructor: reading it inside the allocator allocates nothing and
    /// works at any moment of a thread's life.
    static EXEMPT: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, counting each `alloc`, `alloc_zeroed` and `realloc` of the threads that are not
/// exempt.
pub(crate) struct Counting;

/// Leaves the calling thread's allocations out of the count.
pub(crate) fn exempt_this_thread() {
    EXEMPT.set(true);
}

/// Allocations so far.
pub(crate) fn total() -> u64 {
    ALLOCATIONS.load(Relaxed)
}

fn count() {
    if !EXEMPT.get() {
        ALLOCATIONS.fetch_add(1, Relaxed);
    }
}

// SAFETY: every method hands its arguments unchanged to `System`, which upholds GlobalAlloc's contract;
// counting touches no memory of the caller's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: our caller meets `alloc`'s conditions, and they are the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `pointer` came from one of these methods, so from `System`, with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}
