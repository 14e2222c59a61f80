//! What a wait for readiness waits for.

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
