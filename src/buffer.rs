//! Which memory may be lent to the kernel, and for how long.
//!
//! A request owns its buffer from `submit` until its event has been reaped. In that time the kernel reads or writes
//! the memory through a plain address, so what matters about a buffer is only this: the address stays good while
//! nobody touches the value. [`IoBuf`] promises that for memory the kernel reads (a write to a file), [`IoBufMut`] for
//! memory the kernel writes (a read from a file), [`IoBufs`] and [`IoBufsMut`] for several pieces in one request.
//!
//! | type | [`IoBuf`]: bytes written to the file | [`IoBufMut`]: bytes read from the file |
//! | --- | --- | --- |
//! | `Vec<u8>` | `len()` | `capacity()`, from its first byte on; see [below](#reading-into-a-vec) |
//! | `Box<[u8]>`, `[u8; N]`, `Box<[u8; N]>`, [`AlignedBuf`](crate::AlignedBuf), [`PoolBuf`](crate::PoolBuf) | all | all |
//! | `String`, `&'static [u8]`, `&'static [u8; N]`, `&'static str` | all | never |
//! | `Arc<[u8]>`, `Arc<[u8; N]>`, `Arc<Vec<u8>>`, `Arc<AlignedBuf>` | all | never: it is shared |
//! | [`Slice<B>`] | the range of `B` | the range of `B` |
//!
//! # Reading into a `Vec`
//!
//! A read fills a `Vec<u8>` from its first byte and up to its *capacity*. Then `len()` grows to the bytes
//! read where it was smaller; it never shrinks. So `Vec::with_capacity(4096)` asks for 4096 bytes and comes
//! back with as many as there were, while `vec![0; 4096]` comes back with `len() == 4096` whatever the read
//! returned: look at the result. A `Vec` whose capacity happens to be larger than wanted (one that grew by
//! pushing) asks for more than wanted: bound it with [`IoBufMut::slice_mut`].
//!
//! # Direct I/O
//!
//! A file opened with `O_DIRECT` wants memory at aligned addresses; of the types above only
//! [`AlignedBuf`](crate::AlignedBuf) and [`PoolBuf`](crate::PoolBuf) promise any. What a file wants is known
//! to [`DirectFile`](crate::DirectFile).

#![allow(
    unsafe_code,
    reason = "says which types keep the promise that the kernel's access rests on"
)]

use std::fmt;
use std::ops::{Bound, Deref, DerefMut, RangeBounds};
use std::sync::Arc;

/// Memory that the kernel may read while a request owns it: what is written to a file.
///
/// The engine moves a buffer to its final place (a cell on the heap), takes the pointer there, once, and then neither
/// moves, reads, borrows nor drops the value until the kernel is done. So memory inside the value itself, such as an
/// array, serves as well as memory that it points to.
///
/// Not `Send` and not `'static` by itself: what outlives the call (`init_rw`) asks for both, what waits does not.
///
/// # Safety
///
/// An implementation promises, from the call of [`as_ptr`](Self::as_ptr) until the value is next moved, borrowed
/// mutably or dropped:
///
/// - the pointer is valid for reads of [`len`](Self::len) bytes, and these are initialised;
/// - both methods answer the same again;
/// - no safe code frees, reallocates or writes those bytes, not through another handle on the same memory either;
/// - where the type is also an [`IoBufMut`], both pointers are the same address, `len() <= capacity()`, and after
///   `set_init(n)` there are at least `n` bytes: `len() >= n`.
///
/// Forgetting the value (`mem::forget`) must leave the memory in place, as it does for anything that is freed by drop.
///
/// # Examples
///
/// A page that several requests write at once:
///
/// ```
/// use kiocb::IoBuf;
/// use std::sync::Arc;
///
/// #[derive(Clone)]
/// struct Page(Arc<[u8; 4096]>);
///
/// // SAFETY: an `Arc` keeps its contents at one address until the last clone is gone, and while this one exists
/// // nobody can get at them mutably.
/// unsafe impl IoBuf for Page {
///     fn as_ptr(&self) -> *const u8 {
///         self.0.as_slice().as_ptr()
///     }
///     fn len(&self) -> usize {
///         4096
///     }
/// }
/// # assert!(!Page(Arc::new([0; 4096])).is_empty());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be lent to the kernel as the source of a write",
    label = "not memory that a request can own",
    note = "the kernel reads the bytes after the call has returned, so the request has to own them: use `Vec<u8>`, \
            `Box<[u8]>`, `String`, `AlignedBuf`, an array, `Arc<[u8]>` or a `&'static [u8]`",
    note = "for borrowed bytes use `Aio::scope` or `Aio::write_at`, which wait, or copy them with `.to_vec()`"
)]
pub unsafe trait IoBuf {
    /// The first byte. Never null; may dangle where [`len`](Self::len) is 0.
    fn as_ptr(&self) -> *const u8;

