//! Requests that pass through one `io_submit` after the other.

use super::refusal::Refusal;
use super::request::{List, Outgoing, OwnedCell};
use crate::sys::Kernel;

/// At most N of them, oldest first.
#[derive(Debug)]
pub(super) struct IocbArray<const N: usize> {
    /// Those before `next` are the kernel's, or were taken out. Those from `next` to `end` are ours.
    requests: [Option<Outgoing>; N],
    next: usize,
    end: usize,
    /// Whether one of them can be cancelled, or is observed.
    followed: bool,
    at_refusal: AtRefusal,
}

/// What becomes of the requests behind one that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtRefusal {
    GoOn,
    Stop,
    /// One was refused.
    Stopped,
}

impl<const N: usize> IocbArray<N> {
    /// The first `count` of `list`, but at most N.
    #[inline]
    pub(super) fn of(list: &mut List, count: usize) -> IocbArray<N> {
        let mut array = IocbArray {
            requests: [const { None }; N],
            next: 0,
            end: 0,
            followed: list.is_followed(),
            at_refusal: AtRefusal::GoOn,
        };
        while array.end < count.min(N)
            && let Some(request) = list.pop()
        {
            array.requests[array.end] = Some(Outgoing::of(request));
            array.end += 1;
        }
        array
    }

    /// Whether one of them can be cancelled, or is observed.
    #[inline]
    pub(super) fn is_followed(&self) -> bool {
        self.followed
    }

    /// The numbers of those that are still ours and are observed.
    pub(super) fn observed(&self) -> impl Iterator<Item = u64> {
        let ours = self.requests[self.next..self.end].iter();
        ours.flatten().filter_map(Outgoing::observed)
    }

    /// From now on what stands behind a refused one is not submitted.
    pub(super) fn stop_at_refusal(&mut self) {
        self.at_refusal = AtRefusal::Stop;
    }

    /// Whether one was refused, and the others were to stop there.
    pub(super) fn has_stopped(&self) -> bool {
        self.at_refusal == AtRefusal::Stopped
    }

    /// One of them was refused: refuses those behind it, if they were to stop there.
    pub(super) fn refuse_behind(&mut self, refused: &mut impl FnMut(OwnedCell, Refusal)) {
        if self.at_refusal == AtRefusal::Stop {
            self.at_refusal = AtRefusal::Stopped;
            std::iter::from_fn(|| self.pop()).for_each(|request| refused(request, Refusal::Behind));
        }
    }

    /// How many are still ours.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.end - self.next
    }

    /// Calls `io_submit` with at most `most` requests that are still ours. Those that it accepts cease to be
    /// ours before the call returns (I3).
    #[inline]
    pub(super) fn submit(&mut self, kernel: &Kernel, most: usize) -> Result<usize, i32> {
        let end = self.end.min(self.next.saturating_add(most));
        let accepted = Outgoing::submit(&mut self.requests[self.next..end], kernel)?;
        self.next += accepted;
        Ok(accepted)
    }

    /// Returns descriptor and opcode of the head of the array, for the log.
    #[inline]
    pub(super) fn head(&self) -> Option<(u32, u16)> {
        let head = self.requests[self.next..self.end].first()?;
        head.as_ref().map(Outgoing::name)
    }

    /// Takes out the oldest that is still ours.
    pub(super) fn pop(&mut self) -> Option<OwnedCell> {
        let oldest = self.requests[self.next..self.end].first_mut()?.take();
        self.next += 1;
        oldest.map(Outgoing::into_request)
    }

    /// All that is still ours, as a list.
    pub(super) fn rest(&mut self) -> List {
        let mut list = List::new();
        while let Some(request) = self.pop() {
            list.push(request);
        }
        list
    }
}

impl From<OwnedCell> for IocbArray<1> {
    #[inline]
    fn from(request: OwnedCell) -> IocbArray<1> {
        IocbArray {
            followed: request.is_followed(),
            at_refusal: AtRefusal::GoOn,
            requests: [Some(Outgoing::of(request))],
            next: 0,
            end: 1,
        }
    }
}
