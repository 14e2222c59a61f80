//! Filling a file with self-describing blocks.
//!
//! The mark in block 0 says "unfinished" before anything else is written, and "filled" when everything is on
//! the disk, so a run that was interrupted is known for what it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use kiocb::AlignedBuf;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::Result;
use crate::block::{self, BLOCK};
use crate::progress::Progress;
use crate::target::{Kind, explain, open};
use crate::units;

const CHUNK: usize = 1 << 20;

/// Writes `length` bytes of blocks; where that fails, a file that is `new` is removed again.
pub(crate) fn fill(path: &Path, kind: Kind, length: u64, new: bool) -> Result<()> {
    eprintln!(
        "iobench: filling {} with {} of self-describing blocks; it is kept for the next run",
        path.display(),
        units::size(length)
    );
    if new {
        File::create_new(path).map_err(|error| explain(path, error))?;
    }
    let filled = try_fill(path, kind, length);
    if filled.is_err() && new {
        // What we made and could not fill is of no use to anybody; the error to tell is the first one.
        let _ = std::fs::remove_file(path);
    }
    filled.map_err(|error| explain(path, error))
}

fn try_fill(path: &Path, kind: Kind, length: u64) -> io::Result<()> {
    let (file, _) = open(path, kind, true, BLOCK)?;
    if kind == Kind::File {
        reserve(&file, length)?;
    }
    write_mark(&file, 0)?;
    write_blocks(&file, length)?;
    file.sync_all()?;
    write_mark(&file, length)?;
    file.sync_all()
}

/// Takes the space at once, so that a disk too small is known before it is full; where that can't be done,
/// the writes will tell.
fn reserve(file: &File, length: u64) -> io::Result<()> {
    let length = i64::try_from(length).map_err(io::Error::other)?;
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        Err(Errno::EOPNOTSUPP) => Ok(()),
        result => result.map_err(io::Error::from),
    }
}

/// Writes block 0, saying that so many bytes are filled.
pub(crate) fn write_mark(file: &File, filled: u64) -> io::Result<()> {
    let mut first = AlignedBuf::zeroed(BLOCK);
    block::fill_payload(&mut first);
    block::stamp(&mut first, 0, filled);
    file.write_all_at(&first, 0)
}

/// Writes all blocks but the first.
fn write_blocks(file: &File, length: u64) -> io::Result<()> {
    let progress = Progress::filling(length);
    let started = Instant::now();
    let mut chunk = AlignedBuf::zeroed(CHUNK);
    block::fill_payload(&mut chunk);
    let mut offset = BLOCK as u64;
    while offset < length {
        let part = usize::try_from(length - offset).map_or(CHUNK, |left| left.min(CHUNK));
        block::stamp(&mut chunk[..part], offset, length);
        file.write_all_at(&chunk[..part], offset)?;
        offset += part as u64;
        progress.filled(offset, offset as f64 / started.elapsed().as_secs_f64());
    }
    progress.finish();
    Ok(())
}
