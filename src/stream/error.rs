//! Why a stream did not go on.

use crate::error::{AioError, errno_of};
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Why a stream did not go on: what it was doing, where, and the cause. Found inside the [`io::Error`]s of
/// [`StreamReader`](crate::stream::StreamReader) and [`StreamWriter`](crate::stream::StreamWriter), whose kind
/// is the cause's (but [`Other`](io::ErrorKind::Other) for EINTR, because std's `write_all` tries again for
/// ever what is [`Interrupted`](io::ErrorKind::Interrupted)):
///
/// ```
/// use kiocb::stream::{StreamError, StreamWriter};
/// use kiocb::{Aio, DirectFile};
/// use std::io::Write;
///
/// # fn main() -> std::io::Result<()> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("file");
/// # std::fs::write(&path, "")?;
/// let read_only = DirectFile::options().read(true).open_or_buffered(&path)?;
/// let mut writer = StreamWriter::new(&Aio::global()?, read_only)?;
/// writer.write_all(b"hello")?; // copied
/// let error = writer.flush().unwrap_err();
/// let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<StreamError>()).unwrap();
/// assert_eq!((inner.position(), inner.errno()), (0, Some(9))); // EBADF
/// assert!(writer.finish().is_err()); // it stays
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StreamError {
    doing: Doing,
    position: u64,
    len: usize,
    cause: Arc<io::Error>,
}

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Read,
    Write,
    SetLength,
    Sync,
}

impl StreamError {
    pub(super) fn new(doing: Doing, position: u64, len: usize, cause: io::Error) -> StreamError {
        StreamError {
            doing,
            position,
            len,
            cause: Arc::new(cause),
        }
    }

    /// Where in the file, in bytes: the first byte that was not read or written. Of a sync, or of the file's
    /// length, where the stream had come to. With direct I/O a part of what follows may have been transferred.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The cause's kind.
    pub fn kind(&self) -> io::ErrorKind {
        self.cause.kind()
    }

    /// The errno, or that of the [`AioError`] inside; `None` where there is none.
    pub fn errno(&self) -> Option<i32> {
        errno_of(&self.cause)
    }

    /// Why the context takes no requests, where that is the cause.
    pub fn aio_error(&self) -> Option<AioError> {
        self.cause.get_ref()?.downcast_ref().copied()
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, position) = (self.len, self.position);
        match self.doing {
            Doing::Read => write!(f, "reading {len} bytes at offset {position} failed"),
            Doing::Write => write!(f, "writing {len} bytes at offset {position} failed"),
            Doing::SetLength => write!(f, "setting the file's length to {position} failed"),
            Doing::Sync => write!(f, "syncing the first {position} bytes failed"),
        }
    }
}

/// The text of a stream's error says only what failed: the cause is its source.
impl Error for StreamError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> io::Error {
        let kind = match error.kind() {
            io::ErrorKind::Interrupted => io::ErrorKind::Other, // a server's answer to a sync; it stays
            kind => kind,
        };
        io::Error::new(kind, error)
    }
}
