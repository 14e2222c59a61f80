//! What comes back when a request is complete.

use crate::error::{AioError, errno_of};
use crate::user_code;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// The outcome of a request, with everything that the request owned.
///
/// The I/O may have failed, and `result` alone says so: [`ok`](Completion::ok) is the short way to look.
///
/// ```
/// use kiocb::op::Read;
/// use kiocb::{Completion, Iocb};
/// # fn main() -> std::io::Result<()> {
/// let file = std::fs::File::open("/dev/zero")?;
/// let Completion { result, buf, file, .. } = Iocb::alloc().init_rw(file, Read, vec![1; 512], 0).wait()?;
/// assert_eq!(result?, 512);
/// assert!(buf.iter().all(|&byte| byte == 0));
///
/// let (count, buf, _file) = Iocb::alloc().init_rw(file, Read, buf, 0).wait()?.ok()?; // the same in short
/// assert_eq!((count, buf.len()), (512, 512));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the I/O may have failed, and only `result` says so: look at it, or say `.ok()?`"]
#[non_exhaustive]
pub struct Completion<F, B> {
    /// How many bytes were transferred, which may be fewer than asked for: a read that reached the end of the
    /// file, a write on a full file system. 0 for `fsync`. Never more than was asked for: a
    /// larger count of the kernel's is cut down, and logged as an error.
    ///
    /// # Errors
    /// What the file operation itself said, as
    /// [`pread(2)`](https://man7.org/linux/man-pages/man2/pread.2.html),
    /// [`pwrite(2)`](https://man7.org/linux/man-pages/man2/pwrite.2.html) and
    /// [`fsync(2)`](https://man7.org/linux/man-pages/man2/fsync.2.html) would. Those that surprise:
    ///
    /// - EINVAL: with O_DIRECT, offset, length or address is not aligned as the device wants it. Use a
    ///   [`DirectFile`](crate::DirectFile) and its buffers.
    /// - EFBIG: beyond the file system's limit, or `RLIMIT_FSIZE`; then SIGXFSZ was also sent to the
    ///   submitting thread, whose default is to end the process. Ignore that signal where the limit may be
    ///   met.
    /// - ENOSPC, EDQUOT: no room. A write that had room for its first part comes back short, and the next one
    ///   says it.
    /// - EIO: the device failed. How much of a write is on it is unknown.
    /// - EFAULT: memory that the process has unmapped or protected meanwhile, which safe code can't; on s390x
    ///   also a buffer outside the process's address space.
    /// - EAGAIN: [`NOWAIT`](crate::RwFlags::NOWAIT) would have blocked: submit again without it. A file
    ///   server may also say it unasked.
    /// - EINTR: a signal interrupted a request that the kernel carried out inside `io_submit`: submit again.
    /// - EPERM: a sealed memfd.
    ///
    /// In a forked child an [`AioError::Forked`](crate::AioError::Forked) is inside: the request is the
    /// parent's.
    ///
    /// A request that had to queue in user space and was then refused by `io_submit` also reports here: see
    /// [`Iocb::submit`](crate::Iocb::submit) for its errnos. ECANCELED: the kernel context went away before
    /// the request was submitted; ENOMEM: the kernel had no memory for it.
    pub result: io::Result<usize>,
    /// The buffer (or buffers); `()` for `fsync`.
    pub buf: B,
    /// The file.
    pub file: F,
}

/// How often the kernel claimed to have transferred more than it was asked for, in this process.
static EXCESSES: AtomicU64 = AtomicU64::new(0);

/// How often that was, so far.
pub(crate) fn excesses() -> u64 {
    // Relaxed: a number for people.
    EXCESSES.load(Ordering::Relaxed)
}

/// The kernel's answer to a request for `asked` bytes. A larger count is not believed: it is cut down to
/// `asked`, so that no byte counts as filled that the kernel was never given, and it is logged.
#[inline]
pub(crate) fn transferred(answer: i64, asked: u64) -> io::Result<usize> {
    let count = outcome(answer)?;
    // A length in memory: it fits.
    let most = usize::try_from(asked).unwrap_or(usize::MAX);
    if count > most {
        report_excess(count as u64, asked);
    }
    Ok(count.min(most))
}

/// Counts the kernel's claim to have transferred more than it was asked for, and logs it. A logger is user
/// code: not for a thread that holds a lock.
#[cold]
pub(crate) fn report_excess(count: u64, asked: u64) {
    // Relaxed: a number for people.
    let before = EXCESSES.fetch_add(1, Ordering::Relaxed);
    user_code::error(format_args!(
        "the kernel says that it transferred {count} bytes of {asked}: counted as {asked} (case {} in this process)",
        before + 1
    ));
}