    /// How many bytes a write sends, all of them initialised.
    ///
    /// The kernel transfers at most `0x7fff_f000` bytes (2 GiB less a page) per request: more comes back as a short
    /// write.
    fn len(&self) -> usize;

    /// Whether there is nothing to send. A write of 0 bytes is accepted by the kernel and completes with 0.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A part of this buffer, as a buffer: the request moves just these bytes. [`Slice::into_inner`] gives the whole
    /// back.
    ///
    /// The range counts initialised bytes; [`IoBufMut::slice_mut`] also reaches into the spare capacity of a `Vec`.
    ///
    /// # Panics
    ///
    /// If the range starts after it ends, or ends after [`len`](Self::len).
    ///
    /// # Examples
    ///
    /// ```
    /// use kiocb::IoBuf;
    ///
    /// let part = b"header body".slice(7..);
    /// assert_eq!(&part[..], b"body");
    /// assert_eq!(part.into_inner(), b"header body");
    /// ```
    fn slice(self, range: impl RangeBounds<usize>) -> Slice<Self>
    where
        Self: Sized,
    {
        Slice::new(self, range)
    }
}

/// Memory that the kernel may write while a request owns it: what is read from a file.
///
/// # Safety
///
/// An implementation promises, from the call of [`as_mut_ptr`](Self::as_mut_ptr) until the value is next
/// moved, borrowed or dropped:
///
/// - the pointer is valid for writes of [`capacity`](Self::capacity) bytes, which need not be initialised (so whoever
///   needs both asks for the capacity first and for the pointer last);
/// - both methods answer the same again;
/// - no safe code frees, reallocates, reads or writes those bytes, not through another handle on the same
///   memory either;
/// - any bytes at all are legal there: the kernel writes what the file holds.
///
/// [`IoBuf`] has a further promise for types that are both.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be read into: a read needs memory that a request can own and the kernel may write",
    label = "the kernel may not write here",
    note = "use `Vec<u8>`, `Box<[u8]>`, `AlignedBuf`, `PoolBuf` or an array; `String`, `&[u8]` and `Arc<[u8]>` may be written to a \
            file but not read into",
    note = "through a borrow (`&mut [u8]`) the kernel would write after the borrow has ended: use an owned buffer, or \
            `Aio::scope` and `Aio::read_at`, which wait"
)]
pub unsafe trait IoBufMut {
    /// The first byte. Never null; may dangle where [`capacity`](Self::capacity) is 0.
    fn as_mut_ptr(&mut self) -> *mut u8;

    /// How many bytes a read asks for.
    ///
    /// The kernel transfers at most `0x7fff_f000` bytes (2 GiB less a page) per request: more comes back as a short
    /// read.
    fn capacity(&self) -> usize;

    /// Takes note that a read has put `n` bytes at the start of the buffer. The engine calls it once, before the buffer
    /// goes back to its owner; types without a notion of uninitialised bytes do nothing.
    ///
    /// # Safety
    ///
    /// - `n <= self.capacity()`.
    /// - The first `n` bytes are initialised.
    unsafe fn set_init(&mut self, n: usize);

    /// A part of this buffer, as a buffer, bounded by the capacity rather than by the bytes that are there: the way to
    /// read less than a `Vec` can hold, or to append to it.
    ///
    /// # Panics
    ///
    /// If the range starts after it ends, starts after [`IoBuf::len`] (the bytes between would stay uninitialised), or
    /// ends after [`capacity`](Self::capacity).
    ///
    /// # Examples
    ///
    /// ```
    /// use kiocb::IoBufMut;
    ///
    /// let mut log = Vec::with_capacity(64);
    /// log.extend_from_slice(b"seen");
    /// let tail = log.slice_mut(4..64); // a read appends at most 60 bytes
    /// assert_eq!(tail.capacity(), 60);
    /// assert_eq!(tail.into_inner(), b"seen"); // nothing was read yet
    /// ```
    fn slice_mut(self, range: impl RangeBounds<usize>) -> Slice<Self>
    where
        Self: IoBuf + Sized,
    {
        Slice::with_capacity(self, range)
    }
}

