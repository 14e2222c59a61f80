//! Some wakers on their way from under the lock to where they may be called.

use std::task::Waker;

/// How many find room without an allocation.
const ROOM: usize = 4;

/// Few as a rule; for more there is a vector, which its owner may keep for the next time.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    few: [Option<Waker>; ROOM],
    more: Vec<Waker>,
}

impl Wakers {
    /// Puts one in. `spare` gives its memory, should it be needed.
    pub(super) fn push(&mut self, waker: Waker, spare: &mut Vec<Waker>) {
        if let Some(place) = self.few.iter_mut().find(|place| place.is_none()) {
            *place = Some(waker);
            return;
        }
        if self.more.capacity() == 0 {
            self.more = std::mem::take(spare);
        }
        self.more.push(waker);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.more.is_empty() && self.few[0].is_none()
    }

    /// The newest. What is left fills the first places.
    pub(super) fn pop(&mut self) -> Option<Waker> {
        self.more
            .pop()
            .or_else(|| self.few.iter_mut().rev().find_map(Option::take))
    }

    /// The memory of the vector, if one was needed.
    pub(super) fn spare(&mut self) -> Option<Vec<Waker>> {
        debug_assert!(self.more.is_empty());
        (self.more.capacity() > 0).then(|| std::mem::take(&mut self.more))
    }
}
