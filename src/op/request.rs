//! Which states of a request can be waited for, and which can be submitted.

use super::callback::{Callback, Receive};
use super::exact::Exact;
use super::fsync::Fsync;
use super::poll_ready::PollReady;
use super::rw::Rw;
use super::transfer::Operation;
use super::work::Work;
use std::os::fd::AsFd;

/// A request that has no operation yet.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Blank;

/// A request with an operation, which can be waited for or given a callback.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `kiocb::op::Request`: this needs a request with an operation and without a callback",
    label = "call it after `init_rw` (or `init_fsync`, …) and before `init_callback`",
    note = "the result of a request goes to one place: to a callback (`init_callback`, then `submit`), or to what waits for it \
            (`.wait()`, `.start()`, `.await`)",
    note = "file and buffer must be `Send`, as `Arc<File>` and `Vec<u8>` are, and the buffer must suit the operation"
)]
pub trait Request: Work + 'static {}

impl<F: AsFd + Send + 'static, O: Operation<B>, B: Send + 'static> Request for Rw<F, O, B> {}
impl<F: AsFd + Send + 'static> Request for Fsync<F> {}
impl<F: AsFd + Send + 'static> Request for PollReady<F> {}
impl<F: AsFd + Send + 'static, O: Operation<B>, B: Send + 'static> Request for Exact<F, O, B> {}

/// A request with everything that [`Iocb::submit`](crate::Iocb::submit) needs.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `kiocb::op::Submit`: this request is not ready to be submitted",
    label = "call `init_rw` (or `init_fsync`, …) and then `init_callback` before `submit`",
    note = "the order is alloc, init_…, init_callback, submit; without a callback, use `.wait()` or `.start()` instead of `.submit()`"
)]
pub trait Submit: Work<Output = ()> + 'static {}

impl<S: Request, C: Receive<S::Output> + 'static> Submit for Callback<S, C> {}