/// A range of a buffer, as a buffer of its own: what [`IoBuf::slice`] and [`IoBufMut::slice_mut`] return.
///
/// It owns the whole buffer and lends the kernel the range. It dereferences to the bytes of the range that are
/// initialised.
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
        let start = match range.start_bound() {
            Bound::Included(&at) => at,
            Bound::Excluded(&at) => at
                .checked_add(1)
                .expect("the slice starts beyond usize::MAX"),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&at) => at.checked_add(1).expect("the slice ends beyond usize::MAX"),
            Bound::Excluded(&at) => at,
            Bound::Unbounded => max_end,
        };
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
        // SAFETY: `start <= B::len() <= B::capacity()`, so the result stays within `B`'s memory or one past it.
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

// SAFETY: the heap block of a `Vec` moves only when the `Vec` is mutated. Its first `len()` bytes are initialised.
unsafe impl IoBuf for Vec<u8> {
    fn as_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn len(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above; `capacity()` bytes are allocated, and both pointers are the block's start.
unsafe impl IoBufMut for Vec<u8> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    fn capacity(&self) -> usize {
        self.capacity()
    }

    unsafe fn set_init(&mut self, n: usize) {
        debug_assert!(n <= self.capacity());
        if n > self.len() {
            // SAFETY: the caller promises that `n` is within the capacity and the bytes before it are initialised.
            unsafe { self.set_len(n) }
        }
    }
}

// SAFETY: the heap block of a `Box` never moves, and is all initialised.
unsafe impl IoBuf for Box<[u8]> {
    fn as_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

// SAFETY: as above. A `Box` claims to be the only way to its memory each time it is moved or dereferenced; nobody does
// either until the kernel is done, which is the trait's own condition.
unsafe impl IoBufMut for Box<[u8]> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        (**self).as_mut_ptr()
    }

    fn capacity(&self) -> usize {
        (**self).len()
    }

    unsafe fn set_init(&mut self, n: usize) {
        debug_assert!(n <= (**self).len());
    }
}

// SAFETY: the bytes are inside the value, which is not moved while the pointer is in use (the trait's own condition).
unsafe impl<const N: usize> IoBuf for [u8; N] {
    fn as_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr()
    }

    fn len(&self) -> usize {
        N
    }
}

// SAFETY: as above.
unsafe impl<const N: usize> IoBufMut for [u8; N] {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_slice().as_mut_ptr()
    }

    fn capacity(&self) -> usize {
        N
    }

    unsafe fn set_init(&mut self, n: usize) {
        debug_assert!(n <= N);
    }
}

// SAFETY: as for `Box<[u8]>`.
unsafe impl<const N: usize> IoBuf for Box<[u8; N]> {
    fn as_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr()
    }

    fn len(&self) -> usize {
        N
    }
}

// SAFETY: as for `Box<[u8]>`.
unsafe impl<const N: usize> IoBufMut for Box<[u8; N]> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_slice().as_mut_ptr()
    }

    fn capacity(&self) -> usize {
        N
    }

    unsafe fn set_init(&mut self, n: usize) {
        debug_assert!(n <= N);
    }
}

// SAFETY: borrowed for ever and shared: it never moves, ends or changes.
unsafe impl IoBuf for &'static [u8] {
    fn as_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

// SAFETY: as for `&'static [u8]`.
unsafe impl<const N: usize> IoBuf for &'static [u8; N] {
    fn as_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr()
    }

    fn len(&self) -> usize {
        N
    }
}

// SAFETY: as for `&'static [u8]`.
unsafe impl IoBuf for &'static str {
    fn as_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

// SAFETY: as for `Vec<u8>`. No `IoBufMut`: a file's bytes need not be UTF-8.
unsafe impl IoBuf for String {
    fn as_ptr(&self) -> *const u8 {
        self.as_bytes().as_ptr()
    }

    fn len(&self) -> usize {
        self.len()
    }
}

// SAFETY: an `Arc`'s contents stay where they are until the last clone is gone, and while this clone lives
// `Arc::get_mut` refuses everybody and `Arc::make_mut` copies.
unsafe impl IoBuf for Arc<[u8]> {
    fn as_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

// SAFETY: as for `Arc<[u8]>`.
unsafe impl<const N: usize> IoBuf for Arc<[u8; N]> {
    fn as_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr()
    }

    fn len(&self) -> usize {
        N
    }
}

