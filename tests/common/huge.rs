//! A buffer larger than any transfer.

use kiocb::buf::IoBuf;

/// Three gibibytes of address space, all zero, without memory behind it.
pub(crate) struct Huge(*mut libc::c_void);

pub(crate) const HUGE: usize = 3 << 30;

impl Huge {
    /// `None` where the process may not have so much address space, which it then says.
    pub(crate) fn new() -> Option<Huge> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), HUGE, libc::PROT_READ, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            let error = std::io::Error::last_os_error();
            super::skip(&format!("3 GiB of address space: {error}"));
            return None;
        }
        Some(Huge(address))
    }
}

impl Drop for Huge {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nobody uses it any more.
        unsafe { libc::munmap(self.0, HUGE) };
    }
}

// SAFETY: an address, used by nobody else.
unsafe impl Send for Huge {}

// SAFETY: mapped for reading until it is dropped.
unsafe impl IoBuf for Huge {
    fn buf_ptr(&self) -> *const u8 {
        self.0.cast()
    }

    fn buf_len(&self) -> usize {
        HUGE
    }
}
