//! A buffer at an aligned address, as direct I/O wants it.

#![allow(
    unsafe_code,
    reason = "owns memory of an alignment that no type of the standard library can ask for"
)]

use std::alloc::{self, Layout};
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use super::{IoBuf, IoBufMut};

/// Heap memory of a fixed length at an aligned address.
///
/// A file opened with `O_DIRECT` takes memory only at certain addresses, and transfers only whole blocks. The
/// length is the buffer's own and never rounded: choose a multiple of the file's block, or let
/// [`DirectFile::buffer`](crate::DirectFile::buffer) choose. The address is a multiple of 4096 unless asked
/// otherwise, which suits every device whose logical block is not larger than that.
///
/// All bytes are zero at first; none is ever uninitialised. It dereferences to `[u8]`.
///
/// # Examples
///
/// ```
/// use kiocb::AlignedBuf;
///
/// let mut page = AlignedBuf::zeroed(8192);
/// page[..5].copy_from_slice(b"hello");
/// assert_eq!(page.as_ptr() as usize % 4096, 0);
/// assert_eq!(page.len(), 8192);
/// ```
pub struct AlignedBuf {
    /// Start of the block, a multiple of the alignment. With a size of 0 there is no block, and the address
    /// is the alignment.
    ptr: NonNull<u8>,
    /// What the block was allocated with. Its size is the number of bytes, all of them initialised, at all
    /// times.
    layout: Layout,
}

// SAFETY: it owns its block alone, like `Box<[u8]>`, and has no tie to a thread.
unsafe impl Send for AlignedBuf {}

// SAFETY: as above; through a shared reference the bytes can only be read.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// The alignment where none is asked for: 4096 bytes, a page on most machines and at least the logical
    /// block of most devices.
    pub const DEFAULT_ALIGN: usize = 4096;

    /// `len` zero bytes, aligned to [`DEFAULT_ALIGN`](Self::DEFAULT_ALIGN). No memory is allocated for a
    /// length of 0.
    ///
    /// # Panics
    ///
    /// If `len` is larger than `isize::MAX` less the alignment. Where there is no memory the process is
    /// aborted, as by `Vec`; [`try_zeroed`](Self::try_zeroed) returns an error instead.
    pub fn zeroed(len: usize) -> Self {
        Self::with_alignment(len, Self::DEFAULT_ALIGN)
    }

    /// `len` zero bytes at an address that is a multiple of `align`.
    ///
    /// # Panics
    ///
    /// If `align` is not a power of two, or as [`zeroed`](Self::zeroed).
    ///
    /// # Examples
    ///
    /// ```
    /// let buf = kiocb::AlignedBuf::with_alignment(512, 512);
    /// assert_eq!(buf.as_ptr() as usize % 512, 0);
    /// ```
    pub fn with_alignment(len: usize, align: usize) -> Self {
        let layout = match layout(len, align) {
            Ok(layout) => layout,
            Err(error) => panic!("{error}"),
        };
        Self::allocate(layout).unwrap_or_else(|| alloc::handle_alloc_error(layout))
    }

    /// [`zeroed`](Self::zeroed) that returns an error where there is no memory.
    ///
    /// # Errors
    ///
    /// - [`OutOfMemory`](io::ErrorKind::OutOfMemory): the allocator has no such block. Ask for less.
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): `len` is larger than `isize::MAX` less the alignment.
    pub fn try_zeroed(len: usize) -> io::Result<Self> {
        Self::try_with_alignment(len, Self::DEFAULT_ALIGN)
    }

    /// [`with_alignment`](Self::with_alignment) that returns an error instead of panicking or aborting.
    ///
    /// # Errors
    ///
    /// - [`OutOfMemory`](io::ErrorKind::OutOfMemory): the allocator has no such block. Ask for less.
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): `align` is not a power of two, or `len` is larger
    ///   than `isize::MAX` less the alignment.
    pub fn try_with_alignment(len: usize, align: usize) -> io::Result<Self> {
        let layout = layout(len, align)?;
        Self::allocate(layout).ok_or_else(|| {
            let text = format!("no memory for a buffer of {len} bytes aligned to {align}");
            io::Error::new(io::ErrorKind::OutOfMemory, text)
        })
    }

    /// A copy of `bytes` at an address that is a multiple of `align`. The length is that of `bytes`: for
    /// direct I/O it has to be whole blocks.
    ///
    /// # Panics
    ///
    /// As [`with_alignment`](Self::with_alignment).
    pub fn copy_of(bytes: &[u8], align: usize) -> Self {
        let mut buf = Self::with_alignment(bytes.len(), align);
        buf.copy_from_slice(bytes);
        buf
    }

    /// The alignment that was asked for; the address may be a multiple of more.
    pub const fn alignment(&self) -> usize {
        self.layout.align()
    }

    /// `None` where the allocator has no memory.
    fn allocate(layout: Layout) -> Option<Self> {
        let ptr = if layout.size() == 0 {
            ptr::without_provenance_mut(layout.align())
        } else {
            // SAFETY: the size is not 0.
            unsafe { alloc::alloc_zeroed(layout) }
        };
        let ptr = NonNull::new(ptr)?;
        debug_assert_eq!(ptr.as_ptr().addr() % layout.align(), 0);
        Some(Self { ptr, layout })
    }
}

