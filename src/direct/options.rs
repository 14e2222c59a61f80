//! How to open a file for direct I/O.

use super::limits::Limits;
use super::{DirectFile, refusal};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How to open a [`DirectFile`]: [`std::fs::OpenOptions`] that always adds `O_DIRECT`.
///
/// # Examples
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// let log = kiocb::DirectFile::options().write(true).create_new(true).open("/var/lib/db/wal-1")?;
/// log.preallocate(64 << 20)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DirectOptions {
    options: OpenOptions,
    flags: i32,
}

impl DirectOptions {
    pub(super) fn new() -> Self {
        Self {
            options: OpenOptions::new(),
            flags: 0,
        }
    }

    /// Open for reading.
    pub fn read(&mut self, read: bool) -> &mut Self {
        self.options.read(read);
        self
    }

    /// Open for writing.
    pub fn write(&mut self, write: bool) -> &mut Self {
        self.options.write(write);
        self
    }

    /// Cut an existing file to nothing. Needs `write`.
    pub fn truncate(&mut self, truncate: bool) -> &mut Self {
        self.options.truncate(truncate);
        self
    }

    /// Create the file where there is none. Needs `write`. Where direct I/O is refused, an empty new file may
    /// stay behind.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.options.create(create);
        self
    }

    /// Create the file, and fail where there is one. Needs `write`. Where direct I/O is refused, an empty new
    /// file may stay behind.
    pub fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.options.create_new(create_new);
        self
    }

    /// The permissions of a new file, less the process's umask; `0o666` unless said.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.options.mode(mode);
        self
    }

    /// Further `O_*` flags of `open(2)`, such as `O_DSYNC`, `O_EXCL` (on a block device: fail where it is
    /// mounted) or `O_NOFOLLOW`. They replace what an earlier call said; `O_DIRECT` is added in any case.
    pub fn custom_flags(&mut self, flags: i32) -> &mut Self {
        self.flags = flags;
        self
    }

    /// Opens the file, with direct I/O or not at all.
    ///
    /// Blocks as `open(2)` does.
    ///
    /// # Errors
    ///
    /// - [`Unsupported`](io::ErrorKind::Unsupported): the file system, or the driver of a device, refuses
    ///   `O_DIRECT`, or does direct I/O in general but not on this file (ext4 with data journalling,
    ///   encryption, inline data); or it is something else than a regular file or block device. Use
    ///   [`open_or_buffered`](Self::open_or_buffered), or another place for the file.
    /// - Everything else that `open(2)` says: `ENOENT`, `EACCES`, `EISDIR`, `EBUSY`, `EMFILE`.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<DirectFile> {
        let path = path.as_ref();
        let mut options = self.options.clone();
        options.custom_flags(self.flags | libc::O_DIRECT);
        let file = options
            .open(path)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::EINVAL) => refusal(path.display()),
                _ => error,
            })?;
        match Limits::of(file.as_fd())? {
            Some(limits) => Ok(DirectFile {
                file,
                limits: Some(limits),
            }),
            None => Err(refusal(path.display())),
        }
    }

    /// Opens the file with direct I/O where that is possible and through the page cache where it is not.
    /// [`DirectFile::is_direct`] tells; say so to the user, for buffered reads and writes block the thread
    /// that submits them. Pipes, sockets and character devices are opened as they are.
    ///
    /// How the file is asked whether it can is said at [`DirectFile::from_file`].
    ///
    /// Blocks as `open(2)` and `read(2)` do.
    ///
    /// # Errors
    ///
    /// Those of `open(2)`, and what the system says to the question (EIO).
    pub fn open_or_buffered(&self, path: impl AsRef<Path>) -> io::Result<DirectFile> {
        // O_DIRECT afterwards: an open that it makes fail may have created the file already.
        let mut options = self.options.clone();
        options.custom_flags(self.flags & !libc::O_DIRECT);
        let file = options.open(path)?;
        let limits = Limits::switch(&file)?;
        Ok(DirectFile { file, limits })
    }
}
