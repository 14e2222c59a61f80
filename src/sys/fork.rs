//! Noticing a fork without a system call: a page that the kernel empties in the child.
#![allow(unsafe_code, reason = "maps a page that a fork empties")]

use crate::sync::CachePadded;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// Where [`Origin`] looks.
#[derive(Debug)]
enum Witness {
    /// Memory that a child finds empty: 0.
    Page(&'static AtomicU32),
    /// Without MADV_WIPEONFORK (Linux before 4.14, some emulations): the process number, by a system call
    /// each time.
    Pid,
}

/// The process in which a value was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    mark: u32,
}

/// Made by the first thread that asks. Not a `OnceLock`: a child forked while a thread of the parent makes it
/// would wait for that thread, which it does not have.
static WITNESS: AtomicPtr<CachePadded<Witness>> = AtomicPtr::new(ptr::null_mut());

/// The mark of the newest process in the line of forks that has made something. A fork copies it, so that
/// marks are never used twice.
static NEWEST: AtomicU32 = AtomicU32::new(0);

impl Origin {
    /// This process.
    pub(crate) fn here() -> Origin {
        let mark = match witness().unwrap_or_else(make_witness) {
            Witness::Page(page) => mark_of(page),
            Witness::Pid => std::process::id(),
        };
        Origin { mark }
    }

    /// The number of the process among those that forked from one another; not 0.
    pub(crate) fn mark(self) -> u32 {
        self.mark
    }

    /// Whether this is that process, and not a forked child of it.
    #[inline]
    pub(crate) fn is_here(self) -> bool {
        match witness() {
            // Relaxed: a child's only thread sees the page as fork left it, or what it wrote itself.
            Some(Witness::Page(page)) => page.load(Ordering::Relaxed) == self.mark,
            _ => std::process::id() == self.mark,
        }
    }
}

#[inline]
fn witness() -> Option<&'static Witness> {
    // Acquire: meets the Release of `make_witness`, so that the witness is seen as it was made.
    let made = WITNESS.load(Ordering::Acquire);
    // SAFETY: null, or a box that `make_witness` has leaked, which nothing changes or frees.
    unsafe { made.as_ref() }.map(|witness| &**witness)
}

/// Of several threads that come first, one keeps its witness; those of the others, a page each, stay unused.
#[cold]
fn make_witness() -> &'static Witness {
    let mine = Box::leak(Box::new(CachePadded(Witness::new())));
    // Release and Acquire: see `witness`.
    match WITNESS.compare_exchange(ptr::null_mut(), mine, Ordering::Release, Ordering::Acquire) {
        Ok(_) => mine,
        // SAFETY: another thread's box, leaked by it as above.
        Err(theirs) => unsafe { &*theirs },
    }
}

/// What the page says, after writing something new where a fork has wiped it.
#[inline]
fn mark_of(page: &AtomicU32) -> u32 {
    // Relaxed: of several threads that come first, one writes, and all of them go on with what it wrote.
    match page.load(Ordering::Relaxed) {
        0 => mark(page),
        written => written,
    }
}

#[cold]
fn mark(page: &AtomicU32) -> u32 {
    // Relaxed: as in `mark_of`.
    let fresh = NEWEST
        .fetch_add(1, Ordering::Relaxed)
        .wrapping_add(1)
        .max(1);
    match page.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => fresh,
        Err(written) => written,
    }
}

impl Witness {
    fn new() -> Witness {
        // SAFETY: a new private mapping at an address of the kernel's choice: nothing else is there.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<AtomicU32>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        // SAFETY: the range is the mapping made above; if that failed, the address is refused.
        let advised = unsafe { libc::madvise(page, size_of::<AtomicU32>(), libc::MADV_WIPEONFORK) };
        if advised != 0 {
            return Witness::Pid;
        }
        // SAFETY: mapped readable and writable, page-aligned, zeroed, and never unmapped.
        Witness::Page(unsafe { &*page.cast::<AtomicU32>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_come_first_together_agree() {
        let first = std::thread::spawn(|| Origin::here().mark());
        assert_eq!(Origin::here().mark(), first.join().expect("it ends well"));
    }

    #[test]
    fn this_process_is_where_it_is() {
        assert!(Origin::here().is_here());
    }
}
