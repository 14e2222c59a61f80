//! Cancelling a wait for readiness that has a callback.

use crate::engine::{Engine, RequestId};
use crate::error::SubmitError;
use crate::iocb::Iocb;
use crate::op::{Callback, PollReady, Submit};
use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Cancels a wait for readiness that has a callback. From
/// [`Iocb::submit_cancellable`](crate::Iocb::submit_cancellable). It may be dropped: the request goes on.
/// Clones stand for the same request.
#[derive(Clone)]
pub struct CancelHandle {
    engine: Arc<Engine>,
    id: RequestId,
}

impl CancelHandle {
    /// Cancels the wait ([`io_cancel(2)`](https://man7.org/linux/man-pages/man2/io_cancel.2.html), Linux
    /// 4.19). Returns whether the request was cancelled: then the callback is called with ECANCELED. Any
    /// thread may call it. Blocks while another thread submits the request or takes its event.
    ///
    /// `false`: the request is complete, or this process is a forked child and the request is its parent's.
    #[doc(alias = "io_cancel")]
    pub fn cancel(&self) -> bool {
        self.engine.is_here() && self.engine.cancel_by_id(self.id)
    }
}

impl fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelHandle").finish_non_exhaustive()
    }
}

impl<F: AsFd + Send + 'static, C: Send + 'static> Iocb<Callback<PollReady<F>, C>>
where
    Callback<PollReady<F>, C>: Submit,
{
    /// As [`submit`](Iocb::submit), and returns a handle that cancels the wait.
    ///
    /// ```
    /// use kiocb::{Aio, Iocb, PollFlags};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, _writer) = std::io::pipe()?;
    /// let readable = Iocb::alloc().init_poll(reader, PollFlags::IN);
    /// let wait = readable
    ///     .init_callback(|done| assert_eq!(done.result.unwrap_err().raw_os_error(), Some(125))) // ECANCELED
    ///     .submit_cancellable()?;
    /// assert!(wait.cancel());
    /// # Aio::global()?.drain()
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`submit`](Iocb::submit).
    pub fn submit_cancellable(self) -> Result<CancelHandle, SubmitError<Self>> {
        self.send(|engine, job| {
            let id = engine.submit(job)?;
            let engine = Arc::clone(engine);
            Ok(CancelHandle { engine, id })
        })
    }
}
