//! What the user owns and lends: files and memory. Each is counted, and each may do its worst when it is dropped.
#![allow(unsafe_code, reason = "a buffer type of its own")]

use super::call_out::{Place, call_out};
use super::ledger::ledger;
use crate::buf::{IoBuf, IoBufMut};
use crate::sys::seeded::{NAME, machine, pattern};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

/// What a buffer for reading holds before.
pub(super) const UNTOUCHED: u8 = 0xee;

/// How many files there are.
pub(super) const FILES: usize = 4;

fn files() -> &'static [File] {
    static FILES_OPEN: OnceLock<Vec<File>> = OnceLock::new();
    FILES_OPEN.get_or_init(|| (0..FILES).map(|_| regular_file()).collect())
}

/// A file that asks like a stored one: whether a transfer goes on depends on that.
fn regular_file() -> File {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let fd = memfd_create(c"kiocb-simulation", MFdFlags::MFD_CLOEXEC).expect("a memfd");
    fd.into()
}

/// Descriptors that the simulated kernel takes for eventfds.
pub(super) fn eventfds() -> &'static [Arc<OwnedFd>] {
    static EVENTFDS: OnceLock<Vec<Arc<OwnedFd>>> = OnceLock::new();
    EVENTFDS.get_or_init(|| (0..2).map(|_| Arc::new(regular_file().into())).collect())
}

pub(super) fn number_of(eventfd: &Arc<OwnedFd>) -> u32 {
    eventfd.as_raw_fd().cast_unsigned()
}

/// One of the files, which counts as open until it is dropped.
#[derive(Debug)]
pub(super) struct Handle(usize);

impl Handle {
    pub(super) fn new(file: usize) -> Handle {
        ledger(|ledger| ledger.files += 1);
        Handle(file % FILES)
    }

    pub(super) fn number(&self) -> u32 {
        files()[self.0].as_raw_fd().cast_unsigned()
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        files()[self.0].as_fd()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        ledger(|ledger| ledger.files -= 1);
        call_out(Place::Drop);
    }
}

/// Memory for one request. The simulated kernel knows of it from here until it is dropped.
#[derive(Debug)]
pub(super) struct Memory(Box<[u8]>);

impl Memory {
    pub(super) fn to_read(len: usize) -> Memory {
        Memory::known(vec![UNTOUCHED; len])
    }

    pub(super) fn to_write(name: u64, len: usize) -> Memory {
        let bytes = (0..len as u64).map(|at| pattern((name << NAME) + at));
        Memory::known(bytes.collect())
    }

    /// The bytes of another offset than a name's first.
    pub(super) fn of_offset(offset: u64, len: usize) -> Memory {
        Memory::known((0..len as u64).map(|at| pattern(offset + at)).collect())
    }

    fn known(bytes: Vec<u8>) -> Memory {
        let bytes = bytes.into_boxed_slice();
        machine(|machine| machine.add_memory(bytes.as_ptr().expose_provenance(), bytes.len()));
        Memory(bytes)
    }
}

/// Whether memory holds what was read at the request's offset: `count` bytes of it.
pub(super) fn holds(bytes: &[u8], name: u64, count: usize) -> bool {
    let mut places = (name << NAME..).zip(&bytes[..count]);
    places.all(|(offset, &byte)| byte == pattern(offset))
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        machine(|machine| machine.remove_memory(self.0.as_ptr().expose_provenance()));
        self.0.fill(0xdd);
        call_out(Place::Drop);
    }
}

// SAFETY: a boxed slice, which stays where it is until it is dropped.
unsafe impl IoBuf for Memory {
    fn buf_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    fn buf_len(&self) -> usize {
        self.0.len()
    }
}

// SAFETY: as above, and all of it is initialised.
unsafe impl IoBufMut for Memory {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    fn buf_capacity(&self) -> usize {
        self.0.len()
    }

    unsafe fn set_init(&mut self, _: usize) {}
}

/// Borrowed memory that the simulated kernel knows of.
pub(super) struct Known(Vec<usize>);

impl Known {
    pub(super) fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Known {
        let add = |piece: &[u8]| {
            let address = piece.as_ptr().expose_provenance();
            machine(|machine| machine.add_memory(address, piece.len()));
            address
        };
        Known(pieces.into_iter().map(add).collect())
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        let each = self.0.iter();
        each.for_each(|&address| machine(|machine| machine.remove_memory(address)));
    }
}
