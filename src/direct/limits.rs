//! What direct I/O on one file wants, from the kernel's own word or guessed.

use super::probe;
use crate::sys::statx::{self, Statx};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// What direct I/O on one file wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// A power of two.
    pub(super) memory: u32,
    /// For writes; at least 1.
    pub(super) offset: u32,
    /// At least 1, at most `offset`.
    pub(super) read_offset: u32,
    pub(super) atomic: Option<AtomicWrite>,
}

/// What a file that can take `O_DIRECT` is known to want.
enum Answer {
    /// It can't do direct I/O.
    Never,
    /// It says so itself, and for everything below it; or it is a block device.
    Sure(Limits),
    /// It does not say whether it can.
    Unsaid(Limits),
}

impl Limits {
    /// Switches an open file to direct I/O and asks what it wants; `None` where it can't, and then it is as
    /// it was. Also where this fails.
    pub(super) fn switch(file: &File) -> io::Result<Option<Self>> {
        let (limits, is_sure) = match Self::ask(file.as_fd())? {
            Answer::Never => return Ok(None),
            Answer::Sure(limits) => (limits, true),
            Answer::Unsaid(limits) => (limits, false),
        };
        let status = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
        match fcntl(file, FcntlArg::F_SETFL(status | OFlag::O_DIRECT)) {
            Err(nix::errno::Errno::EINVAL) => return Ok(None),
            result => result?,
        };
        let answer = if is_sure {
            Ok(true)
        } else {
            probe::is_direct(file, status)
        };
        if !matches!(answer, Ok(true)) {
            fcntl(file, FcntlArg::F_SETFL(status))?;
        }
        answer.map(|is_direct| is_direct.then_some(limits))
    }

    /// What a file that was opened for direct I/O wants. `None`: its own word is that it can't, although it
    /// was opened so (ext4 with data journalling or encryption would go through the page cache, and say
    /// nothing of it).
    pub(super) fn of(fd: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        Ok(match Self::ask(fd)? {
            Answer::Never => None,
            Answer::Sure(limits) | Answer::Unsaid(limits) => Some(limits),
        })
    }

    fn ask(fd: BorrowedFd<'_>) -> io::Result<Answer> {
        let told = statx::statx(fd).ok();
        let kind = told.as_ref().map(Statx::kind);
        let is_device = match kind.map_or_else(|| statx::kind(fd), Ok)? {
            libc::S_IFBLK => true,
            libc::S_IFREG => false,
            _ => return Ok(Answer::Never), // of a pipe O_DIRECT makes one that loses bytes
        };
        Ok(
            match told.filter(|stat| stat.mask & statx::STATX_DIOALIGN != 0) {
                Some(stat) if stat.dio_mem_align == 0 => Answer::Never,
                Some(stat) => Answer::Sure(Self::told(&stat)),
                None if is_device => Answer::Sure(Self::guessed(fd)?),
                None => Answer::Unsaid(Self::guessed(fd)?),
            },
        )
    }

    /// From the kernel's own word.
    fn told(stat: &Statx) -> Self {
        let offset = stat.dio_offset_align.max(1);
        Self {
            memory: stat.dio_mem_align.next_power_of_two(),
            offset,
            read_offset: stat.read_offset_align().max(1),
            atomic: AtomicWrite::told(stat),
        }
    }

    /// From the block size of the device or file: steps 2 and 3.
    fn guessed(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let block = match statx::logical_block_size(fd) {
            Ok(block) => block.max(1),
            Err(_) => {
                let preferred = nix::sys::stat::fstat(fd)?.st_blksize;
                u32::try_from(preferred.clamp(512, 4096)).unwrap_or(4096)
            }
        };
        Ok(Self {
            memory: block.next_power_of_two(),
            offset: block,
            read_offset: block,
            atomic: None,
        })
    }
}

/// The writes that a file can do untorn ([`RwFlags::ATOMIC`](crate::RwFlags::ATOMIC)): wholly or not at all,
/// whatever happens to the machine meanwhile.
///
/// # Examples
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// let file = kiocb::DirectFile::open("/var/lib/db/pages")?;
/// let can = file.atomic_write().is_some_and(|unit| unit.fits(16384, 5 * 16384));
/// # let _ = can;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AtomicWrite {
    /// The smallest such write in bytes, a power of two.
    pub unit_min: u32,
    /// The largest such write in bytes, a power of two.
    pub unit_max: u32,
    /// The largest such write in bytes that is as fast as a smaller one: the device does it by itself, and
    /// the file system the longer ones, up to `unit_max`, by writing elsewhere (XFS since Linux 6.16). `None`
    /// where the kernel names no such size: either all are equally fast, or the file system does them all.
    pub unit_max_opt: Option<u32>,
    /// How many pieces a vectored write may have.
    pub segments_max: u32,
}

impl AtomicWrite {
    /// Whether a write of `len` bytes at `offset` may be atomic: the length is a power of two within the
    /// limits, and the offset a multiple of it.
    pub const fn fits(&self, len: usize, offset: u64) -> bool {
        len.is_power_of_two()
            && len >= self.unit_min as usize
            && len <= self.unit_max as usize
            && offset.is_multiple_of(len as u64)
    }
}

impl AtomicWrite {
    fn told(stat: &Statx) -> Option<Self> {
        let known = stat.mask & statx::STATX_WRITE_ATOMIC != 0;
        (known && stat.atomic_write_unit_min != 0).then_some(Self {
            unit_min: stat.atomic_write_unit_min,
            unit_max: stat.atomic_write_unit_max,
            unit_max_opt: Some(stat.atomic_write_unit_max_opt).filter(|&opt| opt != 0),
            segments_max: stat.atomic_write_segments_max,
        })
    }
}
