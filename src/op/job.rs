//! What is submitted: an operation with its options.
#![allow(unsafe_code, reason = "passes on the promise of the operation inside")]

use super::work::{Progress, Traits, Work, descriptor};
use crate::flags::{IoPriority, RwFlags};
use crate::sys::{self, iocb};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What may be asked of any operation besides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) rw_flags: RwFlags,
    pub(crate) priority: Option<IoPriority>,
    /// Kept open until the request is complete: the kernel looks it up only when it takes the request.
    pub(crate) eventfd: Option<Arc<OwnedFd>>,
    /// Try with NOWAIT, and go on without on a helper thread.
    pub(crate) offload: bool,
}

impl Options {
    /// The iocb has its opcode, and the flags that were asked for.
    fn apply(&self, iocb: &mut iocb, may_go_on: bool) {
        // Only reads and writes can say that they would block.
        let transfers = matches!(
            iocb.aio_lio_opcode,
            sys::IOCB_CMD_PREAD
                | sys::IOCB_CMD_PREADV
                | sys::IOCB_CMD_PWRITE
                | sys::IOCB_CMD_PWRITEV
        );
        let nowait = if self.offload && transfers {
            RwFlags::NOWAIT
        } else {
            RwFlags::empty()
        };
        iocb.aio_rw_flags |= nowait.bits();
        if let Some(priority) = self.priority {
            iocb.aio_flags |= sys::IOCB_FLAG_IOPRIO;
            iocb.aio_reqprio = priority.bits().cast_signed();
        }
        if let Some(eventfd) = &self.eventfd {
            iocb.aio_resfd = descriptor(eventfd);
            // The kernel would raise it for each part of a request that goes on: there the engine does it,
            // once.
            if !may_go_on && !self.offload {
                iocb.aio_flags |= sys::IOCB_FLAG_RESFD;
            }
        }
    }
}

/// An operation with its options: what is submitted.
#[derive(Debug)]
pub(crate) struct Job<S> {
    pub(crate) state: S,
    pub(crate) options: Options,
}

// SAFETY: the state's own promise; the eventfd is held by the options.
unsafe impl<S: Work> Work for Job<S> {
    type Output = S::Output;

    fn traits(&self) -> Traits {
        Traits {
            offload: self.options.offload,
            has_eventfd: self.options.eventfd.is_some(),
            ..self.state.traits()
        }
    }

    fn eventfd(&self) -> Option<&Arc<OwnedFd>> {
        self.options.eventfd.as_ref()
    }

    fn describe(&mut self, iocb: &mut iocb) {
        // Before the state looks: at an end that moves, no byte may be transferred twice.
        iocb.aio_rw_flags = self.options.rw_flags.bits();
        self.state.describe(iocb);
        let may_go_on = self.state.traits().may_go_on;
        self.options.apply(iocb, may_go_on);
    }

    fn proceed(&mut self, iocb: &mut iocb, result: &mut i64) -> Progress {
        self.state.proceed(iocb, result)
    }

    unsafe fn finish(self, result: i64) -> Self::Output {
        // SAFETY: passed on.
        unsafe { self.state.finish(result) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::buf::AlignedBuf;
    use crate::op::{Exact, Rw, Write};
    use std::fs::File;
    use std::os::unix::fs::OpenOptionsExt;

    /// A direct write of three blocks, described.
    fn described(file: File, rw_flags: RwFlags) -> (Job<Exact<File, Write, AlignedBuf>>, iocb) {
        let rw = Rw::new(file, Write, AlignedBuf::zeroed(3 * 4096), 0);
        let options = Options {
            rw_flags,
            ..Options::default()
        };
        let state = Exact::new(rw);
        let (mut job, mut iocb) = (Job { state, options }, iocb::default());
        job.describe(&mut iocb);
        (job, iocb)
    }

    /// Elsewhere the rest of a direct write begins at a block, some of which is written twice; at an end that
    /// moves, that would be in the file twice.
    #[test]
    fn the_rest_of_a_direct_append_begins_where_the_first_part_ended() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let direct = || {
            let mut options = File::options();
            options.write(true).custom_flags(libc::O_DIRECT);
            options.open(named.path())
        };
        for (flags, step) in [(RwFlags::empty(), 4096), (RwFlags::APPEND, 4196)] {
            let file = match direct() {
                Ok(file) => file,
                Err(error) => {
                    eprintln!("skipped: no direct I/O here: {error}");
                    return assert!(std::env::var_os("KIOCB_CI").is_none());
                }
            };
            let (mut job, mut iocb) = described(file, flags);
            let (begin, mut answer) = (iocb.aio_buf, 4196);
            assert_eq!(job.proceed(&mut iocb, &mut answer), Progress::Again);
            assert_eq!(
                (iocb.aio_buf - begin, iocb.aio_rw_flags),
                (step, flags.bits())
            );
        }
    }
}
