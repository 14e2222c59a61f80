//! A range of a buffer, as a buffer.
#![allow(unsafe_code, reason = "its bytes are a part of a buffer's")]

use super::{IoBuf, IoBufMut};
use std::fmt;
use std::ops::{Bound, Deref, DerefMut, RangeBounds};

/// A range of a buffer, as a buffer of its own: what [`IoBuf::buf_slice`] and [`IoBufMut::buf_slice_mut`]
/// return.
///
/// It owns the whole buffer, and the kernel gets the range. It dereferences to the bytes of the range that
/// are initialised.
///
/// # Examples
///
/// ```
/// use kiocb::AlignedBuf;
/// use kiocb::buf::IoBuf;
///
/// let mut page = AlignedBuf::zeroed(8192).buf_slice(4096..8192); // still aligned
/// page[..5].copy_from_slice(b"hello");
/// assert_eq!(page.len(), 4096);
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
    /// What [`IoBuf::buf_slice`] returns.
    pub(super) fn new(buf: B, range: impl RangeBounds<usize>) -> Self
    where
        B: IoBuf,
    {
        let len = buf.buf_len();
        Self::checked(buf, range, len, len)
    }

    /// What [`IoBufMut::buf_slice_mut`] returns.
    pub(super) fn with_capacity(buf: B, range: impl RangeBounds<usize>) -> Self
    where
        B: IoBuf + IoBufMut,
    {
        let (len, capacity) = (buf.buf_len(), buf.buf_capacity());
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
    fn buf_ptr(&self) -> *const u8 {
        let start = self.start.min(self.buf.buf_len());
        // SAFETY: `start <= B::buf_len()`, so the result stays within `B`'s bytes or one past them.
        unsafe { self.buf.buf_ptr().add(start) }
    }

    fn buf_len(&self) -> usize {
        self.end.min(self.buf.buf_len()).saturating_sub(self.start)
    }
}

// SAFETY: as above, with `B`'s capacity as the limit: `start` is clamped to `B::buf_len()`, which is at most
// `B::buf_capacity()` by `IoBuf`'s last condition. `buf_len() >= n` after `set_init(n)` because
// `B::buf_len() >= start + n` then.
unsafe impl<B: IoBuf + IoBufMut> IoBufMut for Slice<B> {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        let start = self.start.min(self.buf.buf_len());
        debug_assert!(start <= self.buf.buf_capacity());
        // SAFETY: `start <= B::buf_len() <= B::buf_capacity()`, so the result stays within `B`'s memory or
        // one past it.
        unsafe { self.buf.buf_mut_ptr().add(start) }
    }

    fn buf_capacity(&self) -> usize {
        if self.start > self.buf.buf_len() {
            return 0;
        }
        self.end
            .min(self.buf.buf_capacity())
            .saturating_sub(self.start)
    }

    unsafe fn set_init(&mut self, n: usize) {
        debug_assert!(n <= IoBufMut::buf_capacity(self));
        if n == 0 {
            return;
        }
        // SAFETY: `n <= buf_capacity()` is the caller's promise, so `start + n <= B::buf_capacity()`. The
        // first `start` bytes are initialised because `start <= B::buf_len()` (else our capacity is 0 and `n`
        // too), the next `n` by the caller's promise.
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
