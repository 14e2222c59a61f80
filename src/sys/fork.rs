//! Noticing a fork without a system call: a page that the kernel empties in the child.
#![allow(unsafe_code, reason = "maps a page with MADV_WIPEONFORK")]

use crate::sync::Line;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// What the page holds in the process that wrote it; a forked child finds 0 there.
const HERE: u32 = 1;

/// Where [`Origin`] looks.
#[derive(Debug)]
enum Witness {
    /// Memory that a child finds empty.
    Page(&'static AtomicU32),
    /// Without MADV_WIPEONFORK (Linux before 4.14, some emulations): the process number, by a system call each time.
    Pid,
}

/// The process in which a value was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pid: u32,
}

static WITNESS: OnceLock<Line<Witness>> = OnceLock::new();

impl Origin {
    /// This process.
    pub(crate) fn here() -> Origin {
        let pid = std::process::id();
        if let Witness::Page(page) = &**WITNESS.get_or_init(|| Line(Witness::new())) {
            // The page names the process that last made something. In a child it is empty until the child makes something of its own:
            // then it holds the child's number, which is not the parent's.
            page.store(pid.max(HERE), Ordering::Relaxed);
        }
        Origin { pid }
    }

    /// Whether this is that process, and not a forked child of it.
    pub(crate) fn is_here(self) -> bool {
        match WITNESS.get().map(|witness| &**witness) {
            // Relaxed: a child's only thread sees the page as fork left it, or what it wrote itself.
            Some(Witness::Page(page)) => page.load(Ordering::Relaxed) == self.pid,
            _ => std::process::id() == self.pid,
        }
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
        if page == libc::MAP_FAILED
            || unsafe { libc::madvise(page, size_of::<AtomicU32>(), libc::MADV_WIPEONFORK) } != 0
        {
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
