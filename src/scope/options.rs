//! How a request over borrowed memory is to be done.

use crate::flags::{IoPriority, RwFlags};
use crate::op::Options;

/// How requests over borrowed memory are to be done: what [`Aio::with`](crate::Aio::with) and
/// [`Scope::with`](crate::Scope::with) take. A plain value, to be kept and used for many.
///
/// [`RwFlags`] and [`IoPriority`] are such options by themselves:
///
/// ```
/// use kiocb::{Aio, IoOptions, IoPriority, RwFlags};
///
/// const LOG: IoOptions = IoOptions::new().rw_flags(RwFlags::DSYNC).priority(IoPriority::best_effort(0));
///
/// # fn main() -> std::io::Result<()> {
/// # let file = tempfile::tempfile()?;
/// let aio = Aio::global()?;
/// aio.with(LOG).write_all_at(&file, b"record", 0)?;
/// aio.with(RwFlags::DSYNC).write_all_at(&file, b"record", 6)?;
/// aio.with(IoPriority::IDLE).read_exact_at(&file, &mut [0; 12], 0)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "it changes nothing before it is passed to `with`"]
pub struct IoOptions {
    rw_flags: RwFlags,
    priority: Option<IoPriority>,
    offload: bool,
}

impl IoOptions {
    /// As a request is done without any.
    pub const fn new() -> IoOptions {
        IoOptions {
            rw_flags: RwFlags::empty(),
            priority: None,
            offload: false,
        }
    }

    /// Flags, as [`Iocb::rw_flags`](crate::Iocb::rw_flags): they replace those set before. A sync takes none
    /// (EINVAL). Linux 4.13.
    pub const fn rw_flags(mut self, flags: RwFlags) -> IoOptions {
        self.rw_flags = flags;
        self
    }

    /// The priority at the I/O scheduler, as [`Iocb::priority`](crate::Iocb::priority). Linux 4.18.
    pub const fn priority(mut self, priority: IoPriority) -> IoOptions {
        self.priority = Some(priority);
        self
    }

    /// Tries with NOWAIT, and goes on without it on a helper thread where that would block, as
    /// [`Iocb::nowait_or_offload`](crate::Iocb::nowait_or_offload). Of use in a scope: the submitting thread
    /// does not block for one request while others are not submitted yet.
    pub const fn nowait_or_offload(mut self) -> IoOptions {
        self.offload = true;
        self
    }

    pub(super) fn into_options(self) -> Options {
        let mut options = Options::default();
        if let Some(priority) = self.priority {
            options.set_priority(priority);
        }
        options.rw_flags = self.rw_flags;
        options.offload = self.offload;
        options
    }
}

impl From<RwFlags> for IoOptions {
    fn from(flags: RwFlags) -> IoOptions {
        IoOptions::new().rw_flags(flags)
    }
}

impl From<IoPriority> for IoOptions {
    fn from(priority: IoPriority) -> IoOptions {
        IoOptions::new().priority(priority)
    }
}
