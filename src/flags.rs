//! What may be asked of one request beside what it does: [`RwFlags`], [`IoPriority`]; and what a poll waits
//! for: [`PollFlags`].
//!
//! Each is a number that goes into one field of the kernel's [`iocb`](crate::sys::iocb) unchanged, with its
//! bits named.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use crate::sys;

/// What every set of flags has; the constants, with what they mean, are written out beside it.
macro_rules! flag_set {
    ($name:ident: $bits:ty, $names:expr) => {
        impl $name {
            /// No flag.
            pub const fn empty() -> Self {
                Self(0)
            }

            /// The number the kernel gets.
            pub const fn bits(self) -> $bits {
                self.0
            }

            /// Any number, bits that have no name here included: for flags of a kernel newer than this crate.
            pub const fn from_bits_retain(bits: $bits) -> Self {
                Self(bits)
            }

            /// Whether no flag is set.
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// Whether all of `other`'s flags are set; always true of an empty `other`.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any of `other`'s flags is set.
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// The flags of both: `|` for constants.
            #[must_use]
            pub const fn union(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// These flags without `other`'s.
            #[must_use]
            pub const fn difference(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }

        impl BitOr for $name {
            type Output = Self;

            fn bitor(self, other: Self) -> Self {
                self.union(other)
            }
        }

        impl BitOrAssign for $name {
            fn bitor_assign(&mut self, other: Self) {
                *self = self.union(other);
            }
        }

        /// The names of the C header, and the rest as a number.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut parts: Vec<String> = Vec::new();
                let mut rest = self.0;
                for &(flag, name) in &$names {
                    if self.contains(flag) {
                        parts.push(name.to_string());
                        rest &= !flag.0;
                    }
                }
                if rest != 0 || parts.is_empty() {
                    parts.push(format!("{rest:#x}"));
                }
                write!(f, "{}({})", stringify!($name), parts.join(" | "))
            }
        }
    };
}

/// How one read or write is to be done: the `RWF_*` flags of `preadv2(2)` and `pwritev2(2)`, for this request
/// alone.
///
/// Set with `rw_flags(..)` on a read or write. The kernel reads them since Linux 4.13; a kernel older than a
/// flag refuses the request with `EOPNOTSUPP` from the submission, so nothing is ever silently ignored except
/// where a flag says so.
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
    /// Kernel AIO accepts the flag and takes it off again: nobody would do the polling. It exists here
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
    /// where it does not (tmpfs) the submission fails with `EOPNOTSUPP`; where just buffered writes can't
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

/// The events that a poll waits for, and those that it found: `POLLIN` and its kin of `poll(2)`.
///
/// Sixteen bits, because the kernel refuses larger masks (`EINVAL` from the submission). [`ERR`](Self::ERR)
/// and [`HUP`](Self::HUP) are reported whether asked for or not. Polls exist since Linux 4.19.
///
/// The numbers are the machine's own (`POLLRDHUP`, `POLLWRNORM` and `POLLWRBAND` differ between
/// architectures).
///
/// # Examples
///
/// ```
/// use kiocb::PollFlags;
///
/// let events = PollFlags::IN | PollFlags::RDHUP;
/// assert_eq!(format!("{events:?}"), "PollFlags(POLLIN | POLLRDHUP)");
/// assert!(!events.intersects(PollFlags::OUT));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PollFlags(u16);

