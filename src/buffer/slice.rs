//! A range of a buffer, as a buffer.
#![allow(unsafe_code, reason = "lends a part of what a buffer lends")]

use super::{IoBuf, IoBufMut};
use std::fmt;
use std::ops::{Bound, Deref, DerefMut, RangeBounds};

/// A range of a buffer, as a buffer of its own: what [`IoBuf::slice`] and [`IoBufMut::slice_mut`] return.
///
/// It owns the whole buffer and lends the kernel the range. It dereferences to the bytes of the range that
/// are initialised.
///
/// # Examples
///
/// ```
/// use kiocb::{AlignedBuf, IoBuf};
///
/// let mut page = AlignedBuf::zeroed(8192).slice(4096..8192); // still aligned
/// page[..5].copy_from_slice(b"hello");
/// assert_eq!(IoBuf::len(&page), 4096);
/// assert_eq!(&page.into_inner()[4096..4101], b"hello");
/// ```
#[derive(Clone)]
pub struct Slice<B> {
    buf: B,
    /// At most `end`, and at most what was initialised when the slice was made.
    start: usize,
    /// At most what the buffer could hold when the slice was made. Both bounds are compared with the buffer
    /// again at each use: the clone of a `Vec`, for one, has less capacity.
    end: usize,
}

impl<B> Slice<B> {
    /// The same as [`IoBuf::slice`].
    ///
    /// # Panics
    ///
    /// If the range starts after it ends, or ends after [`IoBuf::len`].
    pub fn new(buf: B, range: impl RangeBounds<usize>) -> Self
    where
        B: IoBuf,
    {
        let len = buf.len();
        Self::checked(buf, range, len, len)
    }

    /// The same as [`IoBufMut::slice_mut`].
    ///
    /// # Panics
    ///
    /// If the range starts after it ends, starts after [`IoBuf::len`], or ends after [`IoBufMut::capacity`].
    pub fn with_capacity(buf: B, range: impl RangeBounds<usize>) -> Self
    where
        B: IoBuf + IoBufMut,
    {
        let (len, capacity) = (buf.len(), buf.capacity());
        Self::checked(buf, range, len, capacity)
    }

    fn checked(buf: B, range: impl RangeBounds<usize>, initialised: usize, max_end: usize) -> Self {
        let (start, end) = bounds(range, max_end);
        assert!(
            start <= end,
            "the slice {start}..{end} starts after it ends"
        );
        assert!(
            end <= max_end,
            "the slice ends at {end}, the buffer at {max_end}"
        );
        assert!(
            start <= initialised,
            "the slice starts at {start}, but only {initialised} bytes are initialised"
        );
        Self { buf, start, end }
    }

    /// The whole buffer.
    pub fn get_ref(&self) -> &B {
        &self.buf
    }

    /// The whole buffer back.
    pub fn into_inner(self) -> B {
        self.buf
    }
}

/// Where a range of a buffer of `len` bytes starts, and where it ends.
fn bounds(range: impl RangeBounds<usize>, len: usize) -> (usize, usize) {
    let after = |at: usize| at.checked_add(1).expect("the slice goes beyond usize::MAX");
    let start = match range.start_bound() {
        Bound::Included(&at) => at,
        Bound::Excluded(&at) => after(at),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&at) => after(at),
        Bound::Excluded(&at) => at,
        Bound::Unbounded => len,
    };
    (start, end)
}

// SAFETY: the pointer is `B`'s, moved by `start` (clamped to `B`'s length) and followed by `end - start`
// bytes (clamped to the same), so the range lies inside what `B` promises; the rest of the promise is `B`'s
// own, and a `Slice` gives out no `&mut B`.
unsafe impl<B: IoBuf> IoBuf for Slice<B> {
    fn as_ptr(&self) -> *const u8 {
        let start = self.start.min(self.buf.len());
        // SAFETY: `start <= B::len()`, so the result stays within `B`'s bytes or one past them.
        unsafe { self.buf.as_ptr().add(start) }
    }

    fn len(&self) -> usize {
        self.end.min(self.buf.len()).saturating_sub(self.start)
    }
}

// SAFETY: as above, with `B`'s capacity as the limit: `start` is clamped to `B::len()`, which is at most
// `B::capacity()` by `IoBuf`'s last condition. `len() >= n` after `set_init(n)` because
// `B::len() >= start + n` then.
unsafe impl<B: IoBuf + IoBufMut> IoBufMut for Slice<B> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        let start = self.start.min(self.buf.len());
        debug_assert!(start <= self.buf.capacity());
        // SAFETY: `start <= B::len() <= B::capacity()`, so the result stays within `B`'s memory or one past
        // it.
        unsafe { self.buf.as_mut_ptr().add(start) }
    }

    fn capacity(&self) -> usize {
        if self.start > self.buf.len() {
            return 0;
        }
        self.end.min(self.buf.capacity()).saturating_sub(self.start)
    }

    unsafe fn set_init(&mut self, n: usize) {
        debug_assert!(n <= IoBufMut::capacity(self));
        if n == 0 {
            return;
        }
        // SAFETY: `n <= capacity()` is the caller's promise, so `start + n <= B::capacity()`. The first
        // `start` bytes are initialised because `start <= B::len()` (else our capacity is 0 and `n` too), the
        // next `n` by the caller's promise.
        unsafe { self.buf.set_init(self.start + n) }
    }
}

impl<B: AsRef<[u8]>> Deref for Slice<B> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = self.buf.as_ref();
        &bytes[self.start.min(bytes.len())..self.end.min(bytes.len())]
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> DerefMut for Slice<B> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let bytes = self.buf.as_mut();
        let len = bytes.len();
        &mut bytes[self.start.min(len)..self.end.min(len)]
    }
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Slice<B> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> AsMut<[u8]> for Slice<B> {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl<B: fmt::Debug> fmt::Debug for Slice<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slice")
            .field("range", &(self.start..self.end))
            .field("buf", &self.buf)
            .finish()
    }
}
