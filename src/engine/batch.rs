//! Requests on their way through one `io_submit` after the other.

use super::list::List;
use super::request::{Outgoing, Request};
use crate::sys::Kernel;

/// At most N of them, oldest first.
#[derive(Debug)]
pub(crate) struct Batch<const N: usize> {
    /// Before `next` the kernel has them, or they were taken out; up to `end` they are ours.
    requests: [Option<Outgoing>; N],
    next: usize,
    end: usize,
    /// Cancelled before they were submitted.
    cancelled: List,
}

impl<const N: usize> Batch<N> {
    /// The first `count` of `list`, but at most N.
    pub(crate) fn of(list: &mut List, count: usize) -> Batch<N> {
        let mut batch = Batch {
            requests: [const { None }; N],
            next: 0,
            end: 0,
            cancelled: List::new(),
        };
        for _ in 0..count.min(N) {
            let Some(request) = list.pop() else { break };
            batch.add(request);
        }
        batch
    }

    fn add(&mut self, request: Request) {
        match Outgoing::of(request) {
            Ok(outgoing) => {
                self.requests[self.end] = Some(outgoing);
                self.end += 1;
            }
            Err(cancelled) => self.cancelled.push(cancelled),
        }
    }

    /// What was cancelled instead of being submitted.
    pub(crate) fn take_cancelled(&mut self) -> List {
        std::mem::take(&mut self.cancelled)
    }

    /// How many are still ours.
    pub(crate) fn len(&self) -> usize {
        self.end - self.next
    }

    /// One `io_submit` of at most `most` of what is still ours. What it accepts is ours no more, from before
    /// the call returns (I3).
    pub(crate) fn submit(&mut self, kernel: &Kernel, most: usize) -> Result<usize, i32> {
        let end = self.end.min(self.next.saturating_add(most));
        let accepted = Outgoing::submit(&mut self.requests[self.next..end], kernel)?;
        self.next += accepted;
        Ok(accepted)
    }

    /// What the head of the batch is, for the log: its descriptor and opcode.
    pub(crate) fn head(&self) -> Option<(u32, u16)> {
        let head = self.requests[self.next..self.end].first()?;
        head.as_ref().map(Outgoing::name)
    }

    /// Takes out the oldest that is still ours.
    pub(crate) fn pop(&mut self) -> Option<Request> {
        let oldest = self.requests[self.next..self.end].first_mut()?.take();
        self.next += 1;
        oldest.map(Outgoing::into_request)
    }

    /// All that is still ours, as a list.
    pub(crate) fn rest(mut self) -> List {
        let mut list = List::new();
        while let Some(request) = self.pop() {
            request.take_back_from_hand();
            list.push(request);
        }
        list
    }
}