impl PollFlags {
    /// There is something to read; end of file and a connection to accept count too.
    pub const IN: Self = Self::of(libc::POLLIN);
    /// Something exceptional: out-of-band data on a TCP socket, a state change of a cgroup file or a sysfs
    /// attribute.
    pub const PRI: Self = Self::of(libc::POLLPRI);
    /// A write would not block; a larger one than there is room for still may.
    pub const OUT: Self = Self::of(libc::POLLOUT);
    /// An error condition, or a pipe whose reading end is closed. Always reported.
    pub const ERR: Self = Self::of(libc::POLLERR);
    /// The other end hung up; what it sent before may still be there to read. Always reported.
    pub const HUP: Self = Self::of(libc::POLLHUP);
    /// Normal data to read; the same as [`IN`](Self::IN) for most files.
    pub const RDNORM: Self = Self::of(libc::POLLRDNORM);
    /// Priority data to read.
    pub const RDBAND: Self = Self::of(libc::POLLRDBAND);
    /// Normal data may be written; the same as [`OUT`](Self::OUT) for most files.
    pub const WRNORM: Self = Self::of(libc::POLLWRNORM);
    /// Priority data may be written.
    pub const WRBAND: Self = Self::of(libc::POLLWRBAND);
    /// The other end of a stream socket closed its writing half, or the whole connection.
    pub const RDHUP: Self = Self::of(libc::POLLRDHUP);

    const NAMES: [(Self, &str); 10] = [
        (Self::IN, "POLLIN"),
        (Self::PRI, "POLLPRI"),
        (Self::OUT, "POLLOUT"),
        (Self::ERR, "POLLERR"),
        (Self::HUP, "POLLHUP"),
        (Self::RDNORM, "POLLRDNORM"),
        (Self::RDBAND, "POLLRDBAND"),
        (Self::WRNORM, "POLLWRNORM"),
        (Self::WRBAND, "POLLWRBAND"),
        (Self::RDHUP, "POLLRDHUP"),
    ];

    /// libc has the events as signed numbers, the kernel as bits.
    const fn of(event: libc::c_short) -> Self {
        assert!(event > 0);
        #[allow(
            clippy::cast_sign_loss,
            reason = "asserted in the line above, at compile time"
        )]
        let bits = event as u16;
        Self(bits)
    }
}

flag_set!(PollFlags: u16, PollFlags::NAMES);

// By hand from include/uapi/asm-generic/poll.h: these have the same number on every architecture.
const _: () = {
    assert!(PollFlags::IN.0 == 0x1 && PollFlags::PRI.0 == 0x2 && PollFlags::OUT.0 == 0x4);
    assert!(PollFlags::ERR.0 == 0x8 && PollFlags::HUP.0 == 0x10);
    assert!(PollFlags::RDNORM.0 == 0x40 && PollFlags::RDBAND.0 == 0x80);
};

/// Who comes first at the device: the I/O priority of one request, as `ioprio_set(2)` sets it for a thread.
///
/// Without one a request has the priority of the thread that submits it. The kernel looks at it since Linux
/// 4.18. It has an effect only under an I/O scheduler that knows priorities (bfq, mq-deadline), or on a
/// device with command duration limits; under `none`, the default for NVMe, it is carried along and ignored.
///
/// # Errors
///
/// From the submission: `EPERM` for [`real_time`](Self::real_time) without `CAP_SYS_NICE` or `CAP_SYS_ADMIN`;
/// `EINVAL` for a class that does not exist, a level with the class *none*, and before Linux 6.5 a hint.
///
/// # Examples
///
/// ```
/// use kiocb::{IoPriority, IoPriorityClass};
///
/// const COMPACTION: IoPriority = IoPriority::best_effort(7);
/// assert_eq!(COMPACTION.class(), Some(IoPriorityClass::BestEffort));
/// assert_eq!(COMPACTION.level(), 7);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IoPriority(u16);

// The encoding, by hand from include/uapi/linux/ioprio.h:
//
//     15    13 12               3 2     0
//     +-------+------------------+-------+
//     | class |       hint       | level |
//     +-------+------------------+-------+
const CLASS_SHIFT: u32 = 13;
const HINT_SHIFT: u32 = 3;
const HINT_MASK: u16 = 0x3ff;
const LEVEL_MASK: u16 = 0x7;

impl IoPriority {
    /// No priority of its own: the kernel derives one from the submitting thread's nice value and scheduling
    /// policy.
    pub const NONE: Self = Self(0);

