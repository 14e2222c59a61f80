//! A fixed set of equal, aligned buffers in one mapping, taken and given back without a system call.

#![allow(
    unsafe_code,
    reason = "maps memory and hands out disjoint pieces of it"
)]

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use parking_lot::{Condvar, Mutex};

use crate::buffer::{IoBuf, IoBufMut};

/// Equal, aligned buffers, made once and used again and again: no allocation and no page fault per request.
///
/// A cheap handle: clones share the buffers. Taking and giving back costs one short lock and no system call
/// unless somebody waits. The memory lives until the pool's last handle and its last buffer are gone, so a
/// buffer may outlive the pool.
///
/// # Examples
///
/// ```
/// use kiocb::BufPool;
/// # fn main() -> std::io::Result<()> {
/// let pool = BufPool::builder(16, 8192).prefault(true).build()?;
/// let mut page = pool.take();
/// page[..5].copy_from_slice(b"hello"); // and into a request: it is an `IoBuf` and an `IoBufMut`
/// assert_eq!(pool.available(), 15);
/// drop(page); // from any thread, a callback or the engine
/// assert_eq!(pool.available(), 16);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BufPool {
    shared: Arc<Shared>,
}

/// What the handles and the buffers hold in common.
struct Shared {
    mapping: Mapping,
    /// Bytes that a buffer shows.
    size: usize,
    /// Bytes from one buffer to the next: `size`, rounded up to the alignment. `count * stride` fits into the mapping.
    stride: usize,
    count: u32,
    alignment: usize,
    huge_pages: HugePages,
    /// The buffers that nobody has, last in, first out: the one given back last is the one that caches still
    /// know. Every number below `count` is either in here, once, or in exactly one [`PoolBuf`]. Its capacity
    /// is `count`, so it never grows.
    free: Mutex<Vec<u32>>,
    /// Notified for each buffer that comes back.
    returned: Condvar,
}

impl BufPool {
    /// A pool of `count` buffers of `size` bytes each, aligned to 4096, on ordinary pages that are populated
    /// when they are first touched. For more say [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// As [`BufPoolBuilder::build`].
    pub fn new(count: usize, size: usize) -> io::Result<Self> {
        Self::builder(count, size).build()
    }

    /// A pool of `count` buffers of `size` bytes each, with alignment, page size and prefaulting to be said.
    pub const fn builder(count: usize, size: usize) -> BufPoolBuilder {
        BufPoolBuilder {
            count,
            size,
            alignment: 4096,
            huge_pages: HugePages::Never,
            prefault: false,
        }
    }

    /// A buffer, if one is free. Never waits for one.
    ///
    /// Its bytes are zero if it is used for the first time; otherwise they are what its last user left there.
    pub fn try_take(&self) -> Option<PoolBuf> {
        let index = self.shared.free.lock().pop()?;
        Some(self.buffer(index))
    }

    /// A buffer, as [`try_take`](Self::try_take); blocks the thread while none is free.
    ///
    /// Not inside a callback on the completion thread: while it waits there, no request completes that could
    /// give one back. Use [`try_take`](Self::try_take) there, or go on with the buffer that has just come
    /// back.
    pub fn take(&self) -> PoolBuf {
        let mut free = self.shared.free.lock();
        loop {
            if let Some(index) = free.pop() {
                return self.buffer(index);
            }
            self.shared.returned.wait(&mut free);
        }
    }

    /// A buffer, as [`take`](Self::take); `None` if none is free until `timeout` has passed.
    pub fn take_timeout(&self, timeout: Duration) -> Option<PoolBuf> {
        let Some(deadline) = Instant::now().checked_add(timeout) else {
            return Some(self.take());
        };
        let mut free = self.shared.free.lock();
        loop {
            if let Some(index) = free.pop() {
                return Some(self.buffer(index));
            }
            // Looked at once more: a buffer may have come back between the deadline and getting the lock again.
            if self
                .shared
                .returned
                .wait_until(&mut free, deadline)
                .timed_out()
            {
                return free.pop().map(|index| self.buffer(index));
            }
        }
    }

