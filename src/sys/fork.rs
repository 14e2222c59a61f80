//! Noticing a fork without a system call: a page that the kernel empties in the child.
#![allow(unsafe_code, reason = "maps a page that a fork empties")]

use crate::sync::CachePadded;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

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

static WITNESS: OnceLock<CachePadded<Witness>> = OnceLock::new();

/// The mark of the newest process in the line of forks that has made something. A fork copies it, so that
/// marks are never used twice.
static NEWEST: AtomicU32 = AtomicU32::new(0);

impl Origin {
    /// This process.
    pub(crate) fn here() -> Origin {
        let mark = match &**WITNESS.get_or_init(|| CachePadded(Witness::new())) {
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
        match WITNESS.get().map(|witness| &**witness) {
            // Relaxed: a child's only thread sees the page as fork left it, or what it wrote itself.
            Some(Witness::Page(page)) => page.load(Ordering::Relaxed) == self.mark,
            _ => std::process::id() == self.mark,
        }
    }
}

/// What the page says, after writing something new where a fork has wiped it.
fn mark_of(page: &AtomicU32) -> u32 {
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
    fn this_process_is_where_it_is() {
        assert!(Origin::here().is_here());
    }
}
