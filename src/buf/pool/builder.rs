//! How to make a pool of buffers.

use super::mapping::{HugePages, Mapping};
use super::queue::Queue;
use super::{BufPool, Free, Shared};
use crate::sync::lock::Condvar;
use crate::sys::process_mutex::ProcessMutex;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// How to make a [`BufPool`].
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is made before `build`"]
pub struct BufPoolBuilder {
    count: usize,
    size: usize,
    alignment: usize,
    huge_pages: HugePages,
    prefault: bool,
}

impl BufPoolBuilder {
    pub(super) const fn new(count: usize, size: usize) -> Self {
        BufPoolBuilder {
            count,
            size,
            alignment: 4096,
            huge_pages: HugePages::Never,
            prefault: false,
        }
    }

    /// Addresses that are multiples of `alignment` instead of 4096: what
    /// [`DirectFile::memory_alignment`](crate::DirectFile::memory_alignment) says, or less where buffers are
    /// small and close together.
    pub const fn alignment(mut self, alignment: usize) -> Self {
        self.alignment = alignment;
        self
    }

    /// Asks for huge pages, which spare the processor's address translation and the kernel's pinning of page
    /// after page. Where the kind can't be had, the next lower one is used; [`BufPool::huge_pages`] says
    /// which.
    pub const fn huge_pages(mut self, kind: HugePages) -> Self {
        self.huge_pages = kind;
        self
    }

    /// Populates all pages at once instead of when each is first touched, which would be inside a
    /// submission. `MADV_POPULATE_WRITE` (Linux 5.14), or a write to each page on older kernels. Off unless
    /// said.
    pub const fn prefault(mut self, prefault: bool) -> Self {
        self.prefault = prefault;
        self
    }

    /// Maps the memory.
    ///
    /// # Errors
    ///
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): no buffers, buffers of no bytes, more than `u32::MAX`
    ///   of them, an alignment that is not a power of two, or more memory in all than an address space can
    ///   hold.
    /// - `ENOMEM`, or with prefaulting also `EFAULT` or `EHWPOISON`: not enough memory, address space
    ///   (`RLIMIT_AS`) or mappings.
    pub fn build(self) -> io::Result<BufPool> {
        let (count, stride, len) = self.check().map_err(invalid)?;
        let (mapping, huge_pages) = Mapping::with_huge_pages(len, self.alignment, self.huge_pages)?;
        if self.prefault {
            mapping.populate()?;
        }
        debug_assert!(stride * self.count <= mapping.len());
        let mut free = Vec::new();
        free.try_reserve_exact(self.count)?;
        free.extend((0..count).rev());
        Ok(BufPool {
            shared: Arc::new(Shared {
                mapping,
                size: self.size,
                stride,
                count,
                alignment: self.alignment,
                huge_pages,
                free: ProcessMutex::new(Free {
                    buffers: free,
                    queue: Queue::default(),
                }),
                returned: Condvar::new(),
            }),
        })
    }

    /// How many buffers, bytes from one to the next, and bytes in all; or what is wrong.
    fn check(&self) -> Result<(u32, usize, NonZeroUsize), &'static str> {
        const TOO_LARGE: &str = "the buffers of a pool don't fit into an address space";
        if self.count == 0 || self.size == 0 {
            return Err("a pool needs at least one buffer of at least one byte");
        }
        if !self.alignment.is_power_of_two() {
            return Err("the alignment of a pool's buffers has to be a power of two");
        }
        let count = u32::try_from(self.count).map_err(|_| "a pool has at most u32::MAX buffers")?;
        let stride = self.size.checked_next_multiple_of(self.alignment);
        let stride = stride.ok_or(TOO_LARGE)?;
        let len = stride.checked_mul(self.count).and_then(NonZeroUsize::new);
        Ok((count, stride, len.ok_or(TOO_LARGE)?))
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
