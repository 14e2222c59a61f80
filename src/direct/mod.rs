//! Files opened with `O_DIRECT`, and what their file system or device wants of a transfer.

mod error;
mod limits;
mod options;
mod probe;

pub use error::DirectFileError;
pub use limits::AtomicWrite;
pub use options::DirectOptions;

use crate::buf::AlignedBuf;
use crate::sys::statx;
use limits::Limits;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fmt;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

/// A file or block device opened with `O_DIRECT`: transfers go between the device and the buffer, past the
/// page cache.
///
/// Only such a file is read and written asynchronously by kernel AIO in general; through the page cache the
/// submission itself does the work and blocks meanwhile.
///
/// Direct I/O moves whole blocks: offset and length have to be multiples of
/// [`offset_alignment`](Self::offset_alignment), the buffer's address a multiple of
/// [`memory_alignment`](Self::memory_alignment). Otherwise the request completes with `EINVAL`, or, on some
/// file systems, is done through the page cache. [`buffer`](Self::buffer) hands out memory that
/// fits.
///
/// # Where the alignments come from
///
/// 1. The kernel's own word, `STATX_DIOALIGN` of `statx(2)`: block devices, ext4, XFS and f2fs since Linux
///    6.1, others later.
/// 2. For a block device on an older kernel, or where `statx` is refused: the logical block size
///    (`BLKSSZGET`), for both.
/// 3. For any other file: its preferred block size (`st_blksize`), at least 512 and at most 4096, for both.
///    That is the file system's block size for most, and a multiple of what the device wants.
///
/// # Where direct I/O is not direct
///
/// Some file systems take `O_DIRECT` and do a part of the work through the page cache, inside the submission,
/// which blocks meanwhile. None of them says so:
///
/// - btrfs, since Linux 6.15: every *write* to a file with checksums, which all have unless they were made
///   with the attribute `C` (`chattr +C`) or under the mount option `nodatasum`. Reads are direct.
/// - btrfs, and tmpfs (since Linux 6.6): what is not aligned; tmpfs everything, as its files are pages of the
///   cache.
///
/// # Examples
///
/// ```
/// use kiocb::DirectFile;
/// # fn main() -> std::io::Result<()> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("pages");
/// let file = DirectFile::options().read(true).write(true).create(true).open_or_buffered(&path)?;
/// if !file.is_direct() {
///     eprintln!("{}: no direct I/O here, going through the page cache", path.display());
/// }
/// file.preallocate(1 << 20)?;
/// let page = file.buffer(4096);
/// assert_eq!(page.len() as u64 % file.offset_alignment(), 0);
/// # Ok(())
/// # }
/// ```
pub struct DirectFile {
    file: File,
    /// `None`: it goes through the page cache, which takes anything.
    limits: Option<Limits>,
}

