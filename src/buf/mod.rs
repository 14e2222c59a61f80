//! The memory of a request: which types can be one's buffer, and some that are made for it.
//!
//! [`AlignedBuf`] is heap memory at an aligned address, [`BufPool`] a set of buffers for use after use.
//!
//! A request owns its buffer from `submit` until its event has been reaped. In that time the kernel reads or
//! writes the memory through a plain address, so what matters about a buffer is only this: the address stays
//! good while the value is not touched. [`IoBuf`] promises that for memory the kernel reads (a write to a
//! file), [`IoBufMut`] for memory the kernel writes (a read from a file), [`IoBufs`] and [`IoBufsMut`] for
//! several pieces in one request.
//!
//! | type | [`IoBuf`]: bytes written to the file | [`IoBufMut`]: bytes read from the file |
//! | --- | --- | --- |
//! | `Vec<u8>` | `len()` | `capacity()`, from its first byte on; see [below](#reading-into-a-vec) |
//! | `Box<[u8]>`, `[u8; N]`, `Box<[u8; N]>`, [`AlignedBuf`], [`PoolBuf`] | all | all |
//! | `String`, `&'static [u8]`, `&'static [u8; N]`, `&'static str` | all | never |
//! | `Arc<[u8]>`, `Arc<[u8; N]>`, `Arc<Vec<u8>>`, `Arc<AlignedBuf>`, `Arc<PoolBuf>` | all | never: it is shared |
//! | [`Slice<B>`] | the range of `B` | the range of `B` |
//!
//! # Reading into a `Vec`
//!
//! A read fills a `Vec<u8>` from its first byte and up to its *capacity*. Then `len()` grows to the bytes
//! read where it was smaller; it never shrinks. So `Vec::with_capacity(4096)` asks for 4096 bytes and comes
//! back with as many as there were, while `vec![0; 4096]` comes back with `len() == 4096` whatever the read
//! returned: look at the result. A `Vec` whose capacity happens to be larger than wanted (one that grew by
//! pushing) asks for more than wanted: bound it with [`IoBufMut::buf_slice_mut`].
//!
//! # Direct I/O
//!
//! A file opened with `O_DIRECT` wants memory at aligned addresses; of the types above only [`AlignedBuf`]
//! and [`PoolBuf`] promise any. What a file wants is known to [`DirectFile`](crate::DirectFile).

#![allow(
    unsafe_code,
    reason = "says which types keep the promise that the kernel's access rests on"
)]

mod aligned;
#[cfg(feature = "bytes")]
mod bytes;
mod pool;
mod slice;
mod vectored;

pub use aligned::AlignedBuf;
pub use pool::{BufPool, BufPoolBuilder, HugePages, PoolBuf, TakeBuf};
pub use slice::Slice;
pub use vectored::{IoBufs, IoBufsMut, IoVec, IoVecArray};

use std::ops::RangeBounds;
use std::sync::Arc;

/// Memory that the kernel may read while a request owns it: what is written to a file.
///
/// The engine moves a buffer to its final place (a cell on the heap), takes the pointer there, once, and then
/// neither moves, reads, borrows nor drops the value until the kernel is done. So memory inside the value
/// itself, such as an array, serves as well as memory that it points to.
///
/// Not `Send` and not `'static` by itself: what outlives the call (`init_rw`) asks for both, what waits does
/// not.
///
/// # Safety
///
/// An implementation promises, from the call of [`buf_ptr`](Self::buf_ptr) until the value is next moved,
/// borrowed mutably or dropped:
///
/// - the pointer is valid for reads of [`buf_len`](Self::buf_len) bytes, and these are initialised;
/// - both methods answer the same again;
/// - no safe code frees, reallocates or writes those bytes, not through another handle on the same memory
///   either;
/// - where the type is also an [`IoBufMut`], both pointers are the same address, `buf_len() <=
///   buf_capacity()`, and after `set_init(n)` there are at least `n` bytes: `buf_len() >= n`.
///
/// Forgetting the value (`mem::forget`) must leave the memory in place, as it does for anything that is freed
/// by drop.
///
/// # Examples
///
/// A page that several requests write at once:
///
/// ```
/// use kiocb::buf::IoBuf;
/// use std::sync::Arc;
///
/// #[derive(Clone)]
/// struct Page(Arc<[u8; 4096]>);
///
/// // SAFETY: an `Arc` keeps its contents at one address until the last clone is gone, and while this one
/// // exists no code can get at them mutably.
/// unsafe impl IoBuf for Page {
///     fn buf_ptr(&self) -> *const u8 {
///         self.0.as_slice().as_ptr()
///     }
///     fn buf_len(&self) -> usize {
///         4096
///     }
/// }
/// # assert_eq!(Page(Arc::new([0; 4096])).buf_len(), 4096);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the source of a write",
    label = "not memory that a request can own",
    note = "the kernel reads the bytes after the call has returned, so the request has to own them: use `Vec<u8>`, \
            `Box<[u8]>`, `String`, `AlignedBuf`, an array, `Arc<[u8]>` or a `&'static [u8]`",
    note = "for borrowed bytes use `Aio::scope` or `Aio::write_at`, which wait, or copy them with `.to_vec()`"
)]
pub unsafe trait IoBuf {
    /// The first byte. Never null; may dangle where [`buf_len`](Self::buf_len) is 0.
    fn buf_ptr(&self) -> *const u8;

