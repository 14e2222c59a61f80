//! Borrowed files and memory without their lifetimes: what the kernel knows of them, for the time of a
//! borrow.
#![allow(
    unsafe_code,
    reason = "memory and descriptors that are borrowed for longer than their requests take"
)]

use crate::buf::{IoBuf, IoBufMut, IoBufs, IoBufsMut, IoVec};
use std::io::{IoSlice, IoSliceMut};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::slice;

/// A file that is borrowed.
#[derive(Debug)]
pub(super) struct BorrowedFile(RawFd);

impl BorrowedFile {
    /// # Safety
    /// The file stays borrowed as long as the value exists.
    pub(super) unsafe fn of(file: BorrowedFd<'_>) -> BorrowedFile {
        BorrowedFile(file.as_raw_fd())
    }
}

impl AsFd for BorrowedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: by the promise of `of` the file is borrowed, so it is open.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// Bytes that are borrowed: for writing, where they are to be read into.
#[derive(Debug)]
pub(super) struct BorrowedBytes {
    start: *mut u8,
    len: usize,
}

// SAFETY: bytes belong to no thread.
unsafe impl Send for BorrowedBytes {}

impl BorrowedBytes {
    /// # Safety
    /// The bytes stay borrowed as long as the value exists.
    pub(super) unsafe fn exclusive(bytes: &mut [u8]) -> BorrowedBytes {
        BorrowedBytes {
            start: bytes.as_mut_ptr(),
            len: bytes.len(),
        }
    }

    /// # Safety
    /// The bytes stay borrowed as long as the value exists, and it is not read into.
    pub(super) unsafe fn shared(bytes: &[u8]) -> BorrowedBytes {
        BorrowedBytes {
            start: bytes.as_ptr().cast_mut(),
            len: bytes.len(),
        }
    }
}

// SAFETY: by the promise of its makers the bytes are borrowed as long as the value exists: they stay where
// they are, are initialised, and are written by no other.
unsafe impl IoBuf for BorrowedBytes {
    fn buf_ptr(&self) -> *const u8 {
        self.start
    }

    fn buf_len(&self) -> usize {
        self.len
    }
}

// SAFETY: as above; those that are read into are borrowed for that by this value alone.
unsafe impl IoBufMut for BorrowedBytes {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.start
    }

    fn buf_capacity(&self) -> usize {
        self.len
    }

    unsafe fn set_init(&mut self, n: usize) {
        debug_assert!(n <= self.len);
    }
}

/// An array of pieces that is borrowed, as the pieces are.
#[derive(Clone, Copy, Debug)]
pub(super) struct BorrowedPieces {
    first: *const IoVec,
    count: usize,
}

// SAFETY: bytes belong to no thread.
unsafe impl Send for BorrowedPieces {}

impl BorrowedPieces {
    /// # Safety
    /// The array and its pieces stay borrowed as long as the value exists.
    pub(super) unsafe fn exclusive(pieces: &mut [IoSliceMut<'_>]) -> BorrowedPieces {
        BorrowedPieces {
            // An `IoSliceMut` is an iovec, by std's promise, and an `IoVec` is one as well.
            first: pieces.as_mut_ptr().cast_const().cast(),
            count: pieces.len(),
        }
    }

    /// # Safety
    /// The array and its pieces stay borrowed as long as the value exists, and they are not read into.
    pub(super) unsafe fn shared(pieces: &[IoSlice<'_>]) -> BorrowedPieces {
        BorrowedPieces {
            // As in `exclusive`.
            first: pieces.as_ptr().cast(),
            count: pieces.len(),
        }
    }
}

impl Deref for BorrowedPieces {
    type Target = [IoVec];

    fn deref(&self) -> &[IoVec] {
        // SAFETY: by the promise of its makers the array is borrowed; its elements are iovecs.
        unsafe { slice::from_raw_parts(self.first, self.count) }
    }
}

// SAFETY: by the promise of its makers the pieces are borrowed as long as the value exists.
unsafe impl IoBufs for BorrowedPieces {
    type IoVecs = BorrowedPieces;

    fn io_vecs(&self) -> BorrowedPieces {
        *self
    }
}

// SAFETY: as above; pieces that are read into are exclusive borrows, so no two overlap.
unsafe impl IoBufsMut for BorrowedPieces {
    type IoVecs = BorrowedPieces;

    fn io_vecs_mut(&mut self) -> BorrowedPieces {
        *self
    }

    unsafe fn set_init(&mut self, _: usize) {}
}
