//! The memory of a pool.
#![allow(unsafe_code, reason = "maps memory")]

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

/// The pages below a pool's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HugePages {
    /// Ordinary pages.
    Never,
    /// Ordinary pages that the kernel is asked to put together into huge ones where it can (`MADV_HUGEPAGE`).
    /// Whether it does depends on `/sys/kernel/mm/transparent_hugepage/enabled` and on free memory.
    Transparent,
    /// Huge pages that the administrator has set aside (`vm.nr_hugepages`, `MAP_HUGETLB`).
    Reserved,
}

/// Anonymous memory, private to the process, readable and writable, zero at first.
pub(super) struct Mapping {
    /// The first usable byte, aligned as asked.
    start: NonNull<u8>,
    /// Usable bytes from `start` on.
    len: usize,
    /// What `mmap` returned and was asked for, and so what `munmap` gets: `start` and `len` lie inside.
    whole: NonNull<u8>,
    whole_len: usize,
}

// SAFETY: an address range that the process owns; which thread touches which of its bytes is settled by the
// pool.
unsafe impl Send for Mapping {}

// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// No page is smaller.
const PAGE: usize = 4096;

impl Mapping {
    /// The first byte, aligned as asked.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The kind of pages asked for, or the next lower one that can be had; and which it is.
    pub(super) fn with_huge_pages(
        len: NonZeroUsize,
        align: usize,
        kind: HugePages,
    ) -> io::Result<(Self, HugePages)> {
        if kind == HugePages::Never {
            return Ok((Self::new(len, align, PAGE, MapFlags::empty())?, kind));
        }
        let page = huge_page_size();
        let rounded = len
            .get()
            .checked_next_multiple_of(page)
            .and_then(NonZeroUsize::new);
        let (len, align) = (rounded.ok_or(Errno::ENOMEM)?, align.max(page));
        if kind == HugePages::Reserved
            && let Ok(mapping) = Self::new(len, align, page, MapFlags::MAP_HUGETLB)
        {
            return Ok((mapping, kind));
        }
        let mapping = Self::new(len, align, PAGE, MapFlags::empty())?;
        let kind = match mapping.advise(MmapAdvise::MADV_HUGEPAGE) {
            Ok(()) => HugePages::Transparent,
            // The kernel was built without.
            Err(_) => HugePages::Never,
        };
        Ok((mapping, kind))
    }

    /// At least `len` bytes; `align` is a power of two. The kernel aligns the mapping to its pages, which are
    /// at least `page` bytes. With `MAP_HUGETLB` both have to be multiples of a huge page.
    fn new(len: NonZeroUsize, align: usize, page: usize, flags: MapFlags) -> io::Result<Self> {
        let spare = if align <= page { 0 } else { align };
        let whole_len = len.checked_add(spare).ok_or(Errno::ENOMEM)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let whole =
            unsafe { mmap_anonymous(None, whole_len, access, MapFlags::MAP_PRIVATE | flags) }?
                .cast::<u8>();
        let skip = whole.as_ptr().align_offset(align);
        debug_assert!(skip <= spare);
        // SAFETY: `skip < align`, and `align` spare bytes were mapped where it can be other than 0.
        let start = unsafe { whole.add(skip) };
        Ok(Self {
            start,
            len: len.get(),
            whole,
            whole_len: whole_len.get(),
        })
    }

    fn advise(&self, advice: MmapAdvise) -> Result<(), Errno> {
        // SAFETY: the range is this mapping's own, and the advice given here changes no contents.
        unsafe { madvise(self.start.cast(), self.len, advice) }
    }

    /// Makes all pages present.
    pub(super) fn populate(&self) -> io::Result<()> {
        match self.advise(MmapAdvise::MADV_POPULATE_WRITE) {
            // Before Linux 5.14: do what it would have done.
            Err(Errno::EINVAL) => self.touch(),
            result => result?,
        }
        Ok(())
    }

    /// Writes a zero into each page; before another thread has the mapping, so the pages are zero already.
    fn touch(&self) {
        for offset in (0..self.len).step_by(4096) {
            // SAFETY: `offset < len`, so the address is inside the mapping.
            let byte = unsafe { self.start.add(offset) };
            // SAFETY: the mapping is writable and no other thread has it yet.
            unsafe { byte.write_volatile(0) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: what `mmap` returned, unmapped once. It is dropped with `Shared`, that is after the last
        // handle and the last buffer.
        let result = unsafe { munmap(self.whole.cast(), self.whole_len) };
        debug_assert_eq!(result, Ok(()));
    }
}

/// The default huge page of this machine.
fn huge_page_size() -> usize {
    const USUAL: usize = 2 << 20;
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("Hugepagesize:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok());
    kib.and_then(|kib| kib.checked_mul(1024))
        .filter(|size| size.is_power_of_two())
        .unwrap_or(USUAL)
}