    /// Bytes in each buffer.
    pub fn buffer_size(&self) -> usize {
        self.shared.size
    }

    /// How many buffers there are in all.
    pub fn count(&self) -> usize {
        self.shared.count as usize
    }

    /// How many buffers are free right now; another thread may take them before this one looks again.
    pub fn available(&self) -> usize {
        self.shared.free.lock().len()
    }

    /// What the address of each buffer is a multiple of.
    pub fn alignment(&self) -> usize {
        self.shared.alignment
    }

    /// The kind of pages that the pool got, which may be less than it was asked for.
    pub fn huge_pages(&self) -> HugePages {
        self.shared.huge_pages
    }

    fn buffer(&self, index: u32) -> PoolBuf {
        debug_assert!(index < self.shared.count);
        PoolBuf {
            shared: Arc::clone(&self.shared),
            index,
        }
    }
}

impl fmt::Debug for BufPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufPool")
            .field("count", &self.count())
            .field("available", &self.available())
            .field("buffer_size", &self.buffer_size())
            .field("alignment", &self.alignment())
            .field("huge_pages", &self.huge_pages())
            .finish()
    }
}

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

    /// Populates all pages at once instead of when each is first touched, which would be inside somebody's submission.
    /// `MADV_POPULATE_WRITE` (Linux 5.14), or a write to each page on older kernels. Off unless said.
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
        let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidInput, text);
        if self.count == 0 || self.size == 0 {
            return Err(invalid(
                "a pool needs at least one buffer of at least one byte",
            ));
        }
        if !self.alignment.is_power_of_two() {
            return Err(invalid(
                "the alignment of a pool's buffers has to be a power of two",
            ));
        }
        let count = u32::try_from(self.count)
            .map_err(|_| invalid("a pool has at most u32::MAX buffers"))?;
        let stride = self.size.checked_next_multiple_of(self.alignment);
        let len = stride.and_then(|stride| stride.checked_mul(self.count));
        let (Some(stride), Some(len)) = (stride, len.and_then(NonZeroUsize::new)) else {
            return Err(invalid(
                "the buffers of a pool don't fit into an address space",
            ));
        };
        let (mapping, huge_pages) = Mapping::with_huge_pages(len, self.alignment, self.huge_pages)?;
        if self.prefault {
            mapping.populate()?;
        }
        debug_assert!(stride * self.count <= mapping.len);
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
                free: Mutex::new(free),
                returned: Condvar::new(),
            }),
        })
    }
}

/// A buffer of a [`BufPool`], which gets it back when this is dropped, on whatever thread that happens.
///
/// It dereferences to its bytes, all of which are initialised: zero at first, and after that what the last
/// user of the same memory left there. [`slice`](IoBuf::slice) makes a shorter request of it.
///
/// One that is forgotten (`mem::forget`) never comes back, and the pool's memory stays for ever.
pub struct PoolBuf {
    shared: Arc<Shared>,
    /// Below `shared.count`, not in `shared.free`, and in no other `PoolBuf`.
    index: u32,
}

impl PoolBuf {
    /// The start of this buffer. The pointer is derived from the mapping, never from a reference to bytes.
    fn start(&self) -> NonNull<u8> {
        let offset = self.index as usize * self.shared.stride;
        debug_assert!(self.index < self.shared.count);
        debug_assert!(offset + self.shared.size <= self.shared.mapping.len);
        // SAFETY: `index < count`, and `count * stride` bytes are inside the mapping (`build`), which lives
        // as long as `shared`.
        unsafe { self.shared.mapping.start.add(offset) }
    }
}

impl Drop for PoolBuf {
    fn drop(&mut self) {
        self.shared.free.lock().push(self.index);
        self.shared.returned.notify_one();
    }
}

impl Deref for PoolBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `size` bytes inside the mapping, which is readable and was zeroed by the kernel, so
        // initialised. No other buffer has them (`index` is in no other, and `size <= stride`), and `&self`
        // lends them for reading.
        unsafe { slice::from_raw_parts(self.start().as_ptr(), self.shared.size) }
    }
}

