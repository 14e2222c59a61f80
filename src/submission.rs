//! `.await` on a request: submitted at the first poll.

use crate::error::SubmitError;
use crate::iocb::Iocb;
use crate::op::Request;
use crate::pending::Pending;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What `.await` makes of a ready request ([`IntoFuture`] of [`Iocb`]): it is submitted when first polled,
/// and the answer is the completion, or the request back where it was not submitted.
///
/// Dropped before its first poll, nothing has happened. Dropped later, it is as [`Pending`]: the request
/// completes, and its file and buffer are dropped then.
///
/// ```
/// # use std::{future::Future, pin::pin, task::{Context, Poll, Waker}};
/// # fn block_on<F: Future>(future: F) -> F::Output {
/// #     let mut future = pin!(future);
/// #     loop {
/// #         let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
/// #         if let Poll::Ready(output) = polled { return output }
/// #     }
/// # }
/// use kiocb::Iocb;
/// use kiocb::op::Read;
///
/// # fn main() -> std::io::Result<()> {
/// let file = std::fs::File::open("/dev/zero")?;
/// let done = block_on(async { Iocb::alloc().init_rw(file, Read, vec![1; 512], 0).await })?;
/// assert_eq!(done.result?, 512);
/// # Ok(())
/// # }
/// ```
#[must_use = "a future does nothing before it is polled: nothing is submitted"]
pub struct Submission<S: Request>(Stage<S>);

enum Stage<S: Request> {
    Ready(Iocb<S>),
    Submitted(Pending<S>),
    Answered,
}

// Nothing inside is pinned: what the kernel knows lies in a cell of the engine's.
impl<S: Request> Unpin for Submission<S> {}

impl<S: Request> Future for Submission<S> {
    type Output = Result<S::Output, SubmitError<Iocb<S>>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut pending = match std::mem::replace(&mut self.0, Stage::Answered) {
            Stage::Ready(request) => match request.start() {
                Ok(pending) => pending,
                Err(refused) => return Poll::Ready(Err(refused)),
            },
            Stage::Submitted(pending) => pending,
            Stage::Answered => panic!("a request answers once"),
        };
        let answer = Pin::new(&mut pending).poll(context);
        if answer.is_pending() {
            self.0 = Stage::Submitted(pending);
        }
        answer.map(Ok)
    }
}

impl<S: Request> IntoFuture for Iocb<S> {
    type Output = Result<S::Output, SubmitError<Iocb<S>>>;
    type IntoFuture = Submission<S>;

    fn into_future(self) -> Submission<S> {
        Submission(Stage::Ready(self))
    }
}

impl<S: Request> fmt::Debug for Submission<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Stage::Ready(_) => "Submission(ready)",
            Stage::Submitted(_) => "Submission(submitted)",
            Stage::Answered => "Submission(answered)",
        })
    }
}
