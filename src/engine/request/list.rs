//! A queue of requests, first in first out, linked through their cells: it never allocates.
#![allow(
    unsafe_code,
    reason = "the tail pointer aliases the last node, and each node its neighbour"
)]

use super::cell::Cell;
use super::owned::OwnedCell;

/// The first request owns the second by its link, and so on.
#[derive(Debug, Default)]
pub(crate) struct List {
    first: Option<OwnedCell>,
    /// The last one's cell, to append to.
    last: Option<Cell>,
    len: usize,
    /// Whether one of them may be cancelled while it waits. Only grows, until the list is empty.
    cancellable: bool,
}

impl List {
    pub(crate) const fn new() -> List {
        List {
            first: None,
            last: None,
            len: 0,
            cancellable: false,
        }
    }

    pub(crate) fn of(request: OwnedCell) -> List {
        // SAFETY: `pop` and `unlink` let go of it when they take the last request out.
        let last = unsafe { request.0.share() };
        List {
            cancellable: request.is_cancellable(),
            first: Some(request),
            last: Some(last),
            len: 1,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether a request in it may be one that can be cancelled.
    #[inline]
    pub(crate) fn may_be_cancelled(&self) -> bool {
        self.cancellable
    }

    pub(crate) fn push(&mut self, request: OwnedCell) {
        self.append(List::of(request));
    }

    /// Puts all of `other` behind all of this.
    pub(crate) fn append(&mut self, other: List) {
        let Some(last) = &self.last else {
            *self = other;
            return;
        };
        if let Some(next) = other.first {
            // SAFETY: the list owns its last request, and the link with it.
            let link = unsafe { &mut *last.header().next.get() };
            debug_assert!(link.is_none());
            // SAFETY: as above, for the first of the other list. `pop` and `unlink` let go of it before its
            // cell leaves the list.
            unsafe { *next.0.header().prev.get() = Some(last.share()) };
            *link = Some(next.0);
            self.last = other.last;
            self.len += other.len;
            self.cancellable |= other.cancellable;
        }
    }

    /// The oldest.
    pub(crate) fn pop(&mut self) -> Option<OwnedCell> {
        let mut oldest = self.first.take()?;
        self.first = oldest.take_next();
        match &mut self.first {
            Some(first) => first.clear_prev(),
            None => (self.last, self.cancellable) = (None, false),
        }
        self.len -= 1;
        Some(oldest)
    }

    /// Takes the request of this cell out of the middle.
    ///
    /// # Safety
    /// It is in this list.
    pub(in crate::engine) unsafe fn unlink(&mut self, cell: &Cell) -> OwnedCell {
        // SAFETY: the list owns its requests, and their links with them.
        let (prev, next) = unsafe {
            let header = cell.header();
            ((*header.prev.get()).take(), (*header.next.get()).take())
        };
        if let Some(next) = &next {
            // SAFETY: as above; a neighbour's link is let go of as the list's own are.
            unsafe { *next.header().prev.get() = prev.as_ref().map(|cell| cell.share()) };
        } else {
            // SAFETY: as above.
            self.last = prev.as_ref().map(|cell| unsafe { cell.share() });
        }
        self.len -= 1;
        let own = match &prev {
            // SAFETY: as above. What the link before it held is the ownership of this cell.
            Some(prev) => {
                unsafe { std::mem::replace(&mut *prev.header().next.get(), next) }.map(OwnedCell)
            }
            None => std::mem::replace(&mut self.first, next.map(OwnedCell)),
        };
        self.cancellable &= self.len > 0;
        own.expect("a request is owned by the link before it")
    }

    /// The oldest `most` of them, or all.
    pub(crate) fn split(&mut self, most: usize) -> List {
        if most >= self.len {
            return std::mem::take(self);
        }
        let mut oldest = List::new();
        while oldest.len < most
            && let Some(request) = self.pop()
        {
            oldest.push(request);
        }
        oldest
    }

    /// Takes them off one after the other.
    pub(crate) fn for_each(mut self, mut each: impl FnMut(OwnedCell)) {
        while let Some(request) = self.pop() {
            each(request);
        }
    }

    /// Looks at each, or changes it.
    pub(crate) fn inspect(self, mut look: impl FnMut(&mut OwnedCell)) -> List {
        let mut seen = List::new();
        self.for_each(|mut request| {
            look(&mut request);
            seen.push(request);
        });
        seen
    }
}
