//! Wakers that were taken under a lock, until they may be called without it.

use std::task::Waker;

/// One as a rule; for more there is a vector, which its owner may keep for the next time.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    one: Option<Waker>,
    more: Vec<Waker>,
}

impl Wakers {
    /// Puts one in. `spare` gives its memory, should it be needed.
    #[inline]
    pub(super) fn push(&mut self, waker: Waker, spare: &mut Vec<Waker>) {
        if self.one.is_none() {
            self.one = Some(waker);
            return;
        }
        if self.more.capacity() == 0 {
            self.more = std::mem::take(spare);
        }
        self.more.push(waker);
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.one.is_none()
    }

    /// The newest.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Waker> {
        self.more.pop().or_else(|| self.one.take())
    }

    /// The memory of the vector, if one was needed.
    pub(super) fn spare(&mut self) -> Option<Vec<Waker>> {
        debug_assert!(self.more.is_empty());
        (self.more.capacity() > 0).then(|| std::mem::take(&mut self.more))
    }
}
