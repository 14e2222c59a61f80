//! An allocator in which one thread can be stopped at a chosen allocation: with the locks that it has then.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

struct Gated;

#[global_allocator]
static ALLOCATOR: Gated = Gated;

/// The thread that will be stopped; 0: none.
static WHO: AtomicI32 = AtomicI32::new(0);
/// How many allocations it has left.
static LEFT: AtomicI32 = AtomicI32::new(0);
static STOPPED: AtomicBool = AtomicBool::new(false);

// SAFETY: every call is passed on.
unsafe impl GlobalAlloc for Gated {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let who = WHO.load(Ordering::SeqCst);
        // SAFETY: takes nothing.
        if who != 0 && who == unsafe { libc::gettid() } {
            count_down();
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(address, layout) }
    }
}

fn count_down() {
    if LEFT.fetch_sub(1, Ordering::SeqCst) != 0 {
        return;
    }
    STOPPED.store(true, Ordering::SeqCst);
    while WHO.load(Ordering::SeqCst) != 0 {
        // SAFETY: a number.
        unsafe { libc::usleep(100) };
    }
}

/// Stops this thread at its `nth` allocation from now on, until [`go_on`]. In a child nothing is stopped: its
/// thread has another number.
pub(crate) fn stop_at(nth: i32) {
    STOPPED.store(false, Ordering::SeqCst);
    LEFT.store(nth, Ordering::SeqCst);
    // SAFETY: takes nothing.
    WHO.store(unsafe { libc::gettid() }, Ordering::SeqCst);
}

/// Whether the thread is stopped.
pub(crate) fn is_stopped() -> bool {
    STOPPED.load(Ordering::SeqCst)
}

/// Lets the thread go, and stops none any more.
pub(crate) fn go_on() {
    WHO.store(0, Ordering::SeqCst);
}