    /// How many bytes a write sends, all of them initialised.
    ///
    /// The kernel transfers at most `0x7fff_f000` bytes (2 GiB less a page) per request: more comes back as a
    /// short write.
    fn buf_len(&self) -> usize;

    /// A part of this buffer, as a buffer: the request moves just these bytes. [`Slice::into_inner`] gives
    /// the whole back.
    ///
    /// The range counts initialised bytes; [`IoBufMut::buf_slice_mut`] also reaches into the spare capacity
    /// of a `Vec`.
    ///
    /// # Panics
    ///
    /// If the range starts after it ends, or ends after [`buf_len`](Self::buf_len).
    ///
    /// # Examples
    ///
    /// ```
    /// use kiocb::buf::IoBuf;
    ///
    /// let part = b"header body".buf_slice(7..);
    /// assert_eq!(&part[..], b"body");
    /// assert_eq!(part.into_inner(), b"header body");
    /// ```
    fn buf_slice(self, range: impl RangeBounds<usize>) -> Slice<Self>
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
/// An implementation promises, from the call of [`buf_mut_ptr`](Self::buf_mut_ptr) until the value is next
/// moved, borrowed or dropped:
///
/// - the pointer is valid for writes of [`buf_capacity`](Self::buf_capacity) bytes, which need not be
///   initialised (so code that needs both asks for the capacity first and for the pointer last);
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
    /// The first byte. Never null; may dangle where [`buf_capacity`](Self::buf_capacity) is 0.
    fn buf_mut_ptr(&mut self) -> *mut u8;

    /// How many bytes a read asks for.
    ///
    /// The kernel transfers at most `0x7fff_f000` bytes (2 GiB less a page) per request: more comes back as a
    /// short read.
    fn buf_capacity(&self) -> usize;

    /// Takes note that a read has put `n` bytes at the start of the buffer. The engine calls it once, before
    /// the buffer goes back to its owner; types without a notion of uninitialised bytes do nothing.
    ///
    /// # Safety
    ///
    /// - `n <= self.buf_capacity()`.
    /// - The first `n` bytes are initialised.
    unsafe fn set_init(&mut self, n: usize);

    /// A part of this buffer, as a buffer, bounded by the capacity rather than by the bytes that are there:
    /// the way to read less than a `Vec` can hold, or to append to it.
    ///
    /// # Panics
    ///
    /// If the range starts after it ends, starts after [`IoBuf::buf_len`] (the bytes between would stay
    /// uninitialised), or ends after [`buf_capacity`](Self::buf_capacity).
    ///
    /// # Examples
    ///
    /// ```
    /// use kiocb::buf::IoBufMut;
    ///
    /// let mut log = Vec::with_capacity(64);
    /// log.extend_from_slice(b"seen");
    /// let tail = log.buf_slice_mut(4..64); // a read appends at most 60 bytes
    /// assert_eq!(tail.buf_capacity(), 60);
    /// assert_eq!(tail.into_inner(), b"seen"); // nothing was read yet
    /// ```
    fn buf_slice_mut(self, range: impl RangeBounds<usize>) -> Slice<Self>
    where
        Self: IoBuf + Sized,
    {
        Slice::with_capacity(self, range)
    }
}

