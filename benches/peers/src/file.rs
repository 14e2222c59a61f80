//! The file that is read: filled with blocks that can be checked, and opened.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use kiocb::AlignedBuf;
use nix::fcntl::OFlag;

use crate::Result;
use crate::block::{self, BLOCK, Mark};
use crate::job::Checking;

const CHUNK: usize = 1 << 20;
/// What is used of a file without an end.
const ENDLESS: u64 = 1 << 30;
/// Whole blocks are checked so seldom that the check is no part of the figures; their place is always checked.
const WHOLE_BLOCKS: Checking = Checking::OneIn(64);

/// A file as a slice reads it.
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) length: u64,
    pub(crate) checking: Checking,
}

/// Makes the file, or overwrites it.
pub(crate) fn fill(path: &Path, length: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut chunk = AlignedBuf::zeroed(CHUNK);
    block::fill_payload(&mut chunk);
    let mark = mark(length);
    for offset in (0..length).step_by(CHUNK) {
        block::stamp(&mut chunk, offset, mark);
        let part = usize::try_from(length - offset).map_or(CHUNK, |left| left.min(CHUNK));
        file.write_all(&chunk[..part])?;
    }
    file.sync_all()
}

pub(crate) fn mark(length: u64) -> Mark {
    Mark {
        filled: length,
        ours: true,
    }
}

/// With O_DIRECT, unless it is to go through the page cache or is a device without an end.
pub(crate) fn open(path: &Path, buffered: bool) -> Result<Opened> {
    let complain = |error: io::Error| format!("{}: {error}", path.display());
    let metadata = path.metadata().map_err(complain)?;
    let endless = metadata.file_type().is_char_device();
    let mut options = File::options();
    options.read(true);
    if !endless && !buffered {
        options.custom_flags(OFlag::O_DIRECT.bits());
    }
    let mut file = options.open(path).map_err(complain)?;
    let length = match endless {
        true => ENDLESS,
        false => file.seek(SeekFrom::End(0)).map_err(complain)?, // a block device has no length of its own
    };
    Ok(Opened {
        file,
        length: length / BLOCK as u64 * BLOCK as u64,
        checking: if endless {
            Checking::Nothing
        } else {
            WHOLE_BLOCKS
        },
    })
}