impl DerefMut for PoolBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; the mapping is writable, and `&mut self` is the only way to these bytes.
        unsafe { slice::from_raw_parts_mut(self.start().as_ptr(), self.shared.size) }
    }
}

// SAFETY: the bytes are at one address as long as the value lives, are initialised, and belong to this value alone.
unsafe impl IoBuf for PoolBuf {
    fn as_ptr(&self) -> *const u8 {
        self.start().as_ptr()
    }

    fn len(&self) -> usize {
        self.shared.size
    }
}

// SAFETY: as above; the mapping is writable.
unsafe impl IoBufMut for PoolBuf {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start().as_ptr()
    }

    fn capacity(&self) -> usize {
        self.shared.size
    }

    unsafe fn set_init(&mut self, n: usize) {
        debug_assert!(n <= self.shared.size);
    }
}

impl AsRef<[u8]> for PoolBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for PoolBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// Length and number; not the bytes, of which there may be millions.
impl fmt::Debug for PoolBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuf")
            .field("len", &self.shared.size)
            .field("index", &self.index)
            .finish()
    }
}

/// Anonymous memory, private to the process, readable and writable, zero at first.
struct Mapping {
    /// The first usable byte, aligned as asked.
    start: NonNull<u8>,
    /// Usable bytes from `start` on.
    len: usize,
    /// What `mmap` returned and was asked for, and so what `munmap` gets: `start` and `len` lie inside.
    whole: NonNull<u8>,
    whole_len: usize,
}

// SAFETY: an address range that the process owns; which thread touches which of its bytes is settled by the pool.
unsafe impl Send for Mapping {}

// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The kind of pages asked for, or the next lower one that can be had; and which it is.
    fn with_huge_pages(
        len: NonZeroUsize,
        align: usize,
        kind: HugePages,
    ) -> io::Result<(Self, HugePages)> {
        if kind == HugePages::Never {
            return Ok((Self::new(len, align, MapFlags::empty())?, kind));
        }
        let page = huge_page_size();
        let rounded = len
            .get()
            .checked_next_multiple_of(page)
            .and_then(NonZeroUsize::new);
        let (len, align) = (rounded.ok_or(Errno::ENOMEM)?, align.max(page));
        if kind == HugePages::Reserved
            && let Ok(mapping) = Self::new(len, align, MapFlags::MAP_HUGETLB)
        {
            return Ok((mapping, kind));
        }
        let mapping = Self::new(len, align, MapFlags::empty())?;
        let kind = match mapping.advise(MmapAdvise::MADV_HUGEPAGE) {
            Ok(()) => HugePages::Transparent,
            // The kernel was built without.
            Err(_) => HugePages::Never,
        };
        Ok((mapping, kind))
    }

    /// At least `len` bytes; `align` is a power of two. With `MAP_HUGETLB` both have to be multiples of a huge page.
    fn new(len: NonZeroUsize, align: usize, flags: MapFlags) -> io::Result<Self> {
        // The kernel aligns a mapping to its page, whatever that is, and no page is smaller than this.
        let spare = if align <= 4096
            || (flags.contains(MapFlags::MAP_HUGETLB) && align <= huge_page_size())
        {
            0
        } else {
            align
        };
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
    fn populate(&self) -> io::Result<()> {
        match self.advise(MmapAdvise::MADV_POPULATE_WRITE) {
            // Before Linux 5.14: do what it would have done.
            Err(Errno::EINVAL) => self.touch(),
            result => result?,
        }
        Ok(())
    }

    /// Writes a zero into each page; before anybody else has the mapping, so the pages are zero already.
    fn touch(&self) {
        for offset in (0..self.len).step_by(4096) {
            // SAFETY: `offset < len`, so the address is inside the mapping.
            let byte = unsafe { self.start.add(offset) };
            // SAFETY: the mapping is writable and nobody else has it yet.
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
