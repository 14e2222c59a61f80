//! Requests for tests on the simulated kernel: they say in their iocb what becomes of them, and count their
//! ends.
#![allow(
    unsafe_code,
    reason = "promises that a request which lends nothing lends nothing"
)]

use super::{Config, Engine};
use crate::dispatch::Dispatch;
use crate::op::{Progress, Traits, Work};
use crate::sys::simulated::{Behaviour, Kernel};
use crate::sys::{Mode, RWF_NOWAIT, iocb};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An engine without a thread on a simulated kernel.
pub(super) fn engine(dispatch: Dispatch, mode: Mode, depth: u32) -> Arc<Engine> {
    let kernel = Kernel::setup(depth + 1, mode == Mode::Syscalls).expect("always possible");
    let config = Config {
        depth,
        exact_depth: false,
        dispatch,
        thread_name: "test".to_owned(),
        on_thread_start: None,
        force_syscalls: mode == Mode::Syscalls,
    };
    Arc::new_cyclic(|me| Engine::on(kernel, depth, config, me.clone()))
}

/// Counts how often something happened. Not modelled: counting must not order what it counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(super) fn new() -> Count {
        Count::default()
    }

    pub(super) fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A request that is asked for. Its name comes back as its result.
#[derive(Debug)]
pub(super) struct TestOp {
    behaviour: Behaviour,
    name: u64,
    errno: i16,
    /// Completes with half of its name, and goes on with the other half.
    in_two_parts: bool,
    traits: Traits,
    ends: Count,
}

impl TestOp {
    pub(super) fn new(behaviour: Behaviour, name: u64, ends: &Count) -> TestOp {
        TestOp {
            behaviour,
            name,
            errno: 0,
            in_two_parts: false,
            traits: Traits::default(),
            ends: ends.clone(),
        }
    }

    /// `io_submit` will refuse it.
    pub(super) fn refused(mut self, errno: i32) -> TestOp {
        self.errno = errno.try_into().expect("a small number");
        self
    }

    /// It goes on after its first answer.
    #[allow(dead_code, reason = "of the models, not of the schedules")]
    pub(super) fn in_two_parts(mut self) -> TestOp {
        self.in_two_parts = true;
        self
    }

    /// The kernel can cancel it.
    pub(super) fn cancellable(mut self) -> TestOp {
        self.traits.cancellable = true;
        self
    }

    /// It would block, and is to be submitted again where that may be.
    #[allow(dead_code, reason = "of the models, not of the schedules")]
    pub(super) fn offloaded(mut self) -> TestOp {
        self.traits.offload = true;
        self
    }

    /// With something to do when it is complete.
    pub(super) fn then<C: FnOnce(i64) + Send>(self, callback: C) -> TestCallback<C> {
        TestCallback { op: self, callback }
    }
}

impl Drop for TestOp {
    fn drop(&mut self) {
        self.ends.one_more();
    }
}

// SAFETY: no memory is passed to the kernel, and the descriptor is a number of the simulated kernel's.
unsafe impl Work for TestOp {
    type Output = i64;

    fn traits(&self) -> Traits {
        Traits {
            may_go_on: self.in_two_parts,
            ..self.traits
        }
    }

    fn proceed(&mut self, _: &mut iocb, result: &mut i64) -> Progress {
        if std::mem::take(&mut self.in_two_parts) {
            return Progress::Again;
        }
        *result *= 2;
        Progress::Done
    }

    fn describe(&mut self, iocb: &mut iocb) {
        iocb.aio_fildes = self.behaviour as u32;
        iocb.aio_nbytes = if self.in_two_parts {
            self.name / 2
        } else {
            self.name
        };
        iocb.aio_reqprio = self.errno;
        if self.traits.offload {
            iocb.aio_rw_flags = RWF_NOWAIT;
        }
    }

    unsafe fn finish(self, result: i64) -> i64 {
        result
    }
}

/// A request with a callback.
#[derive(Debug)]
pub(super) struct TestCallback<C> {
    op: TestOp,
    callback: C,
}

// SAFETY: as for `TestOp`.
unsafe impl<C: FnOnce(i64) + Send> Work for TestCallback<C> {
    type Output = ();

    fn traits(&self) -> Traits {
        self.op.traits()
    }

    fn describe(&mut self, iocb: &mut iocb) {
        self.op.describe(iocb);
    }

    unsafe fn finish(self, result: i64) {
        drop(self.op);
        (self.callback)(result);
    }
}
