//! Several buffers in one request.
#![allow(unsafe_code, reason = "their bytes are those of several buffers")]

use super::{IoBuf, IoBufMut};
use std::fmt;
use std::ops::Deref;

/// One piece of a vectored request: an address and a length, the kernel's `struct iovec` in memory.
///
/// Two numbers, no ownership and no promise: what makes them good is the contract of [`IoBufs`] or
/// [`IoBufsMut`], whose implementations make these. Hence sending one to another thread is harmless.
///
/// # Examples
///
/// ```
/// use kiocb::buf::IoVec;
///
/// let text = "piece";
/// let vec = IoVec::from_buf(&text);
/// assert_eq!((vec.as_ptr(), vec.len()), (text.as_ptr(), 5));
/// ```
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct IoVec(libc::iovec);

// SAFETY: nothing is done with the address but hand it to the kernel, which the owner of the memory vouches
// for.
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
        let len = buf.buf_len();
        Self::new(buf.buf_ptr(), len)
    }

    /// The bytes that a read into `buf` would fill.
    pub fn from_buf_mut<B: IoBufMut>(buf: &mut B) -> Self {
        // The pointer last: asking for the capacity borrows the buffer.
        let len = buf.buf_capacity();
        Self::new(buf.buf_mut_ptr(), len)
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
/// ([`WriteV`](crate::op::WriteV), `writev(2)`), in their order.
///
/// Implemented for `Vec<B>`, `Box<[B]>` and `[B; N]` of any [`IoBuf`]. An array needs no allocation.
///
/// The kernel takes at most 1024 pieces (`UIO_MAXIOV`): more is refused with `EINVAL` by `io_submit`, unless
/// [`write_all`](crate::Iocb::write_all) or [`read_exact`](crate::Iocb::read_exact) sends them in turn. With
/// `O_DIRECT` each piece has to be aligned, not just the first. All pieces together transfer at most
/// `0x7fff_f000` bytes.
///
/// # Safety
///
/// An implementation promises, from the call of [`io_vecs`](Self::io_vecs) until the value is next moved,
/// borrowed mutably or dropped, that each of the answered pieces keeps the promise of [`IoBuf`]: valid for
/// reads, initialised, not written. What it answers dereferences to the same pieces at the same address each
/// time, and that neither panics nor blocks: the crate does it again after a short transfer, under a lock.
///
/// # Examples
///
/// ```
/// use kiocb::buf::IoBufs;
///
/// let record = vec!["header", "body"];
/// let pieces = record.io_vecs();
/// assert_eq!(pieces.iter().map(|piece| piece.len()).sum::<usize>(), 10);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the source of a vectored write",
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
/// ([`ReadV`](crate::op::ReadV), `readv(2)`), each filled before the next.
///
/// Implemented for `Vec<B>`, `Box<[B]>` and `[B; N]` of any [`IoBufMut`]. Limits as for [`IoBufs`].
///
/// # Safety
///
/// An implementation promises, from the call of [`io_vecs_mut`](Self::io_vecs_mut) until the value is next
/// moved, borrowed or dropped:
///
/// - each of the answered pieces keeps the promise of [`IoBufMut`]: valid for writes, not touched;
/// - no two pieces overlap;
/// - what is answered dereferences to the same pieces at the same address each time, and that neither panics
///   nor blocks: the crate does it again after a short transfer, under a lock.
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
        let here = left.min(buf.buf_capacity());
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