impl<F, B> Completion<F, B> {
    /// The count, the buffer and the file; or, where the I/O failed, an error with the buffer and the file in
    /// it. With `?` in a function that returns an [`io::Result`] the error becomes the [`io::Error`] alone.
    ///
    /// ```
    /// use kiocb::Iocb;
    /// use kiocb::op::Write;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let file = std::fs::File::create_new(dir.path().join("log"))?;
    /// let (count, _, file) = Iocb::alloc().init_rw(file, Write, "record", 0).wait()?.ok()?;
    /// assert_eq!(count, 6);
    /// Iocb::alloc().init_fdsync(file).wait()?.ok()?;
    ///
    /// let (_, writer) = std::io::pipe()?; // its reading end is closed
    /// let failed = Iocb::alloc().init_rw(writer, Write, "record", 0).wait()?.ok().unwrap_err();
    /// assert_eq!(failed.errno(), Some(32)); // EPIPE
    /// let (_error, record, _writer) = failed.into_parts(); // nothing is lost
    /// assert_eq!(record, "record");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`result`](Completion::result).
    pub fn ok(self) -> Result<(usize, B, F), CompletionError<F, B>> {
        match self.result {
            Ok(count) => Ok((count, self.buf, self.file)),
            Err(error) => Err(CompletionError::new(error, self.buf, self.file)),
        }
    }
}

/// An I/O that failed: the reason, and the buffer and the file of the request. From [`Completion::ok`]
/// and [`Readiness::ok`](crate::Readiness::ok).
///
/// Its text says only that: the reason is its [`source`](Error::source), and
/// [`error`](CompletionError::error).
pub struct CompletionError<F, B> {
    error: io::Error,
    buf: B,
    file: F,
}

impl<F, B> CompletionError<F, B> {
    pub(crate) fn new(error: io::Error, buf: B, file: F) -> Self {
        CompletionError { error, buf, file }
    }

    /// Why it failed: see [`Completion::result`].
    pub fn error(&self) -> &io::Error {
        &self.error
    }

    /// The errno; `None` for what the kernel has none for (the file ended before the buffer of a
    /// [`read_exact`](crate::Iocb::read_exact) was full).
    pub fn errno(&self) -> Option<i32> {
        errno_of(&self.error)
    }

    /// The reason, the buffer and the file. A read that failed may have changed the buffer.
    pub fn into_parts(self) -> (io::Error, B, F) {
        (self.error, self.buf, self.file)
    }
}

impl<F, B> fmt::Debug for CompletionError<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<F, B> fmt::Display for CompletionError<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the I/O failed")
    }
}

impl<F, B> Error for CompletionError<F, B> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl<F, B> From<CompletionError<F, B>> for io::Error {
    fn from(error: CompletionError<F, B>) -> io::Error {
        error.error
    }
}

/// An answer that the kernel never gives, beyond its errnos: there is none, because this is a forked child
/// and the request is its parent's.
pub(crate) const FORKED: i64 = -10_003;

/// The same: there is none, because the request was not submitted with its batch.
pub(crate) const NOT_SUBMITTED: i64 = -10_004;

/// As the kernel says it of a request that was cancelled.
pub(crate) const CANCELLED: i64 = -(libc::ECANCELED as i64);

/// The answer of a request with a handle that was refused: ECANCELED where the reason has no errno.
pub(crate) fn refused(why: &io::Error) -> i64 {
    let reason = why.get_ref().and_then(|inner| inner.downcast_ref());
    match (why.raw_os_error(), reason) {
        (Some(errno), _) => -i64::from(errno),
        (None, Some(AioError::Forked)) => FORKED,
        (None, Some(AioError::NotSubmitted)) => NOT_SUBMITTED,
        (None, _) => CANCELLED,
    }
}

/// Turns the kernel's answer into a result: it is signed, and a negative answer is an errno (I11).
pub(crate) fn outcome(result: i64) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| {
        match result {
            FORKED => return AioError::Forked.into(),
            NOT_SUBMITTED => return AioError::NotSubmitted.into(),
            _ => {}
        }
        let errno = i32::try_from(-result).unwrap_or(libc::EIO);
        io::Error::from_raw_os_error(errno)
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Other tests of this process may count as well.
    #[test]
    fn a_count_beyond_what_was_asked_is_cut_down_and_counted() {
        let before = excesses();
        assert_eq!(transferred(4097, 4096).unwrap(), 4096);
        assert_eq!(transferred(i64::MAX, 0).unwrap(), 0);
        assert!(excesses() >= before + 2);
    }

    #[test]
    fn a_count_within_what_was_asked_and_an_errno_are_passed_on() {
        assert_eq!(transferred(4096, 4096).unwrap(), 4096);
        assert_eq!(transferred(0, 4096).unwrap(), 0);
        let error = transferred(-i64::from(libc::EIO), 4096).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
    }
}
