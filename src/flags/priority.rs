//! The I/O priority of one request.

use std::fmt;

/// Which request comes first at the device: the I/O priority of one request, as `ioprio_set(2)` sets it for a
/// thread.
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

    /// Served only when no other request waits for the device.
    pub const IDLE: Self = Self((IoPriorityClass::Idle as u16) << CLASS_SHIFT);

    /// Before all other requests: level 0 is the most urgent, 7 the least. Needs `CAP_SYS_NICE` or
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
    pub const fn from_bits_retain(bits: u16) -> Self {
        Self(bits)
    }

    /// The number the kernel gets: class, hint and level, encoded as for `ioprio_set(2)`.
    pub const fn bits(self) -> u16 {
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
    /// `IOPRIO_CLASS_IDLE`: when no other request waits for the device.
    Idle = 3,
}
