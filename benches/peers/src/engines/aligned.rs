//! An aligned buffer as the peers' buffer traits want it.
#![allow(unsafe_code, reason = "the buffer traits of tokio-uring and compio")]

use std::mem::MaybeUninit;

use kiocb::AlignedBuf;

/// Every byte of it is initialized, always.
pub(super) struct Aligned(pub(super) AlignedBuf);

// SAFETY: the memory is on the heap and stays where it is while the buffer is moved; all of it is initialized.
unsafe impl tokio_uring::buf::IoBuf for Aligned {
    fn stable_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.0.len()
    }

    fn bytes_total(&self) -> usize {
        self.0.len()
    }
}

// SAFETY: as above; the pointer is one to write through, as it comes from a mutable reference.
unsafe impl tokio_uring::buf::IoBufMut for Aligned {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    unsafe fn set_init(&mut self, _: usize) {}
}

impl compio::buf::IoBuf for Aligned {
    fn as_init(&self) -> &[u8] {
        &self.0
    }
}

impl compio::buf::SetLen for Aligned {
    unsafe fn set_len(&mut self, _: usize) {}
}

impl compio::buf::IoBufMut for Aligned {
    fn as_uninit(&mut self) -> &mut [MaybeUninit<u8>] {
        let bytes: &mut [u8] = &mut self.0;
        let (start, count) = (bytes.as_mut_ptr(), bytes.len());
        // SAFETY: the slice's own memory, for its own lifetime; compio writes bytes into it and nothing else.
        unsafe { std::slice::from_raw_parts_mut(start.cast(), count) }
    }
}
