//! What a file or block device says about direct I/O: `statx(2)` and two ioctls.
//!
//! The C structs of the libraries end where their authors' kernel headers did, so the answer has its own
//! layout here; the kernel fills 256 bytes since the call exists and leaves at zero what it does not know.

#![allow(unsafe_code, reason = "three system calls that no safe wrapper has")]

use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct statx`, as far as it is used here. Valid fields have their bit in `mask`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Statx {
    pub(crate) mask: u32,
    pub(crate) blksize: u32,
    _attributes: [u32; 5],
    pub(crate) mode: u16,
    _pad: u16,
    _ino: u64,
    pub(crate) size: u64,
    _blocks_times_devices: [u64; 13],
    pub(crate) dio_mem_align: u32,
    pub(crate) dio_offset_align: u32,
    _subvol: u64,
    pub(crate) atomic_write_unit_min: u32,
    pub(crate) atomic_write_unit_max: u32,
    pub(crate) atomic_write_segments_max: u32,
    pub(crate) dio_read_offset_align: u32,
    pub(crate) atomic_write_unit_max_opt: u32,
    _spare: [u32; 17],
}

/// Bits of [`Statx::mask`], from include/uapi/linux/stat.h.
pub(crate) const STATX_BASIC_STATS: u32 = 0x7ff;
/// Since Linux 6.1.
pub(crate) const STATX_DIOALIGN: u32 = 0x2000;
/// Since Linux 6.11.
pub(crate) const STATX_WRITE_ATOMIC: u32 = 0x1_0000;
/// Since Linux 6.14.
pub(crate) const STATX_DIO_READ_ALIGN: u32 = 0x2_0000;

// By hand from include/uapi/linux/stat.h, whose comments give the offsets.
const _: () = {
    assert!(size_of::<Statx>() == 0x100);
    assert!(offset_of!(Statx, blksize) == 0x04);
    assert!(offset_of!(Statx, mode) == 0x1c);
    assert!(offset_of!(Statx, size) == 0x28);
    assert!(offset_of!(Statx, dio_mem_align) == 0x98);
    assert!(offset_of!(Statx, dio_offset_align) == 0x9c);
    assert!(offset_of!(Statx, atomic_write_unit_min) == 0xa8);
    assert!(offset_of!(Statx, atomic_write_unit_max) == 0xac);
    assert!(offset_of!(Statx, atomic_write_segments_max) == 0xb0);
    assert!(offset_of!(Statx, dio_read_offset_align) == 0xb4);
    assert!(offset_of!(Statx, atomic_write_unit_max_opt) == 0xb8);
};

/// All that is used here.
const WANTED: u32 = STATX_BASIC_STATS | STATX_DIOALIGN | STATX_WRITE_ATOMIC | STATX_DIO_READ_ALIGN;

/// What the file itself says now.
pub(crate) fn statx(fd: BorrowedFd<'_>) -> io::Result<Statx> {
    ask(fd, 0, WANTED)
}

/// The kind of the file (`S_IFMT`), from what the kernel has in memory: no file server is asked. `None` where
/// statx is refused.
pub(crate) fn cached_kind(fd: BorrowedFd<'_>) -> Option<u32> {
    ask(fd, libc::AT_STATX_DONT_SYNC, libc::STATX_TYPE)
        .ok()
        .map(|stat| stat.kind())
}

/// The kind of the file (`S_IFMT`), also where statx is refused.
pub(crate) fn kind(fd: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(nix::sys::stat::fstat(fd)?.st_mode & libc::S_IFMT)
}

impl Statx {
    /// What a read's offset must be a multiple of, 0 where that is not known: at most what a write's must.
    pub(crate) fn read_offset_align(&self) -> u32 {
        let read = self.dio_read_offset_align;
        if self.mask & STATX_DIO_READ_ALIGN != 0 && read != 0 {
            read.min(self.dio_offset_align)
        } else {
            self.dio_offset_align
        }
    }

    /// `S_IFREG` and its kin.
    pub(crate) fn kind(&self) -> u32 {
        u32::from(self.mode) & libc::S_IFMT
    }
}

/// `int statx(int dirfd, const char *path, int flags, unsigned int mask, struct statx *statxbuf)` on an open
/// file ([statx(2)](https://man7.org/linux/man-pages/man2/statx.2.html), since Linux 4.11). Old seccomp
/// profiles refuse it with `EPERM`.
fn ask(fd: BorrowedFd<'_>, flags: libc::c_int, wanted: u32) -> io::Result<Statx> {
    let mut answer = MaybeUninit::<Statx>::zeroed();
    // SAFETY: the path is a C string, the descriptor is open while it is borrowed, and the kernel writes the
    // 256 bytes of a `struct statx`, which is the size asserted above.
    let result = unsafe {
        libc::syscall(
            libc::SYS_statx,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            wanted,
            answer.as_mut_ptr(),
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed at first, so initialised whatever the kernel wrote; all fields are integers, for which
    // any bits will do.
    Ok(unsafe { answer.assume_init() })
}

/// Whether ioctl numbers carry their direction in other bits than elsewhere.
const OTHER_IOCTLS: bool = cfg!(any(
    target_arch = "mips64",
    target_arch = "mips64r6",
    target_arch = "powerpc64",
    target_arch = "sparc64",
));
/// `_IO(0x12, 104)`.
const BLKSSZGET: u32 = if OTHER_IOCTLS { 0x2000_1268 } else { 0x1268 };
/// `_IOR(0x12, 114, size_t)`.
const BLKGETSIZE64: u32 = if OTHER_IOCTLS {
    0x4008_1272
} else {
    0x8008_1272
};

/// `ioctl(fd, BLKSSZGET, int *)`: a block device's logical block size. Anything else answers `ENOTTY` or
/// `EINVAL`.
pub(crate) fn logical_block_size(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the call writes one `int`; the descriptor is open while it is borrowed.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), BLKSSZGET as _, &raw mut bytes) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    u32::try_from(bytes).map_err(io::Error::other)
}

/// `ioctl(fd, BLKGETSIZE64, uint64_t *)`: a block device's length in bytes. Anything else answers `ENOTTY` or
/// `EINVAL`.
pub(crate) fn device_len(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut bytes = 0u64;
    // SAFETY: the call writes one 64-bit number; the descriptor is open while it is borrowed.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), BLKGETSIZE64 as _, &raw mut bytes) };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(bytes)
    }
}
