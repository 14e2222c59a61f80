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
    /// Whether one of them may be cancelled while it waits, or is observed. Stays true until the list is empty.
    /// Only then the links back are kept: only what is cancelled is taken out of the middle.
    followed: bool,
}

impl List {
    pub(crate) const fn new() -> List {
        List {
            first: None,
            last: None,
            len: 0,
            followed: false,
        }
    }

    pub(crate) fn of(request: OwnedCell) -> List {
        List {
            followed: request.is_followed(),
            last: Some(share(&request.0)),
            first: Some(request),
            len: 1,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether a request in it may be one that can be cancelled, or that is observed.
    #[inline]
    pub(crate) fn is_followed(&self) -> bool {
        self.followed
    }

    /// The numbers of all requests in it.
    pub(crate) fn tags(&self) -> impl Iterator<Item = u64> {
        let first = self.first.as_ref().map(|first| &first.0);
        // SAFETY: the links are the list's own, which is borrowed: none changes meanwhile.
        let next = |cell: &&Cell| unsafe { &*cell.header().next.get() }.as_ref();
        std::iter::successors(first, next).map(Cell::tag)
    }

    #[inline]
    pub(crate) fn push(&mut self, request: OwnedCell) {
        self.len += 1;
        self.followed |= request.is_followed();
        let Some(last) = self.last.replace(share(&request.0)) else {
            self.first = Some(request);
            return;
        };
        if self.followed {
            set_prev(&request.0, Some(&last));
        }
        let behind = replace_next(&last, Some(request.0));
        debug_assert!(behind.is_none());
    }

    /// Puts all of `other` behind all of this.
    #[inline]
    pub(crate) fn append(&mut self, other: List) {
        let Some(last) = &self.last else {
            *self = other;
            return;
        };
        if let Some(next) = other.first {
            self.followed |= other.followed;
            if self.followed {
                set_prev(&next.0, Some(last));
            }
            let behind = replace_next(last, Some(next.0));
            debug_assert!(behind.is_none());
            self.last = other.last;
            self.len += other.len;
        }
    }

    /// The oldest.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<OwnedCell> {
        let oldest = self.first.take()?;
        self.first = replace_next(&oldest.0, None).map(OwnedCell);
        match &self.first {
            Some(first) if self.followed => set_prev(&first.0, None),
            Some(_) => {}
            None => (self.last, self.followed) = (None, false),
        }
        self.len -= 1;
        Some(oldest)
    }

    /// Takes the request of this cell out of the middle.
    ///
    /// # Safety
    /// It is in this list, and can be cancelled.
    pub(in crate::engine) unsafe fn unlink(&mut self, cell: &Cell) -> OwnedCell {
        let (prev, next) = (take_prev(cell), replace_next(cell, None));
        match &next {
            Some(next) => set_prev(next, prev.as_ref()),
            None => self.last = prev.as_ref().map(share),
        }
        // The link before it owns it.
        let own = match &prev {
            Some(prev) => replace_next(prev, next).map(OwnedCell),
            None => std::mem::replace(&mut self.first, next.map(OwnedCell)),
        };
        self.len -= 1;
        self.followed &= self.len > 0;
        let own = own.expect("a request is owned by the link before it");
        debug_assert!(own.0 == *cell);
        own
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
    #[inline]
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

// The links of a cell belong to the owner of the cell, and that is the list: each of these is called for a
// cell that is in the list, or on its way in or out.

fn replace_next(cell: &Cell, next: Option<Cell>) -> Option<Cell> {
    // SAFETY: the list owns the cell, and no reference to the link is kept anywhere.
    std::mem::replace(unsafe { &mut *cell.header().next.get() }, next)
}

fn set_prev(cell: &Cell, prev: Option<&Cell>) {
    // SAFETY: as in `replace_next`.
    unsafe { *cell.header().prev.get() = prev.map(share) }
}

fn take_prev(cell: &Cell) -> Option<Cell> {
    // SAFETY: as in `replace_next`.
    unsafe { &mut *cell.header().prev.get() }.take()
}

fn share(cell: &Cell) -> Cell {
    // SAFETY: a neighbour's link to it, or the list's to its last, is replaced before it leaves the list.
    unsafe { cell.share() }
}
