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
    /// How many bytes were transferred, which may be fewer than asked for: a read that reached the end of the file, a write on a full file
    /// system. 0 for `fsync`.
    ///
    /// # Errors
    /// What the file operation itself said, as [`pread(2)`](https://man7.org/linux/man-pages/man2/pread.2.html),
    /// [`pwrite(2)`](https://man7.org/linux/man-pages/man2/pwrite.2.html) and
    /// [`fsync(2)`](https://man7.org/linux/man-pages/man2/fsync.2.html) would. Those that surprise:
    ///
    /// - EINVAL: with O_DIRECT, offset, length or address is not aligned as the device wants it.
    /// - EFBIG: beyond the file system's limit, or `RLIMIT_FSIZE`; then SIGXFSZ was also sent to the submitting thread, whose default is to end the process.
    /// - EAGAIN: [`NOWAIT`](crate::RwFlags::NOWAIT) would have blocked; a file server may also say it without.
    /// - EINTR: a signal interrupted a request that the kernel carried out inside `io_submit`; try again.
    /// - ENOSPC after a short write: the next write says it.
    ///
    /// A request that had to queue in user space and was then refused by `io_submit` also reports here: see
    /// [`Iocb::submit`](crate::Iocb::submit) for its errnos. ECANCELED: the kernel context went away before the request was submitted; ENOMEM:
    /// the kernel had no memory for it.
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
