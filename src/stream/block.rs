//! A buffer of a stream: aligned memory that knows how many of its bytes are the file's.
#![allow(unsafe_code, reason = "its length is what the kernel has transferred")]

use crate::buf::{AlignedBuf, IoBuf, IoBufMut};
use std::io;

/// A buffer for one block of a file.
///
/// A read asks for `want` bytes, and sets `len` to what came. A write sends `len` bytes. The block is one word
/// here, so that a request of it fits into the engine's cell and needs no memory of its own.
#[derive(Debug)]
pub(super) struct Block(Box<Parts>);

#[derive(Debug)]
struct Parts {
    bytes: AlignedBuf,
    want: usize,
    len: usize,
}

impl Block {
    /// Zeroes. [`OutOfMemory`](io::ErrorKind::OutOfMemory) where there is no memory.
    pub(super) fn try_new(size: usize, align: usize) -> io::Result<Block> {
        let bytes = AlignedBuf::try_with_alignment(size, align)?;
        Ok(Block(Box::new(Parts {
            bytes,
            want: 0,
            len: 0,
        })))
    }

    /// To be read into: as many bytes as this.
    pub(super) fn ask(&mut self, want: usize) {
        self.0.want = want.min(self.0.bytes.len());
        self.0.len = 0;
    }

    /// To be written: as many bytes as this.
    pub(super) fn offer(&mut self, len: usize) {
        self.0.want = len.min(self.0.bytes.len());
        self.0.len = self.0.want;
    }

    /// What a read has brought.
    pub(super) fn filled(&self) -> &[u8] {
        &self.0.bytes[..self.0.len]
    }

    /// All bytes, whatever they are.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0.bytes
    }
}

// SAFETY: the bytes are the inner buffer's, at one address as long as it lives and all initialised; `len` is
// at most their number (`ask`, `offer`, `set_init`), and only `&mut self` changes any of it.
unsafe impl IoBuf for Block {
    fn buf_ptr(&self) -> *const u8 {
        self.0.bytes.buf_ptr()
    }

    fn buf_len(&self) -> usize {
        debug_assert!(self.0.len <= self.0.bytes.buf_len());
        self.0.len
    }
}

// SAFETY: as above, and this value is the only way to the bytes. `len <= want`: each sets both, and
// `set_init` gets at most `want`.
unsafe impl IoBufMut for Block {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.0.bytes.buf_mut_ptr()
    }

    fn buf_capacity(&self) -> usize {
        debug_assert!(self.0.len <= self.0.want && self.0.want <= self.0.bytes.buf_capacity());
        self.0.want
    }

    unsafe fn set_init(&mut self, n: usize) {
        debug_assert!(n <= self.0.want);
        self.0.len = self.0.len.max(n);
    }
}
