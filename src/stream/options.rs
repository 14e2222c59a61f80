//! How a stream is to work.

use super::reader::StreamReader;
use super::writer::StreamWriter;
use crate::aio::Aio;
use crate::buf::AlignedBuf;
use crate::direct::DirectFile;
use std::io;
use std::sync::Arc;

/// How a stream is to work: how many blocks of which size, from where on.
///
/// ```
/// use kiocb::stream::StreamOptions;
/// use kiocb::{Aio, DirectFile};
/// use std::io::Read;
///
/// # fn main() -> std::io::Result<()> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("file");
/// # std::fs::write(&path, vec![7; 10_000])?;
/// let file = DirectFile::options().read(true).open_or_buffered(&path)?;
/// let mut reader = StreamOptions::new().depth(2).block(4096).start(9_990).reader(&Aio::global()?, file)?;
/// let mut end = Vec::new();
/// reader.read_to_end(&mut end)?;
/// assert_eq!(end, [7; 10]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is made before `reader` or `writer`"]
pub struct StreamOptions {
    depth: usize,
    block: usize,
    preallocate: u64,
    start: u64,
}

impl Default for StreamOptions {
    fn default() -> Self {
        StreamOptions::new()
    }
}

impl StreamOptions {
    /// 8 blocks of 256 KiB, from the beginning of the file; a writer reserves 16 MiB at a time.
    pub const fn new() -> StreamOptions {
        StreamOptions {
            depth: 8,
            block: 256 << 10,
            preallocate: 16 << 20,
            start: 0,
        }
    }

    /// How many blocks the stream has, at least 1: in flight, and the one that the program reads from or
    /// writes to. Each is allocated when it is first needed, and no more memory than that is used. With 1
    /// nothing is read ahead or written behind. More than the context's
    /// [`depth`](crate::AioBuilder::depth) less those of other streams only queue.
    pub const fn depth(mut self, blocks: usize) -> Self {
        self.depth = blocks;
        self
    }

    /// How many bytes a block has, at least 1: rounded up to a multiple of the file's
    /// [`offset_alignment`](DirectFile::offset_alignment).
    pub const fn block(mut self, bytes: usize) -> Self {
        self.block = bytes;
        self
    }

    /// A writer reserves space and makes the file longer in steps of so many bytes (`fallocate(2)`), because
    /// many file systems carry out writes that make a file longer inside `io_submit`, one by one. 0: never.
    /// What is too much is cut off by [`finish`](StreamWriter::finish), and what that still has to write, which may
    /// be all, gets no such step. Where the file system can't, or has no space for a step, the writer goes on
    /// without: the writes then tell.
    pub const fn preallocate(mut self, step: u64) -> Self {
        self.preallocate = step;
        self
    }

    /// Where in the file the stream begins, in bytes; any will do.
    pub const fn start(mut self, position: u64) -> Self {
        self.start = position;
        self
    }

    /// A stream that reads `file`, which may be an `Arc<DirectFile>`. Asks the file for its length, and reads
    /// nothing yet.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a depth or block of 0, a block of more than memory can
    /// have, or a start beyond any file; [`OutOfMemory`](io::ErrorKind::OutOfMemory) for a depth that is too
    /// large; those of `fstat(2)`.
    pub fn reader(self, aio: &Aio, file: impl Into<Arc<DirectFile>>) -> io::Result<StreamReader> {
        let file = file.into();
        StreamReader::with(aio, self.plan(&file)?, file)
    }

    /// A stream that writes `file`, which may be an `Arc<DirectFile>`. If it does not begin where a block of
    /// the file does, it reads the beginning of that block first, which blocks, and the file has to be open
    /// for reading too.
    ///
    /// # Errors
    /// As [`reader`](Self::reader), and those of that read: EBADF, EIO, an [`AioError`](crate::AioError). Also
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a file that is open with `O_APPEND`: the kernel would
    /// write each block at the end of the file, wherever it belongs.
    pub fn writer(self, aio: &Aio, file: impl Into<Arc<DirectFile>>) -> io::Result<StreamWriter> {
        let file = file.into();
        StreamWriter::with(aio, self.plan(&file)?, file)
    }

    fn plan(&self, file: &DirectFile) -> io::Result<Plan> {
        let align = usize::try_from(file.offset_alignment()).map_err(|_| invalid())?;
        let block = self.block.checked_next_multiple_of(align);
        let block = block.filter(|&bytes| isize::try_from(bytes).is_ok());
        if self.block == 0 || self.depth == 0 {
            return Err(invalid());
        }
        if i64::try_from(self.start).is_err() {
            let text = "a stream can't begin beyond any file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Plan {
            depth: self.depth,
            block: block.ok_or_else(invalid)?,
            align: file.offset_alignment(),
            memory: file.memory_alignment().max(AlignedBuf::DEFAULT_ALIGN),
            preallocate: self.preallocate,
            start: self.start,
        })
    }
}

fn invalid() -> io::Error {
    let text =
        "a stream needs at least one block of at least one byte, and no more than memory can have";
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Options that fit the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) depth: usize,
    /// A multiple of `align`.
    pub(super) block: usize,
    /// What offsets and lengths are multiples of.
    pub(super) align: u64,
    /// What addresses are multiples of.
    pub(super) memory: usize,
    pub(super) preallocate: u64,
    pub(super) start: u64,
}

impl Plan {
    pub(super) fn round_down(&self, offset: u64) -> u64 {
        offset - offset % self.align
    }

    /// `len` bytes from an aligned place on, up to the end of a block of the file; at most a block.
    pub(super) fn round_up(&self, len: u64) -> usize {
        let whole = len.checked_next_multiple_of(self.align);
        let whole = whole.and_then(|bytes| usize::try_from(bytes).ok());
        whole.map_or(self.block, |bytes| bytes.min(self.block))
    }
}
