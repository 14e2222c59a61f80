//! What comes back when a request is complete.

use std::io;

/// The outcome of a request, with everything that was lent to it.
///
/// ```
/// use kiocb::{Completion, Iocb, Read};
/// # fn main() -> std::io::Result<()> {
/// let file = std::fs::File::open("/dev/zero")?;
/// let Completion { result, buf, file, .. } = Iocb::alloc().init_rw(file, Read, vec![1; 512], 0).wait()?;
/// assert_eq!(result?, 512);
/// assert!(buf.iter().all(|&byte| byte == 0));
/// # drop(file);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Completion<F, B> {
    /// How many bytes were transferred, which may be fewer than asked for: a read that reached the end of the
    /// file, a write on a full file system. 0 for `fsync`.
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
    /// - EIO: the device failed. Of a write nobody knows how much is on it.
    /// - EFAULT: memory that the process has unmapped or protected meanwhile, which safe code can't.
    /// - EAGAIN: [`NOWAIT`](crate::RwFlags::NOWAIT) would have blocked: submit again without it. A file
    ///   server may also say it unasked.
    /// - EINTR: a signal interrupted a request that the kernel carried out inside `io_submit`: submit again.
    /// - EPERM: a sealed memfd.
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

/// The kernel's answer: not negative is a count, negative an errno.
pub(crate) fn outcome(result: i64) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| {
        let errno = i32::try_from(-result).unwrap_or(libc::EIO);
        io::Error::from_raw_os_error(errno)
    })
}
