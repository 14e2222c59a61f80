//! A queue of requests, first in first out, linked through their cells: it never allocates.
#![allow(unsafe_code, reason = "the last request is known twice")]

use super::cell::Cell;
use super::request::Request;

/// The first request owns the second by its link, and so on.
#[derive(Debug, Default)]
pub(crate) struct List {
    first: Option<Request>,
    /// The last one's cell, to append to.
    last: Option<Cell>,
    len: usize,
}

impl List {
    pub(crate) const fn new() -> List {
        List {
            first: None,
            last: None,
            len: 0,
        }
    }

    pub(crate) fn of(request: Request) -> List {
        // SAFETY: `pop` lets go of it when it takes the last request out.
        let last = unsafe { request.0.share() };
        List {
            first: Some(request),
            last: Some(last),
            len: 1,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, request: Request) {
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
            *link = Some(next.0);
            self.last = other.last;
            self.len += other.len;
        }
    }

    /// The oldest.
    pub(crate) fn pop(&mut self) -> Option<Request> {
        let mut oldest = self.first.take()?;
        self.first = oldest.take_next();
        if self.first.is_none() {
            self.last = None;
        }
        self.len -= 1;
        Some(oldest)
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
    pub(crate) fn for_each(mut self, mut each: impl FnMut(Request)) {
        while let Some(request) = self.pop() {
            each(request);
        }
    }

    /// Looks at each, or changes it.
    pub(crate) fn inspect(self, mut look: impl FnMut(&mut Request)) -> List {
        let mut seen = List::new();
        self.for_each(|mut request| {
            look(&mut request);
            seen.push(request);
        });
        seen
    }
}
