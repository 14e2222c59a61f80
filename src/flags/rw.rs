//! How one read or write is to be done.

use crate::sys;

/// How one read or write is to be done: the `RWF_*` flags of `preadv2(2)` and `pwritev2(2)`, for this request
/// alone.
///
/// Set with `rw_flags(..)` on a read or write. The kernel reads them since Linux 4.13; a kernel older than a
/// flag refuses the request with `EOPNOTSUPP` from the submission, so no flag is ever ignored without an
/// error, except where a flag says so.
///
/// # Errors
///
/// In the table, *submit* means that the submission fails and the request comes back in the `SubmitError`;
/// *result* means that the request is accepted and completes with the error.
///
/// | flag | since Linux | refused with |
/// | --- | --- | --- |
/// | [`HIPRI`](Self::HIPRI) | 4.13 | never, and without effect |
/// | [`DSYNC`](Self::DSYNC), [`SYNC`](Self::SYNC) | 4.13 | never; without effect on reads |
/// | [`NOWAIT`](Self::NOWAIT) | 4.13 | submit `EOPNOTSUPP`: the file can't; result `EOPNOTSUPP`: it can't for this write; result `EAGAIN`: it would block |
/// | [`APPEND`](Self::APPEND) | 4.16 | submit `EINVAL`: together with `NOAPPEND` |
/// | [`NOAPPEND`](Self::NOAPPEND) | 6.9 | submit `EPERM`: the file is append-only by attribute |
/// | [`ATOMIC`](Self::ATOMIC) | 6.11 | submit `EOPNOTSUPP`: a read, or the file can't; result `EOPNOTSUPP`: not `O_DIRECT`; result `EINVAL`: size or offset |
/// | [`DONTCACHE`](Self::DONTCACHE) | 6.14 | submit `EOPNOTSUPP`: the file system can't, or the file is DAX |
/// | [`NOSIGNAL`](Self::NOSIGNAL) | 6.18 | never |
/// | any other bit | | submit `EOPNOTSUPP` |
///
/// An fsync or a poll with any flag is refused with `EINVAL` from the submission.
///
/// # Examples
///
/// ```
/// use kiocb::RwFlags;
///
/// let durable_append = RwFlags::APPEND | RwFlags::DSYNC;
/// assert!(durable_append.contains(RwFlags::DSYNC));
/// assert_eq!(format!("{durable_append:?}"), "RwFlags(RWF_DSYNC | RWF_APPEND)");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RwFlags(i32);

impl RwFlags {
    /// Poll the device for the completion instead of waiting for its interrupt.
    ///
    /// Kernel AIO accepts the flag and takes it off again: no thread would do the polling. It exists here
    /// because it exists in the ABI. Since Linux 4.13.
    pub const HIPRI: Self = Self(sys::RWF_HIPRI);

    /// This write as if the file were open with `O_DSYNC`: it completes when its data, and the metadata
    /// needed to read them back, are on stable storage.
    ///
    /// The cheap way to one durable write: with `O_DIRECT` and blocks that are allocated already, devices
    /// that can do it write through (FUA) instead of flushing. The submission returns as soon as the write is
    /// queued. No effect on a read. Since Linux 4.13.
    pub const DSYNC: Self = Self(sys::RWF_DSYNC);

    /// This write as if the file were open with `O_SYNC`: as [`DSYNC`](Self::DSYNC), and all metadata (times)
    /// too.
    ///
    /// Includes what `DSYNC` does. No effect on a read. Since Linux 4.13.
    pub const SYNC: Self = Self(sys::RWF_SYNC);

    /// Complete with `EAGAIN` where the request would block inside the submission: for a lock, for block
    /// allocation, for a page that has to be read, for a full device queue.
    ///
    /// A short result is possible where only the first part could be done. The file has to know about it:
    /// where it does not (tmpfs; pipes before Linux 6.4) the submission fails with `EOPNOTSUPP`; where just buffered writes can't
    /// (ext4, block devices) that is the result. Reads of settled data pass on ext4 and XFS; writes often do
    /// not (holes, extents not yet written, pages dirty in the cache), whatever the device's load. Since
    /// Linux 4.13 for direct I/O, 4.14 for buffered reads.
    pub const NOWAIT: Self = Self(sys::RWF_NOWAIT);

    /// This write at the end of the file, as if it were open with `O_APPEND`; the offset is ignored.
    ///
    /// Where the data landed is not reported. Several appends in flight end up one after another, in no
    /// promised order. No effect on a read or a block device. Refused with `EINVAL` from the submission
    /// together with [`NOAPPEND`](Self::NOAPPEND). Since Linux 4.16.
    pub const APPEND: Self = Self(sys::RWF_APPEND);

    /// This write at its offset although the file is open with `O_APPEND`.
    ///
    /// Refused with `EPERM` from the submission on a file that has the append-only attribute (`chattr +a`).
    /// Since Linux 6.9.
    pub const NOAPPEND: Self = Self(sys::RWF_NOAPPEND);

    /// This write wholly or not at all, also when the power fails: no page is ever torn.
    ///
    /// For direct I/O on a device and file system with atomic writes (block devices since Linux 6.11, ext4
    /// and XFS since 6.13). The length has to be a power of two between the file's smallest and largest unit
    /// ([`DirectFile::atomic_write`](crate::DirectFile::atomic_write)), the offset a multiple of the length,
    /// a vectored write within the file's number of segments.
    ///
    /// Atomic does not mean durable: add [`DSYNC`](Self::DSYNC) or sync the file. `EOPNOTSUPP` from the
    /// submission: a read, or the file can't. As the result: `EOPNOTSUPP` where the file could but was not
    /// opened with `O_DIRECT`, `EINVAL` for a wrong size or offset. Since Linux 6.11.
    pub const ATOMIC: Self = Self(sys::RWF_ATOMIC);

    /// Through the page cache, but without staying there: pages that this request brought in are dropped when
    /// it is done (a read) or written back (a write).
    ///
    /// No effect with `O_DIRECT`. `EOPNOTSUPP` from the submission where the file system can't or the file is
    /// DAX. In Linux 6.18 ext4 and XFS can; btrfs, tmpfs and block devices can't. Since Linux 6.14.
    pub const DONTCACHE: Self = Self(sys::RWF_DONTCACHE);

    /// No `SIGPIPE` for a write to a pipe or socket whose other end is closed: just the result `EPIPE`.
    ///
    /// The signal goes to the thread that submits. Rust programs ignore `SIGPIPE` from the start, unless told
    /// otherwise. No effect on other files or on a read. Since Linux 6.18.
    pub const NOSIGNAL: Self = Self(sys::RWF_NOSIGNAL);

    const NAMES: [(Self, &str); 9] = [
        (Self::HIPRI, "RWF_HIPRI"),
        (Self::DSYNC, "RWF_DSYNC"),
        (Self::SYNC, "RWF_SYNC"),
        (Self::NOWAIT, "RWF_NOWAIT"),
        (Self::APPEND, "RWF_APPEND"),
        (Self::NOAPPEND, "RWF_NOAPPEND"),
        (Self::ATOMIC, "RWF_ATOMIC"),
        (Self::DONTCACHE, "RWF_DONTCACHE"),
        (Self::NOSIGNAL, "RWF_NOSIGNAL"),
    ];
}

flag_set!(RwFlags: i32, RwFlags::NAMES);
