//! One write of a group: under way, and not submitted.

use super::calls::again;
use super::inner::Inner;
use super::panics::Panics;
use crate::buf::IoBuf;
use crate::completion::Completion;
use crate::error::SubmitError;
use crate::iocb::Iocb;
use crate::op::Exact;
use crate::op::{Callback, Receive, Write};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

/// One write of a [`SyncGroup`](crate::SyncGroup) that is under way: barriers made after it wait for its
/// [`end`](TrackedWrite::end).
///
/// Dropped without that, the write counts as failed (ECANCELED). Forgotten (`mem::forget`), it holds up all
/// later barriers for ever: none of them is called. In a forked child neither its end nor its drop does
/// anything.
#[must_use = "dropped, it counts as a failed write"]
pub struct TrackedWrite<F: AsFd + Send + Sync + 'static> {
    group: Arc<Inner<F>>,
    /// `None` after the end, and where it was made in a forked child.
    epoch: Option<u64>,
}

impl<F: AsFd + Send + Sync + 'static> TrackedWrite<F> {
    pub(super) fn begin(group: &Arc<Inner<F>>) -> TrackedWrite<F> {
        TrackedWrite {
            epoch: group.begin(),
            group: Arc::clone(group),
        }
    }

    /// The write has ended like this. A short one counts as a success, so use [`write_all`](Iocb::write_all),
    /// or pass an error.
    ///
    /// Barriers that waited for it and fail are called in here. If one of their callbacks panics, the others
    /// are called all the same, and then the panic goes on.
    pub fn end<T>(mut self, result: &io::Result<T>) {
        let failure = result.as_ref().err().map(again);
        self.settle(failure);
    }

    fn settle(&mut self, failure: Option<io::Error>) {
        if let Some(epoch) = self.epoch.take() {
            self.group.end(epoch, failure.map(Arc::new));
        }
    }
}

impl<F: AsFd + Send + Sync + 'static> Drop for TrackedWrite<F> {
    fn drop(&mut self) {
        self.settle(Some(io::Error::from_raw_os_error(libc::ECANCELED)));
    }
}

impl<F: AsFd + Send + Sync + 'static> fmt::Debug for TrackedWrite<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackedWrite").finish_non_exhaustive()
    }
}

/// The user's callback, after which the write counts as ended, also by panic.
struct WriteCallback<F: AsFd + Send + Sync + 'static, C> {
    callback: C,
    write: TrackedWrite<F>,
}

impl<F, B, C> Receive<Completion<Arc<F>, B>> for WriteCallback<F, C>
where
    F: AsFd + Send + Sync + 'static,
    C: FnOnce(Completion<Arc<F>, B>) + Send,
{
    fn receive(self, done: Completion<Arc<F>, B>) {
        let WriteCallback { callback, write } = self;
        let result = done.result.as_ref().map_err(again).map(drop);
        let mut panics = Panics::default();
        panics.catch(|| callback(done));
        panics.catch(|| write.end(&result));
        panics.go_on();
    }
}

/// A write of a [`SyncGroup`] that was not submitted: inside the error of [`SyncGroup::write`] and
/// [`SyncGroup::write_durable`].
///
/// [`SyncGroup`]: crate::SyncGroup
/// [`SyncGroup::write`]: crate::SyncGroup::write
/// [`SyncGroup::write_durable`]: crate::SyncGroup::write_durable
///
/// It is still under way for the group: barriers made after it wait for it. Submit it again, or take it
/// apart, or drop it, which counts as a failed write.
#[must_use = "dropped, it counts as a failed write"]
pub struct UnsubmittedWrite<F: AsFd + Send + Sync + 'static, B: IoBuf, C> {
    /// Boxed, so that the error is small where there is none.
    request: Box<Request<F, B, C>>,
}

type Request<F, B, C> = Iocb<Callback<WriteAll<F, B>, WriteCallback<F, C>>>;
pub(super) type WriteAll<F, B> = Exact<Arc<F>, Write, B>;

/// Submits a write of a group.
pub(super) fn submit<F, B, C>(
    request: Iocb<WriteAll<F, B>>,
    callback: C,
    write: TrackedWrite<F>,
) -> Result<(), SubmitError<UnsubmittedWrite<F, B, C>>>
where
    F: AsFd + Send + Sync + 'static,
    B: IoBuf + Send + 'static,
    C: FnOnce(Completion<Arc<F>, B>) + Send + 'static,
{
    let request = request.init_receiver(WriteCallback { callback, write });
    request.submit().map_err(UnsubmittedWrite::refused)
}

impl<F, B, C> UnsubmittedWrite<F, B, C>
where
    F: AsFd + Send + Sync + 'static,
    B: IoBuf + Send + 'static,
    C: FnOnce(Completion<Arc<F>, B>) + Send + 'static,
{
    fn refused(refused: SubmitError<Request<F, B, C>>) -> SubmitError<Self> {
        let (error, request) = refused.into_parts();
        let request = Box::new(request);
        SubmitError::new(error, UnsubmittedWrite { request })
    }

    /// Submits it, as [`SyncGroup::write`](crate::SyncGroup::write) did. Blocks where
    /// [`Iocb::submit`](crate::Iocb::submit) does.
    ///
    /// # Errors
    /// As [`Iocb::submit`](crate::Iocb::submit).
    pub fn submit(self) -> Result<(), SubmitError<Self>> {
        self.request.submit().map_err(Self::refused)
    }

    /// Takes it apart: the buffer, the callback, and the write, which is still under way for the group. To
    /// give it up, drop the last.
    pub fn into_parts(self) -> (B, C, TrackedWrite<F>) {
        let (request, WriteCallback { callback, write }) = self.request.into_parts();
        let (_, buf) = request.into_parts();
        (buf, callback, write)
    }
}

impl<F: AsFd + Send + Sync + 'static, B: IoBuf, C> fmt::Debug for UnsubmittedWrite<F, B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnsubmittedWrite").finish_non_exhaustive()
    }
}