/// The layout of a buffer, or why there is none.
fn layout(len: usize, align: usize) -> io::Result<Layout> {
    Layout::from_size_align(len, align).map_err(|_| {
        let text = if align.is_power_of_two() {
            format!("a buffer of {len} bytes is more than an address space can hold")
        } else {
            format!("the alignment of a buffer has to be a power of two, not {align}")
        };
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if self.layout.size() == 0 {
            return;
        }
        // SAFETY: with a size above 0 the block was allocated with this very layout (`allocate`; neither
        // field ever changes), and it is freed only here.
        unsafe { alloc::dealloc(self.ptr.as_ptr(), self.layout) }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `ptr` is the start of `size` initialised bytes that this value owns (`alloc_zeroed`), or
        // not null and aligned where the size is 0. `&self` lends them out for reading; the size is within
        // `isize::MAX` because a `Layout`'s is.
        unsafe { slice::from_raw_parts(self.ptr.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` is the only way to the bytes.
        unsafe { slice::from_raw_parts_mut(self.ptr.as_ptr(), self.layout.size()) }
    }
}

// SAFETY: the block never moves and is all initialised; only `&mut self` can write it.
unsafe impl IoBuf for AlignedBuf {
    fn buf_ptr(&self) -> *const u8 {
        self.ptr.as_ptr()
    }

    fn buf_len(&self) -> usize {
        self.layout.size()
    }
}

// SAFETY: as above, and this value is the only way to the block.
unsafe impl IoBufMut for AlignedBuf {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    fn buf_capacity(&self) -> usize {
        self.layout.size()
    }

    unsafe fn set_init(&mut self, n: usize) {
        debug_assert!(n <= self.layout.size());
    }
}

// SAFETY: an `Arc`'s contents stay where they are until the last clone is gone, and are shared while this
// clone lives.
unsafe impl IoBuf for Arc<AlignedBuf> {
    fn buf_ptr(&self) -> *const u8 {
        self.ptr.as_ptr()
    }

    fn buf_len(&self) -> usize {
        self.layout.size()
    }
}

/// Another block of the same length and alignment, with the same bytes.
impl Clone for AlignedBuf {
    fn clone(&self) -> Self {
        Self::copy_of(self, self.alignment())
    }
}

/// An empty buffer, without memory: what `std::mem::take` leaves behind.
impl Default for AlignedBuf {
    fn default() -> Self {
        Self::zeroed(0)
    }
}

/// A copy, aligned to [`AlignedBuf::DEFAULT_ALIGN`].
impl From<&[u8]> for AlignedBuf {
    fn from(bytes: &[u8]) -> Self {
        Self::copy_of(bytes, Self::DEFAULT_ALIGN)
    }
}

/// A copy, aligned to [`AlignedBuf::DEFAULT_ALIGN`].
impl<const N: usize> From<&[u8; N]> for AlignedBuf {
    fn from(bytes: &[u8; N]) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for AlignedBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// Equal bytes; the alignment does not count.
impl PartialEq for AlignedBuf {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for AlignedBuf {}

/// Length and alignment; not the bytes, of which there may be millions.
impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuf")
            .field("len", &self.layout.size())
            .field("align", &self.alignment())
            .finish()
    }
}
