//! Barriers and commits as handles: to block on, or to `.await`.

use super::inner::Inner;
use super::slot::{Outcome, Slot};
use crate::error::{AioError, errno_of};
use crate::sync::now;
use crate::user_code;
use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Under `Dispatch::Manual` the sync may be submitted by a thread other than the one that waits, which then
/// has nothing to sleep for: it looks again after this time.
const NAP: Duration = Duration::from_millis(1);

/// A barrier under way, from [`SyncGroup::sync`](crate::SyncGroup::sync): a future, or something to block on.
///
/// Dropping it takes nothing back: the sync goes on, and if it fails, the error
/// [stays](crate::SyncGroup#errors-stay) all the same. As a future it needs no runtime, may be polled by any
/// executor and moved between tasks; polled after it has answered, it panics.
///
/// # Errors
/// Those that a barrier's callback is told, and those with which it is
/// [refused](crate::SyncGroup::barrier).
#[must_use = "the sync may fail, and only its result says so: wait for it, or `.await` it"]
pub struct PendingSync<F: AsFd + Send + Sync + 'static>(Handle<F, ()>);

/// A commit under way, from [`SyncGroup::commit`](crate::SyncGroup::commit): a future, or something to block
/// on. The outcome is the buffer, or a [`CommitError`] with the buffer in it.
///
/// Dropping it takes nothing back: write and sync go on, and the buffer is dropped after the write. If either
/// fails, the error [stays](crate::SyncGroup#errors-stay) all the same. As a future it is as [`PendingSync`].
#[must_use = "the commit may fail, and only its result says so: wait for it, or `.await` it"]
pub struct PendingCommit<F: AsFd + Send + Sync + 'static, B: Send + 'static>(Handle<F, B>);

struct Handle<F, B> {
    group: Arc<Inner<F>>,
    /// Empty once it has answered.
    slot: Option<Arc<Slot<B>>>,
}

impl<F, B> Drop for Handle<F, B> {
    /// A buffer that came back is dropped with the slot: that is user code.
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            user_code::drop_value("dropping a commit", slot);
        }
    }
}

/// What a handle answers where the outcome is not to be had.
struct Refusal(AioError);

type Answer<B> = Result<Outcome<B>, Refusal>;

impl<F: AsFd + Send + Sync + 'static, B: Send + 'static> Handle<F, B> {
    fn slot(&self) -> &Slot<B> {
        self.slot.as_ref().expect("a barrier answers once")
    }

    fn is_complete(&self) -> bool {
        self.slot.as_ref().is_none_or(|slot| slot.is_settled())
    }

    /// `None` when the time is over.
    fn wait(&mut self, deadline: Option<Instant>) -> Option<Answer<B>> {
        if !self.slot().is_settled() {
            if user_code::must_not_block() {
                return Some(Err(Refusal(AioError::WouldDeadlock)));
            }
            self.sleep(deadline);
        }
        self.take()
    }

    fn sleep(&self, deadline: Option<Instant>) {
        if self.group.aio.engine().is_manual() {
            while !self.slot().is_settled() && deadline.is_none_or(|end| now() < end) {
                self.poll_for_a_while(deadline);
            }
        } else {
            self.slot().wait(deadline);
        }
    }

    fn poll_for_a_while(&self, deadline: Option<Instant>) {
        let now = now();
        let end = deadline.map_or(now + NAP, |deadline| deadline.min(now + NAP));
        let polled = self.group.aio.poll(1, usize::MAX, Some(end - now));
        if polled.is_ok_and(|delivered| delivered == 0) {
            self.slot().wait(Some(end));
        }
    }

    /// What has arrived; in a forked child nothing will.
    fn take(&mut self) -> Option<Answer<B>> {
        let slot = self.slot();
        let answer = match slot.take() {
            Some(outcome) => Ok(outcome),
            None if slot.is_forked() => Err(Refusal(AioError::Forked)),
            None => return None,
        };
        self.slot = None;
        Some(answer)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Answer<B>> {
        if !self.slot().is_settled_or_wakes(context.waker()) {
            return Poll::Pending;
        }
        Poll::Ready(self.take().expect("it is settled"))
    }
}

impl<F: AsFd + Send + Sync + 'static> PendingSync<F> {
    pub(super) fn new(group: &Arc<Inner<F>>, slot: Arc<Slot<()>>) -> Self {
        PendingSync(Handle {
            group: Arc::clone(group),
            slot: Some(slot),
        })
    }

    /// Returns true once the result is there; `wait` and `poll` then return at once.
    pub fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    /// Blocks until the barrier has ended. Under [`Dispatch::Manual`](crate::Dispatch::Manual) it polls the
    /// context meanwhile, and callbacks run inside it.
    ///
    /// # Errors
    /// Those of the [type](PendingSync#errors), and inside an error
    /// [`AioError::WouldDeadlock`] in a callback: the barrier goes on; and [`AioError::Forked`] in a forked
    /// child. There it returns at once.
    ///
    /// # Panics
    /// If it has answered already, as a future.
    pub fn wait(mut self) -> io::Result<()> {
        let answer = self.0.wait(None);
        result_of(answer.expect("without a deadline there is a result"))
    }

