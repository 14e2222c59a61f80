//! How a stream waits for a request: its thread blocks, or its task is woken.

use crate::op::Work;
use crate::pending::Pending;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How a call waits. All that streams do is written once, in terms of this.
pub(super) enum How<'a, 'b> {
    /// The thread takes the event itself. Nothing is `Pending` then.
    Block,
    /// The task is woken.
    Poll(&'a mut Context<'b>),
}

impl How<'_, '_> {
    /// The outcome of the request, which is taken out of its place; `None` where there is none in it.
    pub(super) fn outcome<S: Work>(
        &mut self,
        place: &mut Option<Pending<S>>,
    ) -> Poll<Option<S::Output>> {
        let Some(pending) = place else {
            return Poll::Ready(None);
        };
        match self {
            How::Block => Poll::Ready(place.take().map(Pending::wait)),
            How::Poll(context) => Pin::new(pending).poll(context).map(|outcome| {
                *place = None;
                Some(outcome)
            }),
        }
    }
}

/// The outcome of a call that blocks.
pub(super) fn ready<T>(outcome: Poll<T>) -> T {
    match outcome {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => unreachable!("what blocks returns when it is done"),
    }
}
