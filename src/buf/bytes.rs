//! `bytes::Bytes` and `bytes::BytesMut` as buffers: the feature `bytes`.
#![allow(
    unsafe_code,
    reason = "implements the unsafe buffer traits for another crate's types"
)]

use super::{IoBuf, IoBufMut};
use ::bytes::{Bytes, BytesMut};

// SAFETY: the bytes lie outside the handle, so moving it does not move them, and they never change: other
// handles on the same memory can only read. They live as long as any handle does, and this one is the
// request's.
unsafe impl IoBuf for Bytes {
    fn buf_ptr(&self) -> *const u8 {
        self.as_ref().as_ptr()
    }

    fn buf_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: as for `Bytes`; what was split off is not in `buf_len()` bytes from here.
unsafe impl IoBuf for BytesMut {
    fn buf_ptr(&self) -> *const u8 {
        self.as_ref().as_ptr()
    }

    fn buf_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: the `buf_capacity()` bytes from the start are this handle's alone, also where others have a part of
// the same memory: that is what lets `BytesMut` write there. They move only when the handle is told to grow.
unsafe impl IoBufMut for BytesMut {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        let len = self.len();
        self.clear();
        // With nothing in use all is spare, so this pointer is good for all; that of the slice is good for
        // `len` bytes.
        let start = self.spare_capacity_mut().as_mut_ptr();
        // SAFETY: so many were in use and initialised a moment ago.
        unsafe { self.set_len(len) };
        start.cast::<u8>()
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
