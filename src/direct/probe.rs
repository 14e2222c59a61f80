//! Whether a file that took `O_DIRECT` from `fcntl(2)` can really do direct I/O.
//!
//! `fcntl` asks the file system that the file was opened on, and no other: an overlay says yes for all below
//! it, and every transfer is EINVAL where what is below can't. `open(2)` asks the whole stack. So does a
//! transfer.

use crate::buf::AlignedBuf;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC, fstatfs};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

/// More than any file system wants offsets, lengths and memory to be multiples of.
const ALIGNED: usize = 64 << 10;

/// Whether a regular file, which has these status flags and `O_DIRECT` beside them, does direct I/O.
pub(super) fn is_direct(file: &File, status: OFlag) -> io::Result<bool> {
    if status & OFlag::O_ACCMODE != OFlag::O_WRONLY {
        return can_read(file);
    }
    // There is no write that does nothing, so it is opened once more.
    ask_by_opening(file).map_or_else(|| has_no_other_below(file), Ok)
}

/// Opens the file once more, on a thread of its own; `None` where that tells nothing.
fn ask_by_opening(file: &File) -> Option<bool> {
    std::thread::scope(|scope| {
        // The thread inherits the mask: it is not for the program's signals.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).ok();
        let thread = std::thread::Builder::new().name("kiocb-open".to_owned());
        let started = thread.spawn_scoped(scope, || can_open(file));
        before.and_then(|before| before.thread_set_mask().ok());
        started.ok()?.join().ok().flatten()
    })
}

/// Reads where the file ends: nothing is transferred, but what can't be is refused.
fn can_read(file: &File) -> io::Result<bool> {
    let end = file
        .metadata()?
        .len()
        .checked_next_multiple_of(ALIGNED as u64);
    let end = end.filter(|&end| i64::try_from(end).is_ok()).unwrap_or(0);
    let mut buf = AlignedBuf::try_with_alignment(ALIGNED, ALIGNED)?;
    loop {
        match file.read_at(&mut buf, end) {
            Ok(_) => return Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Opens the file once more, for direct writing; `None` where that tells nothing: without /proc, without the
/// right.
///
/// For a thread of its own, which gets a table of descriptors of its own: closing a descriptor drops all
/// locks (`F_SETLK`) that the owner of the table has on the file, through whatever descriptor.
fn can_open(file: &File) -> Option<bool> {
    unshare(CloneFlags::CLONE_FILES).ok()?;
    let path = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
    let mut options = OpenOptions::new();
    options
        .write(true)
        .custom_flags(libc::O_DIRECT | libc::O_NONBLOCK | libc::O_NOCTTY);
    match options.open(path) {
        Ok(again) => is_same(file, &again).then_some(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Some(false),
        Err(_) => None,
    }
}

fn is_same(one: &File, other: &File) -> bool {
    let place = |file: &File| file.metadata().map(|stat| (stat.dev(), stat.ino())).ok();
    place(one).is_some_and(|first| place(other) == Some(first))
}

/// Whether its file system keeps its files itself: then `fcntl` looks at the same mark as `open`.
fn has_no_other_below(file: &File) -> io::Result<bool> {
    /// <linux/magic.h>
    const ECRYPTFS_SUPER_MAGIC: FsType = FsType(0xf15f);
    let kind = fstatfs(file)?.filesystem_type();
    Ok(![
        OVERLAYFS_SUPER_MAGIC,
        FUSE_SUPER_MAGIC,
        ECRYPTFS_SUPER_MAGIC,
    ]
    .contains(&kind))
}
