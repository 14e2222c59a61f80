//! A file that can't be switched to direct I/O.

use crate::error::errno_of;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io;

/// Why [`DirectFile::from_file`](crate::DirectFile::from_file) refused a file, with the file, which is open
/// and as it was before.
///
/// Its text says only that: the reason is its [`source`](Error::source), and
/// [`error`](DirectFileError::error).
///
/// # Examples
///
/// ```
/// use kiocb::DirectFile;
/// use std::io::ErrorKind;
///
/// # fn main() -> std::io::Result<()> {
/// let zeroes = std::fs::File::open("/dev/zero")?; // neither a regular file nor a block device
/// let refused = DirectFile::from_file(zeroes).unwrap_err();
/// assert_eq!(refused.error().kind(), ErrorKind::Unsupported);
/// let zeroes = refused.into_file(); // to be used through the page cache
/// # drop(zeroes);
/// # Ok(())
/// # }
/// ```
pub struct DirectFileError {
    error: io::Error,
    file: File,
}

impl DirectFileError {
    pub(super) fn new(error: io::Error, file: File) -> Self {
        Self { error, file }
    }

    /// Why: of kind [`Unsupported`](io::ErrorKind::Unsupported) where the file can't do direct I/O, and
    /// otherwise what the system said when it was asked (EBADF of an `O_PATH` descriptor, EIO).
    pub fn error(&self) -> &io::Error {
        &self.error
    }

    /// The errno; `None` where the file can't do direct I/O, for which there is none.
    pub fn errno(&self) -> Option<i32> {
        errno_of(&self.error)
    }

    /// The file as it was before.
    pub fn into_file(self) -> File {
        self.file
    }

    /// The reason and the file.
    pub fn into_parts(self) -> (io::Error, File) {
        (self.error, self.file)
    }
}

impl fmt::Debug for DirectFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectFileError")
            .field("error", &self.error)
            .field("file", &self.file)
            .finish()
    }
}

impl fmt::Display for DirectFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the file was not switched to direct I/O")
    }
}

impl Error for DirectFileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// The reason alone; the file is closed.
impl From<DirectFileError> for io::Error {
    fn from(refused: DirectFileError) -> Self {
        refused.error
    }
}
