//! What comes back when a request is complete.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// file, a write on a full file system. 0 for `fsync`. Never more than was lent: a count from the kernel that
    /// is larger is cut down and logged as an error.
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
    /// - EFAULT: memory that the process has unmapped or protected meanwhile, which safe code can't; on s390x
    ///   also a buffer outside the process's address space.
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

/// How often the kernel claimed to have transferred more than it was lent, in this process.
static EXCESSES: AtomicU64 = AtomicU64::new(0);

/// The kernel's answer to a request that lent it `lent` bytes. A count that is larger is not believed: it is
/// cut down to `lent`, so that no byte counts as filled that the kernel never had, and is said to the log.
#[inline]
pub(crate) fn transferred(answer: i64, lent: u64) -> io::Result<usize> {
    let count = outcome(answer)?;
    // A length in memory: it fits.
    let most = usize::try_from(lent).unwrap_or(usize::MAX);
    if count > most {
        report_excess(count as u64, lent);
    }
    Ok(count.min(most))
}

/// Counts the kernel's claim to have transferred more than it was lent, and logs it. A logger is user code: not
/// for a thread that holds a lock.
#[cold]
pub(crate) fn report_excess(count: u64, lent: u64) {
    // Relaxed: a number for people.
    let before = EXCESSES.fetch_add(1, Ordering::Relaxed);
    log::error!(
        "the kernel says that it transferred {count} bytes of {lent}: counted as {lent} (case {} in this process)",
        before + 1
    );
}

/// The kernel's answer: not negative is a count, negative an errno.
pub(crate) fn outcome(result: i64) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| {
        let errno = i32::try_from(-result).unwrap_or(libc::EIO);
        io::Error::from_raw_os_error(errno)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests of this process may count as well.
    fn excesses() -> u64 {
        EXCESSES.load(Ordering::Relaxed)
    }

    #[test]
    fn a_count_beyond_what_was_lent_is_cut_down_and_counted() {
        let before = excesses();
        assert_eq!(transferred(4097, 4096).unwrap(), 4096);
        assert_eq!(transferred(i64::MAX, 0).unwrap(), 0);
        assert!(excesses() >= before + 2);
    }

    #[test]
    fn a_count_within_what_was_lent_and_an_errno_are_passed_on() {
        assert_eq!(transferred(4096, 4096).unwrap(), 4096);
        assert_eq!(transferred(0, 4096).unwrap(), 0);
        let error = transferred(-i64::from(libc::EIO), 4096).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
    }
}