impl DirectFile {
    /// Opens a file or block device for reading. For anything else see [`options`](Self::options).
    ///
    /// # Errors
    ///
    /// As [`DirectOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::options().read(true).open(path)
    }

    /// How to open: for writing, creating, truncating.
    pub fn options() -> DirectOptions {
        DirectOptions::new()
    }

    /// Takes over an open regular file or block device and switches it to direct I/O, which every other
    /// descriptor made from it by `dup` or `fork` notices too.
    ///
    /// The whole stack of file systems is asked, as `open(2)` with `O_DIRECT` asks it: an overlay agrees
    /// where what lies below it does. Where the file does not say so itself (`STATX_DIOALIGN`), a read at its
    /// end is tried, which transfers nothing, or the file, if it is open for writing only, is opened once
    /// more.
    ///
    /// Blocks as `open(2)` and `read(2)` do.
    ///
    /// # Errors
    ///
    /// The file is inside the error, open and as it was:
    ///
    /// - [`Unsupported`](io::ErrorKind::Unsupported): the file or its file system can't, or it is something
    ///   else than a regular file or block device (`O_DIRECT` would make a pipe one that loses bytes).
    /// - What the system says to one of the questions: EBADF of an `O_PATH` descriptor, EIO.
    pub fn from_file(file: File) -> Result<Self, DirectFileError> {
        let error = match Limits::switch(&file) {
            Ok(Some(limits)) => {
                return Ok(Self {
                    file,
                    limits: Some(limits),
                });
            }
            Ok(None) => refusal("the file"),
            Err(error) => error,
        };
        Err(DirectFileError::new(error, file))
    }

    /// Whether the file takes direct I/O, so that transfers go past the page cache. Always true, except after
    /// [`DirectOptions::open_or_buffered`].
    ///
    /// It can't tell of a file system that takes direct I/O and then does some of it through the page cache
    /// after all: see [below](Self#where-direct-io-is-not-direct).
    pub const fn is_direct(&self) -> bool {
        self.limits.is_some()
    }

    /// What the address of a buffer has to be a multiple of: a power of two. 1 where the file is not direct.
    pub fn memory_alignment(&self) -> usize {
        self.limits.map_or(1, |limits| limits.memory as usize)
    }

    /// What offset and length have to be multiples of, for reads and writes alike. 1 where the file is not
    /// direct.
    pub fn offset_alignment(&self) -> u64 {
        self.limits.map_or(1, |limits| limits.offset.into())
    }

    /// What offset and length of a *read* have to be multiples of: less than
    /// [`offset_alignment`](Self::offset_alignment) on file systems that write whole blocks elsewhere (XFS
    /// with reflink, since Linux 6.14), and equal to it otherwise.
    pub fn read_offset_alignment(&self) -> u64 {
        self.limits.map_or(1, |limits| limits.read_offset.into())
    }

    /// Which writes can be atomic, `None` where none can. Known since Linux 6.11.
    pub fn atomic_write(&self) -> Option<AtomicWrite> {
        self.limits.and_then(|limits| limits.atomic)
    }

    /// A zeroed buffer that fits: at least `len` bytes, rounded up to whole blocks, at an address that this
    /// file and a page want.
    ///
    /// # Panics
    ///
    /// As [`AlignedBuf::with_alignment`]: if the length is more than an address space can hold.
    pub fn buffer(&self, len: usize) -> AlignedBuf {
        let block = usize::try_from(self.offset_alignment()).unwrap_or(usize::MAX);
        let len = len.checked_next_multiple_of(block).unwrap_or(usize::MAX);
        AlignedBuf::with_alignment(len, self.memory_alignment().max(AlignedBuf::DEFAULT_ALIGN))
    }

    /// `offset`, or the start of the block that it lies in.
    pub fn round_down(&self, offset: u64) -> u64 {
        offset - offset % self.offset_alignment()
    }

    /// `offset`, or the end of the block that it lies in; `None` where that is beyond `u64::MAX`.
    pub fn round_up(&self, offset: u64) -> Option<u64> {
        offset.checked_next_multiple_of(self.offset_alignment())
    }

    /// The length in bytes: of a file its size, of a block device its capacity. Does not move the file's
    /// position.
    ///
    /// # Errors
    ///
    /// Those of `fstat(2)`, or of the ioctl `BLKGETSIZE64` (`ENXIO`, `ENODEV`: the device has gone).
    pub fn len(&self) -> io::Result<u64> {
        use std::os::unix::fs::FileTypeExt;
        let metadata = self.file.metadata()?;
        if metadata.file_type().is_block_device() {
            statx::device_len(self.as_fd())
        } else {
            Ok(metadata.len())
        }
    }

    /// Whether the length is 0.
    ///
    /// # Errors
    ///
    /// As [`len`](Self::len).
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reserves disk space for the first `len` bytes and makes the file at least that long; what was not
    /// written reads as zeroes (`fallocate(2)`). Blocks while the file system works.
    ///
    /// A write that extends a file is done synchronously inside the submission on ext4 and, whatever the file
    /// system, can fail for want of space; a write into space that is reserved is asynchronous and can't.
    ///
    /// # Errors
    ///
    /// - `ENOSPC`, `EDQUOT`: not enough space; some of it may be reserved now.
    /// - `EFBIG`: longer than the file system or the process's limit allows.
    /// - `EOPNOTSUPP`: the file system can't, or a block device, which has all its space already.
    /// - `EBADF`: not open for writing.
    pub fn preallocate(&self, len: u64) -> io::Result<()> {
        self.reserve(0, len)
    }

    /// The same for `len` bytes from `start` on.
    pub(crate) fn reserve(&self, start: u64, len: u64) -> io::Result<()> {
        let Some(len) = NonZeroU64::new(len) else {
            return Ok(());
        };
        let signed = |bytes: u64| i64::try_from(bytes).map_err(|_| nix::errno::Errno::EFBIG);
        let (start, len) = (signed(start)?, signed(len.get())?);
        loop {
            match fallocate(&self.file, FallocateFlags::empty(), start, len) {
                // A signal arrived; what was reserved stays, and doing it again goes on from there.
                Err(nix::errno::Errno::EINTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// The file itself: `set_len`, `sync_all`, `metadata`. Its `Read` and `Write` want aligned memory too.
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Another descriptor of the same open file.
    ///
    /// # Errors
    ///
    /// `EMFILE`: the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
            limits: self.limits,
        })
    }
}

/// `O_DIRECT` was refused, or does not do what it says.
fn refusal(what: impl fmt::Display) -> io::Error {
    let text = format!(
        "{what} can't be used with direct I/O: it is no regular file or block device, \
         or its file system or driver can't do O_DIRECT on it"
    );
    io::Error::new(io::ErrorKind::Unsupported, text)
}

impl AsFd for DirectFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for DirectFile {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// The open file, still with `O_DIRECT`.
impl From<DirectFile> for File {
    fn from(direct: DirectFile) -> Self {
        direct.file
    }
}

/// The open file, still with `O_DIRECT`.
impl From<DirectFile> for OwnedFd {
    fn from(direct: DirectFile) -> Self {
        direct.file.into()
    }
}

/// The same as [`DirectFile::from_file`].
impl TryFrom<File> for DirectFile {
    type Error = DirectFileError;

    fn try_from(file: File) -> Result<Self, DirectFileError> {
        Self::from_file(file)
    }
}

/// The same as [`DirectFile::from_file`].
impl TryFrom<OwnedFd> for DirectFile {
    type Error = DirectFileError;

    fn try_from(fd: OwnedFd) -> Result<Self, DirectFileError> {
        Self::from_file(fd.into())
    }
}

impl fmt::Debug for DirectFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectFile")
            .field("file", &self.file)
            .field("direct", &self.is_direct())
            .field("memory_alignment", &self.memory_alignment())
            .field("offset_alignment", &self.offset_alignment())
            .field("atomic_write", &self.atomic_write())
            .finish()
    }
}
