//! Freezing a file system of our own: writes to it then block inside `io_submit` until it is thawed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};

use crate::guardian::{Guardian, LastAct};

// Both from linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int).
const FIFREEZE: libc::Ioctl = 0xc004_5877_u32 as libc::Ioctl;
const FITHAW: libc::Ioctl = 0xc004_5878_u32 as libc::Ioctl;

/// A file system that stays frozen until this is thawed or dropped, or the process dies.
#[derive(Debug)]
#[must_use = "the file system is thawed when this is dropped"]
pub struct Frozen {
    root: File,
    _guardian: Guardian,
}

impl Frozen {
    /// Freezes the file system whose root directory is `root`.
    pub(crate) fn new(root: File) -> io::Result<Frozen> {
        // The guardian first: between a freeze and its guardian nothing may go wrong.
        let guardian = Guardian::over(root.as_fd(), LastAct::Thaw)?;
        // SAFETY: FIFREEZE takes no argument and `root` is open.
        if unsafe { libc::ioctl(root.as_raw_fd(), FIFREEZE, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Frozen {
            root,
            _guardian: guardian,
        })
    }

    /// Thaws it: what was blocked goes on.
    pub fn thaw(self) {}
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let failed = thaw(self.root.as_raw_fd()) != 0;
        assert!(
            !failed || std::thread::panicking(),
            "FITHAW: {}",
            io::Error::last_os_error()
        );
    }
}

/// The bare call, for the guardian too: async-signal-safe.
pub(crate) fn thaw(root: RawFd) -> libc::c_int {
    // SAFETY: FITHAW takes no argument; a bad descriptor is an errno.
    unsafe { libc::ioctl(root, FITHAW, 0) }
}