// SAFETY: the heap block of a `Vec` moves only when the `Vec` is mutated. Its first `len()` bytes are
// initialised.
unsafe impl IoBuf for Vec<u8> {
    fn buf_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn buf_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above; `capacity()` bytes are allocated, and both pointers are the block's start.
unsafe impl IoBufMut for Vec<u8> {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    fn buf_capacity(&self) -> usize {
        self.capacity()
    }

    unsafe fn set_init(&mut self, n: usize) {
        debug_assert!(n <= self.capacity());
        if n > self.len() {
            // SAFETY: the caller promises that `n` is within the capacity and the bytes before it are
            // initialised.
            unsafe { self.set_len(n) }
        }
    }
}

// SAFETY: the heap block of a `Box` never moves, and is all initialised.
unsafe impl IoBuf for Box<[u8]> {
    fn buf_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn buf_len(&self) -> usize {
        (**self).len()
    }
}

// SAFETY: as above. A `Box` claims to be the only way to its memory each time it is moved or dereferenced; no
// code does either until the kernel is done, which is the trait's own condition.
unsafe impl IoBufMut for Box<[u8]> {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        (**self).as_mut_ptr()
    }

    fn buf_capacity(&self) -> usize {
        (**self).len()
    }

    unsafe fn set_init(&mut self, n: usize) {
        debug_assert!(n <= (**self).len());
    }
}

// SAFETY: the bytes are inside the value, which is not moved while the pointer is in use (the trait's own
// condition).
unsafe impl<const N: usize> IoBuf for [u8; N] {
    fn buf_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr()
    }

    fn buf_len(&self) -> usize {
        N
    }
}

// SAFETY: as above.
unsafe impl<const N: usize> IoBufMut for [u8; N] {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_slice().as_mut_ptr()
    }

    fn buf_capacity(&self) -> usize {
        N
    }

    unsafe fn set_init(&mut self, n: usize) {
        debug_assert!(n <= N);
    }
}

// SAFETY: as for `Box<[u8]>`.
unsafe impl<const N: usize> IoBuf for Box<[u8; N]> {
    fn buf_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr()
    }

    fn buf_len(&self) -> usize {
        N
    }
}

// SAFETY: as for `Box<[u8]>`.
unsafe impl<const N: usize> IoBufMut for Box<[u8; N]> {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_slice().as_mut_ptr()
    }

    fn buf_capacity(&self) -> usize {
        N
    }

    unsafe fn set_init(&mut self, n: usize) {
        debug_assert!(n <= N);
    }
}

// SAFETY: borrowed for ever and shared: it never moves, ends or changes.
unsafe impl IoBuf for &'static [u8] {
    fn buf_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn buf_len(&self) -> usize {
        (**self).len()
    }
}

// SAFETY: as for `&'static [u8]`.
unsafe impl<const N: usize> IoBuf for &'static [u8; N] {
    fn buf_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr()
    }

    fn buf_len(&self) -> usize {
        N
    }
}

// SAFETY: as for `&'static [u8]`.
unsafe impl IoBuf for &'static str {
    fn buf_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn buf_len(&self) -> usize {
        (**self).len()
    }
}

// SAFETY: as for `Vec<u8>`. No `IoBufMut`: a file's bytes need not be UTF-8.
unsafe impl IoBuf for String {
    fn buf_ptr(&self) -> *const u8 {
        self.as_bytes().as_ptr()
    }

    fn buf_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: an `Arc`'s contents stay where they are until the last clone is gone, and while this clone lives
// `Arc::get_mut` refuses every caller and `Arc::make_mut` copies.
unsafe impl IoBuf for Arc<[u8]> {
    fn buf_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn buf_len(&self) -> usize {
        (**self).len()
    }
}

// SAFETY: as for `Arc<[u8]>`.
unsafe impl<const N: usize> IoBuf for Arc<[u8; N]> {
    fn buf_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr()
    }

    fn buf_len(&self) -> usize {
        N
    }
}

// SAFETY: as for `Arc<[u8]>`; a `Vec` behind a shared reference can't be changed.
unsafe impl IoBuf for Arc<Vec<u8>> {
    fn buf_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn buf_len(&self) -> usize {
        (**self).len()
    }
}
