//! Memory that the simulated kernel may use, and the bytes there.
#![allow(unsafe_code, reason = "uses memory, as a kernel does")]

use std::collections::BTreeMap;

/// The byte at an offset of every file.
pub(crate) fn pattern(offset: u64) -> u8 {
    let mixed = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_le_bytes()[7]
}

/// Memory that exists: where each piece begins, and where it ends.
#[derive(Debug, Default)]
pub(super) struct Memory(BTreeMap<usize, usize>);

/// Addresses and lengths of what a transfer names.
type Pieces = [(usize, usize)];

impl Memory {
    pub(super) fn add(&mut self, address: usize, len: usize) {
        self.0.insert(address, address + len);
    }

    /// Returns whether it was there.
    pub(super) fn remove(&mut self, address: usize) -> bool {
        self.0.remove(&address).is_some()
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether all pieces lie in memory that exists.
    pub(super) fn has(&self, pieces: &Pieces) -> bool {
        pieces.iter().all(|&(address, len)| {
            let before = self.0.range(..=address).next_back();
            len == 0 || before.is_some_and(|(_, &end)| address + len <= end)
        })
    }

    /// Reads so many bytes at the offset into the pieces, which a request lends; or writes them from there, and
    /// returns the offsets of pieces whose bytes are others.
    pub(super) fn transfer(
        &self,
        is_read: bool,
        pieces: &Pieces,
        mut count: usize,
        mut offset: u64,
    ) -> Vec<u64> {
        assert!(self.has(pieces), "memory that does not exist");
        let mut wrong = Vec::new();
        for &(address, len) in pieces {
            let len = len.min(count);
            // SAFETY: the memory exists, as was just seen, and the request says that it is the kernel's.
            if !unsafe { move_bytes(is_read, address, len, offset) } {
                wrong.push(offset);
            }
            offset += len as u64;
            count -= len;
        }
        wrong
    }
}

/// Fills the memory, or returns whether it holds what it must.
///
/// # Safety
/// The memory exists, and is the kernel's for the request.
unsafe fn move_bytes(is_read: bool, address: usize, len: usize, offset: u64) -> bool {
    let memory = std::ptr::with_exposed_provenance_mut::<u8>(address);
    (0..len).all(|at| {
        let byte = pattern(offset + at as u64);
        if is_read {
            // SAFETY: the caller's promise.
            unsafe { memory.wrapping_add(at).write(byte) };
            return true;
        }
        // SAFETY: the caller's promise.
        byte == unsafe { memory.wrapping_add(at).read() }
    })
}
