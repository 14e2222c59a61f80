//! How a request is to be done.

use super::Iocb;
use crate::flags::{IoPriority, RwFlags};
use crate::op::Request;
use std::os::fd::OwnedFd;
use std::sync::Arc;

impl<S> Iocb<S> {
    /// Flags for this request alone, `RWF_…`; they replace those set before. [`RwFlags`] lists what each
    /// does, its kernel version, and what refuses it. What the kernel or the file does not know makes
    /// `submit` say EOPNOTSUPP; a sync takes none (EINVAL). Linux 4.13.
    #[doc(alias = "aio_rw_flags")]
    pub fn rw_flags(mut self, flags: RwFlags) -> Self
    where
        S: Request,
    {
        self.options.rw_flags = flags;
        self
    }

    /// The priority of this request at the I/O scheduler, where there is one that cares (BFQ, mq-deadline),
    /// as [`ioprio_set(2)`](https://man7.org/linux/man-pages/man2/ioprio_set.2.html) does it for a thread.
    /// From `submit`: EPERM for real time without CAP_SYS_ADMIN or CAP_SYS_NICE, EINVAL for a class that does
    /// not exist. Linux 4.18.
    #[doc(alias = "IOCB_FLAG_IOPRIO")]
    #[doc(alias = "aio_reqprio")]
    pub fn priority(mut self, priority: IoPriority) -> Self
    where
        S: Request,
    {
        self.options.set_priority(priority);
        self
    }

    /// An [`eventfd(2)`](https://man7.org/linux/man-pages/man2/eventfd.2.html) to which the kernel adds 1
    /// when the request is complete, for a loop around `epoll`. The result still comes by callback, wait or
    /// future, a moment later. It is an `OwnedFd`, or an `Arc<OwnedFd>` that many requests share; the request
    /// keeps it open. From `submit`: EINVAL if it is no eventfd. Linux 2.6.22.
    #[doc(alias = "IOCB_FLAG_RESFD")]
    #[doc(alias = "aio_resfd")]
    pub fn eventfd(mut self, eventfd: impl Into<Arc<OwnedFd>>) -> Self
    where
        S: Request,
    {
        self.options.eventfd = Some(eventfd.into());
        self
    }

    /// Tries with [`NOWAIT`](RwFlags::NOWAIT), and where that would block (EAGAIN) or is not supported
    /// (EOPNOTSUPP) goes on without it, from a helper thread: `submit` does not block its caller then, and
    /// neither errno reaches it. (A write to a frozen file system still does: the kernel waits for the thaw
    /// before it looks at the flag.) The helper submits one request after the other, so one that blocks holds
    /// back those offloaded after it.
    ///
    /// The result is what a plain call's would be: where NOWAIT transfers only a part (what the page cache
    /// has of a file, what fits into a pipe), the request goes on with the rest. A read of a stored file then
    /// ends at the end of the file or with the whole, and of a pipe, socket or device it is what there was.
    /// An append that goes on so does that at the end of the file as it is then: another writer's data may
    /// come to lie between. What fails after a part is the part, as in a plain call.
    ///
    /// Costs a second submission when it would have blocked, and a thread while such requests are being
    /// submitted. Worth it for reads that are often in the page cache or direct; most writes would block
    /// (they allocate, or update timestamps). A request that goes on this way may be overtaken by later ones.
    ///
    /// For reads and writes; a sync or a poll takes no flags, and `submit` says EINVAL. The flag
    /// `RWF_NOWAIT` of [`preadv2(2)`](https://man7.org/linux/man-pages/man2/preadv2.2.html), Linux 4.13;
    /// before, each request is offloaded.
    ///
    /// ```
    /// use kiocb::Iocb;
    /// use kiocb::op::Read;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("cold");
    /// # std::fs::write(&path, [7; 512])?;
    /// let file = std::fs::File::open(&path)?; // through the page cache, where it may or may not be
    /// let read = Iocb::alloc().init_rw(file, Read, vec![0; 512], 0).nowait_or_offload();
    /// let pending = read.start()?; // at once
    /// assert_eq!(pending.wait().result?, 512);
    /// # Ok(())
    /// # }
    /// ```
    pub fn nowait_or_offload(mut self) -> Self
    where
        S: Request,
    {
        self.options.offload = true;
        self
    }
}