// SAFETY: as for `Arc<[u8]>`; a `Vec` behind a shared reference can't be changed.
unsafe impl IoBuf for Arc<Vec<u8>> {
    fn as_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

/// One piece of a vectored request: an address and a length, the kernel's `struct iovec` in memory.
///
/// Two numbers, no ownership and no promise: what makes them good is the contract of [`IoBufs`] or [`IoBufsMut`], whose
/// implementations make these. Hence sending one to another thread is harmless.
///
/// # Examples
///
/// ```
/// use kiocb::IoVec;
///
/// let text = "piece";
/// let vec = IoVec::from_buf(&text);
/// assert_eq!((vec.as_ptr(), vec.len()), (text.as_ptr(), 5));
/// ```
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct IoVec(libc::iovec);

// SAFETY: nothing is done with the address but hand it to the kernel, which the owner of the memory vouches for.
unsafe impl Send for IoVec {}

// SAFETY: as above; it has no interior mutability.
unsafe impl Sync for IoVec {}

impl IoVec {
    /// `len` bytes at `ptr`. Making one is safe, as making a raw pointer is.
    pub const fn new(ptr: *const u8, len: usize) -> Self {
        Self(libc::iovec {
            iov_base: ptr.cast_mut().cast(),
            iov_len: len,
        })
    }

    /// The bytes that a write of `buf` would send.
    pub fn from_buf<B: IoBuf>(buf: &B) -> Self {
        let len = buf.len();
        Self::new(buf.as_ptr(), len)
    }

    /// The bytes that a read into `buf` would fill.
    pub fn from_buf_mut<B: IoBufMut>(buf: &mut B) -> Self {
        // The pointer last: asking for the capacity borrows the buffer.
        let len = buf.capacity();
        Self::new(buf.as_mut_ptr(), len)
    }

    /// The first byte.
    pub const fn as_ptr(&self) -> *const u8 {
        self.0.iov_base.cast_const().cast()
    }

    /// How many bytes.
    pub const fn len(&self) -> usize {
        self.0.iov_len
    }

    /// Takes `count` bytes off the front: at most all.
    pub(crate) fn advance(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        *self = Self::new(self.as_ptr().wrapping_add(count), self.len() - count);
    }

    /// Whether this piece is empty. The kernel takes empty pieces.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for IoVec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoVec")
            .field("ptr", &self.as_ptr())
            .field("len", &self.len())
            .finish()
    }
}

/// The [`IoVec`]s of an array of buffers, in place: what `[B; N]` answers.
#[derive(Clone, Copy, Debug)]
pub struct IoVecArray<const N: usize>([IoVec; N]);

impl<const N: usize> Deref for IoVecArray<N> {
    type Target = [IoVec];

    fn deref(&self) -> &[IoVec] {
        &self.0
    }
}

/// Several pieces of memory that the kernel may read while a request owns them: one write from many buffers
/// ([`WriteV`](crate::WriteV), `writev(2)`), in their order.
///
/// Implemented for `Vec<B>`, `Box<[B]>` and `[B; N]` of any [`IoBuf`]. An array needs no allocation.
///
/// The kernel takes at most 1024 pieces (`UIO_MAXIOV`): more is refused with `EINVAL` by `io_submit`. With `O_DIRECT`
/// each piece has to be aligned, not just the first. All pieces together transfer at most `0x7fff_f000` bytes.
///
/// # Safety
///
/// An implementation promises, from the call of [`io_vecs`](Self::io_vecs) until the value is next moved, borrowed
/// mutably or dropped, that each of the answered pieces keeps the promise of [`IoBuf`]: valid for reads, initialised,
/// written by nobody.
///
/// # Examples
///
/// ```
/// use kiocb::IoBufs;
///
/// let record = vec!["header", "body"];
/// let pieces = record.io_vecs();
/// assert_eq!(pieces.iter().map(|piece| piece.len()).sum::<usize>(), 10);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be lent to the kernel as the source of a vectored write",
    label = "not a collection of buffers that a request can own",
    note = "use `Vec<B>`, `Box<[B]>` or `[B; N]` where `B` is a buffer: `Vec<u8>`, `Box<[u8]>`, `AlignedBuf`, `Arc<[u8]>`, \
            `&'static [u8]`, an array; for a single buffer use `Write` instead of `WriteV`",
    note = "for borrowed bytes use `Aio::scope`, which waits"
)]
pub unsafe trait IoBufs {
    /// Holds the pieces. The request keeps it; the kernel copies it during `io_submit`.
    type IoVecs: Deref<Target = [IoVec]> + Send + 'static;

    /// The pieces, in file order.
    fn io_vecs(&self) -> Self::IoVecs;
}

