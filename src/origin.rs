//! Noticing a fork without a system call: a page that the kernel empties in the child.
#![allow(unsafe_code, reason = "maps a page that a fork empties")]

use crate::cache_padded::CachePadded;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// The process in which a value was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    mark: u32,
}

/// The page that a child finds empty (0): its first word, or [`NO_PAGE`]; null before the first
/// [`Origin::here`]. Never changed again after that.
///
/// No lock and no `Once` guards it: a fork in the middle of another thread's first call would leave those
/// locked in the child.
static PAGE: CachePadded<AtomicPtr<AtomicU32>> = CachePadded(AtomicPtr::new(ptr::null_mut()));

/// Stands for "there is no such page" (MADV_WIPEONFORK came with Linux 4.14, and some emulations lack it):
/// the process number is asked for instead, by a system call each time.
static NO_PAGE: AtomicU32 = AtomicU32::new(0);

/// The mark of the newest process in the line of forks that has made something. A fork copies it, so that
/// marks are never used twice.
static NEWEST: AtomicU32 = AtomicU32::new(0);

impl Origin {
    /// This process.
    pub(crate) fn here() -> Origin {
        // Relaxed: only whether there is anything matters, and `page` looks again.
        if PAGE.load(Ordering::Relaxed).is_null() {
            publish(new_page());
        }
        let mark = page().map_or_else(std::process::id, mark_of);
        Origin { mark }
    }

    /// The number of the process among those that forked from one another; not 0.
    pub(crate) fn mark(self) -> u32 {
        self.mark
    }

    /// Whether this is that process, and not a forked child of it.
    #[inline]
    pub(crate) fn is_here(self) -> bool {
        // Acquire: meets the Release of `publish`.
        let page = PAGE.load(Ordering::Acquire);
        debug_assert!(!page.is_null(), "published by the `here` that made this");
        // SAFETY: `here`, which made this Origin, published the page, or NO_PAGE, before. Neither goes.
        let written = unsafe { &*page };
        // Relaxed: a child's only thread sees the page as fork left it, or what it wrote itself. NO_PAGE is
        // always 0, and no mark is.
        written.load(Ordering::Relaxed) == self.mark || self.is_number_of_this_process()
    }

    /// The same, where there is no page.
    #[cold]
    fn is_number_of_this_process(self) -> bool {
        page().is_none() && std::process::id() == self.mark
    }
}

/// The page, if there is one.
#[inline]
fn page() -> Option<&'static AtomicU32> {
    // Acquire: meets the Release of `publish`, so that the page is seen as it was mapped.
    let page = PAGE.load(Ordering::Acquire);
    if page.is_null() || ptr::eq(page, &raw const NO_PAGE) {
        return None;
    }
    // SAFETY: what `publish` has stored, and not NO_PAGE: the start of a mapping of `map`, readable,
    // writable, page-aligned and zeroed. What is published stays mapped: `unmap` gets only what was not
    // published.
    Some(unsafe { &*page })
}

/// Makes `new` the page of this process and its children, unless another thread was faster: then `new` is
/// unmapped again.
fn publish(new: *mut AtomicU32) {
    // Release: meets the Acquire of `page`. Relaxed: what another thread has published is not looked at here.
    let published =
        PAGE.compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Relaxed);
    if published.is_err() && !ptr::eq(new, &raw const NO_PAGE) {
        unmap(new.cast());
    }
}

/// What the page says, after writing something new where a fork has wiped it.
#[inline]
fn mark_of(page: &AtomicU32) -> u32 {
    // Relaxed: see `write_mark`.
    match page.load(Ordering::Relaxed) {
        0 => write_mark(page),
        written => written,
    }
}

#[cold]
fn write_mark(page: &AtomicU32) -> u32 {
    // Relaxed: of several threads that come first, one writes, and all of them go on with what it wrote.
    let fresh = NEWEST
        .fetch_add(1, Ordering::Relaxed)
        .wrapping_add(1)
        .max(1);
    match page.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => fresh,
        Err(written) => written,
    }
}

/// A new page that a fork wipes, or [`NO_PAGE`] where the kernel has no such page.
fn new_page() -> *mut AtomicU32 {
    let page = map();
    // SAFETY: the range is the mapping made above; if that failed, the address is refused.
    let advised = unsafe { libc::madvise(page, size_of::<AtomicU32>(), libc::MADV_WIPEONFORK) };
    if advised == 0 {
        return page.cast();
    }
    unmap(page);
    (&raw const NO_PAGE).cast_mut()
}

fn map() -> *mut libc::c_void {
    // SAFETY: a new private mapping at an address of the kernel's choice: nothing else is there.
    unsafe {
        libc::mmap(
            ptr::null_mut(),
            size_of::<AtomicU32>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    }
}

/// Unmaps what `map` returned: no reference to it was made. MAP_FAILED is refused, as it is not aligned.
fn unmap(page: *mut libc::c_void) {
    // SAFETY: a mapping of our own that no other thread knows, because it was not published.
    unsafe { libc::munmap(page, size_of::<AtomicU32>()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_where_it_is() {
        assert!(Origin::here().is_here());
    }

    #[test]
    fn the_first_page_stays_when_another_thread_makes_one_too() {
        let mark = Origin::here().mark;
        let (first, second) = (PAGE.load(Ordering::Relaxed), new_page());
        publish(second);
        assert_eq!(PAGE.load(Ordering::Relaxed), first);
        assert_eq!(Origin::here().mark, mark);
    }
}