    /// As [`wait`](PendingSync::wait), but not longer than `timeout`.
    ///
    /// # Errors
    /// The handle itself, when the time is over: it still stands for the barrier.
    ///
    /// # Panics
    /// If it has answered already, as a future.
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<io::Result<()>, Self> {
        match self.0.wait(now().checked_add(timeout)) {
            Some(answer) => Ok(result_of(answer)),
            None => Err(self),
        }
    }
}

fn result_of(answer: Answer<()>) -> io::Result<()> {
    answer.map_err(|Refusal(refusal)| refusal)?.result
}

impl<F: AsFd + Send + Sync + 'static> Future for PendingSync<F> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll(context).map(result_of)
    }
}

impl<F: AsFd + Send + Sync + 'static, B: Send + 'static> PendingCommit<F, B> {
    pub(super) fn new(group: &Arc<Inner<F>>, slot: Arc<Slot<B>>) -> Self {
        PendingCommit(Handle {
            group: Arc::clone(group),
            slot: Some(slot),
        })
    }

    /// Returns true once the result is there; `wait` and `poll` then return at once.
    pub fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    /// Blocks until what was committed is durable, or could not be made so. Under
    /// [`Dispatch::Manual`](crate::Dispatch::Manual) it polls the context meanwhile, and callbacks run inside
    /// it.
    ///
    /// # Errors
    /// See [`CommitError`].
    ///
    /// # Panics
    /// If it has answered already, as a future.
    pub fn wait(mut self) -> Result<B, CommitError<B>> {
        let answer = self.0.wait(None);
        outcome_of(answer.expect("without a deadline there is a result"))
    }

    /// As [`wait`](PendingCommit::wait), but not longer than `timeout`.
    ///
    /// # Errors
    /// The handle itself, when the time is over: it still stands for the commit.
    ///
    /// # Panics
    /// If it has answered already, as a future.
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<Result<B, CommitError<B>>, Self> {
        match self.0.wait(now().checked_add(timeout)) {
            Some(answer) => Ok(outcome_of(answer)),
            None => Err(self),
        }
    }
}

fn outcome_of<B>(answer: Answer<B>) -> Result<B, CommitError<B>> {
    match answer {
        Ok(Outcome {
            result: Ok(()),
            buf,
        }) => Ok(buf),
        Ok(Outcome {
            result: Err(error),
            buf,
        }) => Err(CommitError {
            error,
            buf: Some(buf),
        }),
        Err(Refusal(refusal)) => Err(CommitError {
            error: refusal.into(),
            buf: None,
        }),
    }
}

impl<F: AsFd + Send + Sync + 'static, B: Send + 'static> Future for PendingCommit<F, B> {
    type Output = Result<B, CommitError<B>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context).map(outcome_of)
    }
}

impl<F: AsFd + Send + Sync + 'static, B: Send + 'static> Unpin for PendingCommit<F, B> {}

impl<F: AsFd + Send + Sync + 'static> fmt::Debug for PendingSync<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingSync")
            .field("complete", &self.is_complete())
            .finish_non_exhaustive()
    }
}

impl<F: AsFd + Send + Sync + 'static, B: Send + 'static> fmt::Debug for PendingCommit<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCommit")
            .field("complete", &self.is_complete())
            .finish_non_exhaustive()
    }
}

/// What was to be committed may not be durable: the reason, and the buffer. From [`PendingCommit`].
///
/// The reason is one of these:
/// - what [`Iocb::submit`](crate::Iocb::submit) returns for the write, or its
///   [result](crate::Completion::result);
/// - what a [barrier](crate::SyncGroup::barrier) is told or refused with: also an error of an earlier write
///   or sync, which [stays](crate::SyncGroup#errors-stay);
/// - [`AioError::WouldDeadlock`]: it was waited for in a callback. The commit goes on;
/// - [`AioError::Forked`] in a forked child of the process that made the group.
///
/// Its text says only that it failed: the reason is its [`source`](Error::source), and
/// [`error`](CommitError::error).
pub struct CommitError<B> {
    error: io::Error,
    buf: Option<B>,
}

impl<B> CommitError<B> {
    /// Why it failed.
    pub fn error(&self) -> &io::Error {
        &self.error
    }

    /// The errno, or that of the [`AioError`] inside; `None` where there is none.
    pub fn errno(&self) -> Option<i32> {
        errno_of(&self.error)
    }

    /// The reason and the buffer; `None` where the write still has it: in a callback, and in a forked child.
    pub fn into_parts(self) -> (io::Error, Option<B>) {
        (self.error, self.buf)
    }
}

impl<B> fmt::Debug for CommitError<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<B> fmt::Display for CommitError<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what was committed may not be durable")
    }
}

impl<B> Error for CommitError<B> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl<B> From<CommitError<B>> for io::Error {
    fn from(error: CommitError<B>) -> io::Error {
        error.error
    }
}