/// Several pieces of memory that the kernel may write while a request owns them: one read into many buffers
/// ([`ReadV`](crate::ReadV), `readv(2)`), each filled before the next.
///
/// Implemented for `Vec<B>`, `Box<[B]>` and `[B; N]` of any [`IoBufMut`]. Limits as for [`IoBufs`].
///
/// # Safety
///
/// An implementation promises, from the call of [`io_vecs_mut`](Self::io_vecs_mut) until the value is next moved,
/// borrowed or dropped:
///
/// - each of the answered pieces keeps the promise of [`IoBufMut`]: valid for writes, touched by nobody;
/// - no two pieces overlap.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be read into: a vectored read needs a collection of buffers that the kernel may write",
    label = "the kernel may not write here",
    note = "use `Vec<B>`, `Box<[B]>` or `[B; N]` where `B` is `Vec<u8>`, `Box<[u8]>`, `AlignedBuf` or an array; for a single \
            buffer use `Read` instead of `ReadV`",
    note = "through borrows (`&mut [u8]`) the kernel would write after they have ended: use `Aio::scope`, which waits"
)]
pub unsafe trait IoBufsMut {
    /// Holds the pieces. The request keeps it; the kernel copies it during `io_submit`.
    type IoVecs: Deref<Target = [IoVec]> + Send + 'static;

    /// The pieces, in file order.
    fn io_vecs_mut(&mut self) -> Self::IoVecs;

    /// Takes note that a read has filled the first `n` bytes of the pieces, counted over all of them.
    ///
    /// # Safety
    ///
    /// - `n` is at most the sum of the lengths that [`io_vecs_mut`](Self::io_vecs_mut) answered.
    /// - The first `n` bytes, in their order, are initialised.
    unsafe fn set_init(&mut self, n: usize);
}

/// Gives each buffer its share of `n` bytes that arrived.
///
/// # Safety
///
/// - `n` is at most the sum of the capacities.
/// - The first `n` bytes, in the order of the buffers, are initialised.
unsafe fn spread_init<B: IoBufMut>(bufs: &mut [B], n: usize) {
    let mut left = n;
    for buf in bufs {
        let here = left.min(buf.capacity());
        // SAFETY: `here` is within this buffer's capacity; the kernel fills each piece to its end before the
        // next, and all pieces before this one are accounted for in `left`, so these `here` bytes are among
        // those promised.
        unsafe { buf.set_init(here) };
        left -= here;
    }
    debug_assert_eq!(left, 0, "more bytes arrived than the buffers hold");
}

// SAFETY: each piece is a `B`'s own; the elements of a `Vec` stay where they are until it is mutated.
unsafe impl<B: IoBuf> IoBufs for Vec<B> {
    type IoVecs = Box<[IoVec]>;

    fn io_vecs(&self) -> Self::IoVecs {
        self.iter().map(IoVec::from_buf).collect()
    }
}

// SAFETY: as above; distinct values own distinct memory.
unsafe impl<B: IoBufMut> IoBufsMut for Vec<B> {
    type IoVecs = Box<[IoVec]>;

    fn io_vecs_mut(&mut self) -> Self::IoVecs {
        self.iter_mut().map(IoVec::from_buf_mut).collect()
    }

    unsafe fn set_init(&mut self, n: usize) {
        // SAFETY: the same conditions, promised by the caller.
        unsafe { spread_init(self, n) }
    }
}

// SAFETY: as for `Vec<B>`.
unsafe impl<B: IoBuf> IoBufs for Box<[B]> {
    type IoVecs = Box<[IoVec]>;

    fn io_vecs(&self) -> Self::IoVecs {
        self.iter().map(IoVec::from_buf).collect()
    }
}

// SAFETY: as for `Vec<B>`.
unsafe impl<B: IoBufMut> IoBufsMut for Box<[B]> {
    type IoVecs = Box<[IoVec]>;

    fn io_vecs_mut(&mut self) -> Self::IoVecs {
        self.iter_mut().map(IoVec::from_buf_mut).collect()
    }

    unsafe fn set_init(&mut self, n: usize) {
        // SAFETY: the same conditions, promised by the caller.
        unsafe { spread_init(self, n) }
    }
}

// SAFETY: as for `Vec<B>`; the buffers are inside the array, which is not moved while the pieces are in use.
unsafe impl<B: IoBuf, const N: usize> IoBufs for [B; N] {
    type IoVecs = IoVecArray<N>;

    fn io_vecs(&self) -> Self::IoVecs {
        IoVecArray(self.each_ref().map(IoVec::from_buf))
    }
}

// SAFETY: as for `Vec<B>` and the array above.
unsafe impl<B: IoBufMut, const N: usize> IoBufsMut for [B; N] {
    type IoVecs = IoVecArray<N>;

    fn io_vecs_mut(&mut self) -> Self::IoVecs {
        IoVecArray(self.each_mut().map(IoVec::from_buf_mut))
    }

    unsafe fn set_init(&mut self, n: usize) {
        // SAFETY: the same conditions, promised by the caller.
        unsafe { spread_init(self, n) }
    }
}
