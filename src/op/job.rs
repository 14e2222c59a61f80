//! What is submitted: an operation with its options.
#![allow(unsafe_code, reason = "passes on the promise of the operation inside")]

use super::work::{Progress, Traits, Work, descriptor};
use crate::flags::{IoPriority, RwFlags};
use crate::sys::{self, iocb};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What may be asked of any operation besides.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) rw_flags: RwFlags,
    priority: IoPriority,
    has_priority: bool,
    /// Try with NOWAIT, and go on without on a helper thread.
    pub(crate) offload: bool,
    /// Kept open until the request is complete: the kernel looks it up only when it takes the request.
    pub(crate) eventfd: Option<Arc<OwnedFd>>,
}

// Each byte here is one less for a callback to be stored without an allocation.
const _: () = assert!(size_of::<Options>() == 16);

impl Default for Options {
    fn default() -> Self {
        Options {
            rw_flags: RwFlags::empty(),
            priority: IoPriority::NONE,
            has_priority: false,
            offload: false,
            eventfd: None,
        }
    }
}

impl Options {
    /// Those of a test.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn with_flags(rw_flags: RwFlags) -> Options {
        Options {
            rw_flags,
            ..Options::default()
        }
    }

    pub(crate) fn set_priority(&mut self, priority: IoPriority) {
        self.priority = priority;
        self.has_priority = true;
    }

    /// A sync or a poll takes no flags, NOWAIT neither: the kernel refuses it with EINVAL.
    fn apply(&self, iocb: &mut iocb, may_go_on: bool) {
        let nowait = if self.offload {
            RwFlags::NOWAIT
        } else {
            RwFlags::empty()
        };
        iocb.aio_rw_flags = (self.rw_flags | nowait).bits();
        if self.has_priority {
            iocb.aio_flags |= sys::IOCB_FLAG_IOPRIO;
            iocb.aio_reqprio = self.priority.bits().cast_signed();
        }
        if let Some(eventfd) = &self.eventfd {
            iocb.aio_resfd = descriptor(eventfd);
            // The kernel would raise it for each part of a request that goes on: there the engine does it,
            // once.
            if !may_go_on {
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
        let state = self.state.traits();
        Traits {
            offload: self.options.offload,
            may_go_on: state.may_go_on || self.options.offload,
            has_eventfd: self.options.eventfd.is_some(),
            ..state
        }
    }

    fn eventfd(&self) -> Option<&Arc<OwnedFd>> {
        self.options.eventfd.as_ref()
    }

    fn describe(&mut self, iocb: &mut iocb) {
        // First: how a short transfer can go on depends on the flags.
        self.options.apply(iocb, self.traits().may_go_on);
        self.state.describe(iocb);
    }

    fn proceed(&mut self, iocb: &mut iocb, result: &mut i64) -> Progress {
        self.state.proceed(iocb, result)
    }

    #[inline]
    unsafe fn finish(self, result: i64) -> Self::Output {
        // SAFETY: passed on.
        unsafe { self.state.finish(result) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::op::{Fsync, Read, ReadV, Rw, Write, WriteV};

    /// What a request comes to that the kernel answers so.
    fn answered<W: Work>(mut work: W, answer: i64) -> W::Output {
        work.describe(&mut iocb::default());
        // SAFETY: the buffers of these tests are initialised, whatever the kernel did.
        unsafe { work.finish(answer) }
    }

    #[test]
    fn a_count_beyond_the_buffer_is_cut_down_to_it() {
        for answer in [17, i64::MAX] {
            let done = answered(Rw::new(std::io::stdin(), Read, vec![0u8; 16], 0), answer);
            assert_eq!((done.result.unwrap(), done.buf.len()), (16, 16));
            let done = answered(Rw::new(std::io::stdin(), Write, [0u8; 16], 0), answer);
            assert_eq!(done.result.unwrap(), 16);
            let pieces = vec![vec![0u8; 8], vec![], vec![0u8; 8]];
            let done = answered(Rw::new(std::io::stdin(), ReadV, pieces.clone(), 0), answer);
            assert_eq!((done.result.unwrap(), done.buf.concat().len()), (16, 16));
            let done = answered(Rw::new(std::io::stdin(), WriteV, pieces, 0), answer);
            assert_eq!(done.result.unwrap(), 16);
            let done = answered(Fsync::whole(std::io::stdin()), answer);
            assert_eq!(done.result.unwrap(), 0);
        }
    }

    /// The same after NOWAIT has transferred a part.
    #[test]
    fn counts_that_together_are_beyond_the_buffer_are_cut_down() {
        let file = tempfile::tempfile().unwrap();
        let mut job = Job {
            state: Rw::new(file, Read, vec![0u8; 16], 0),
            options: Options {
                offload: true,
                ..Options::default()
            },
        };
        let mut iocb = iocb::default();
        job.describe(&mut iocb);
        assert_eq!(job.proceed(&mut iocb, &mut 10), Progress::Again);
        assert_eq!((iocb.aio_nbytes, iocb.aio_offset), (6, 10));
        let mut answer = i64::MAX - 3;
        assert_eq!(job.proceed(&mut iocb, &mut answer), Progress::Done);
        // SAFETY: the buffer is initialised, whatever the kernel did.
        let done = unsafe { job.finish(answer) };
        assert_eq!(done.result.unwrap(), 16);
    }
}