    /// Served only when nobody else wants the device.
    pub const IDLE: Self = Self((IoPriorityClass::Idle as u16) << CLASS_SHIFT);

    /// Before everybody else: level 0 is the most urgent, 7 the least. Needs `CAP_SYS_NICE` or
    /// `CAP_SYS_ADMIN`.
    ///
    /// # Panics
    ///
    /// If the level is above 7; in a `const` the compiler says so.
    pub const fn real_time(level: u8) -> Self {
        Self::with_level(IoPriorityClass::RealTime, level)
    }

    /// Fair service, weighted by level: 0 is the highest, 7 the lowest, 4 what a thread has by default.
    ///
    /// # Panics
    ///
    /// If the level is above 7; in a `const` the compiler says so.
    pub const fn best_effort(level: u8) -> Self {
        Self::with_level(IoPriorityClass::BestEffort, level)
    }

    /// The same priority with a hint: 0 for none, 1 to 7 for the device's command duration limit of that
    /// number (ATA and SCSI); other values have no meaning yet. Since Linux 6.5.
    ///
    /// # Panics
    ///
    /// If the hint is above 1023; in a `const` the compiler says so.
    #[must_use]
    pub const fn with_hint(self, hint: u16) -> Self {
        assert!(hint <= HINT_MASK, "the hint of an I/O priority has 10 bits");
        Self(self.0 & !(HINT_MASK << HINT_SHIFT) | hint << HINT_SHIFT)
    }

    /// Any number, as `ioprio_get(2)` returns it or a newer kernel may define it. The kernel checks it at the
    /// submission.
    pub const fn from_raw(raw: u16) -> Self {
        Self(raw)
    }

    /// The number the kernel gets: class, hint and level, encoded as for `ioprio_set(2)`.
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// The class, `None` where the number holds one that does not exist.
    pub const fn class(self) -> Option<IoPriorityClass> {
        match self.0 >> CLASS_SHIFT {
            0 => Some(IoPriorityClass::None),
            1 => Some(IoPriorityClass::RealTime),
            2 => Some(IoPriorityClass::BestEffort),
            3 => Some(IoPriorityClass::Idle),
            _ => None,
        }
    }

    /// The level within the class, 0 to 7.
    pub const fn level(self) -> u8 {
        (self.0 & LEVEL_MASK).to_le_bytes()[0]
    }

    /// The hint, 0 to 1023.
    pub const fn hint(self) -> u16 {
        self.0 >> HINT_SHIFT & HINT_MASK
    }

    const fn with_level(class: IoPriorityClass, level: u8) -> Self {
        assert!(
            level as u16 <= LEVEL_MASK,
            "the level of an I/O priority is 0 to 7"
        );
        Self((class as u16) << CLASS_SHIFT | level as u16)
    }
}

/// The same as [`IoPriority::NONE`].
impl Default for IoPriority {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Debug for IoPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class() {
            Some(IoPriorityClass::None) => "IOPRIO_CLASS_NONE",
            Some(IoPriorityClass::RealTime) => "IOPRIO_CLASS_RT",
            Some(IoPriorityClass::BestEffort) => "IOPRIO_CLASS_BE",
            Some(IoPriorityClass::Idle) => "IOPRIO_CLASS_IDLE",
            None => return write!(f, "IoPriority({:#x})", self.0),
        };
        write!(f, "IoPriority({class}, level {}", self.level())?;
        if self.hint() != 0 {
            write!(f, ", hint {}", self.hint())?;
        }
        write!(f, ")")
    }
}

/// The classes of [`IoPriority`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IoPriorityClass {
    /// `IOPRIO_CLASS_NONE`: derived from the thread's nice value.
    None = 0,
    /// `IOPRIO_CLASS_RT`: before all others.
    RealTime = 1,
    /// `IOPRIO_CLASS_BE`: the ordinary one.
    BestEffort = 2,
    /// `IOPRIO_CLASS_IDLE`: when nobody else wants the device.
    Idle = 3,
}
