//! Whether the files of a context answer inside `io_submit`, and how many submissions of callbacks leave
//! together because of that.
//!
//! A file that answers inside the call (memory, the page cache) does its work on the submitting thread: nothing
//! is gained by submitting early, and each call saved is time won. A device works beside the thread: what is
//! held back for the sake of a call is a place in its queue that stays empty. So there the groups are an eighth
//! of what is in flight: the device never misses more than that.

use crate::sync::{AtomicU32, Ordering};

/// The largest group, and the group where files answer inside the call.
pub(super) const LARGEST: usize = 32;
/// Of requests in flight one in so many is held back at most.
const SHARE: usize = 8;

/// The score at which files count as answering inside the call. Each call whose requests were complete when it
/// returned adds one, up to this.
const CERTAIN: u32 = 16;
/// What other calls take away from the score. At zero the files count as devices. A busy device may have
/// completed as many others meanwhile, and so adds to the score now and then.
const DOUBT: u32 = 4;
/// In the same word: files answer inside the call.
const SYNCHRONOUS: u32 = 1 << 16;

/// What was seen of the files of a context.
#[derive(Debug)]
pub(super) struct Medium(AtomicU32);

impl Medium {
    pub(super) fn new() -> Medium {
        Medium(AtomicU32::new(SYNCHRONOUS | CERTAIN))
    }

    #[inline]
    pub(super) fn is_synchronous(&self) -> bool {
        // Relaxed: a guess; no harm if it is old.
        self.0.load(Ordering::Relaxed) & SYNCHRONOUS != 0
    }

    /// How many submissions leave first in a round. A device need not wait for a second one, whose callback may
    /// be slow.
    #[inline]
    pub(super) fn first_group(&self) -> usize {
        if self.is_synchronous() { LARGEST } else { 1 }
    }

    /// How many submissions leave together, with so many requests in flight.
    #[inline]
    pub(super) fn group(&self, in_flight: usize) -> usize {
        if self.is_synchronous() {
            LARGEST
        } else {
            (in_flight / SHARE).clamp(1, LARGEST)
        }
    }

    /// Takes note of an `io_submit`: whether all of its requests were complete when it returned.
    #[inline]
    pub(super) fn note(&self, answered_inside: bool) {
        // Relaxed: as above. Of two threads at once one may be forgotten.
        let before = self.0.load(Ordering::Relaxed);
        let after = after(before, answered_inside);
        if after != before {
            self.0.store(after, Ordering::Relaxed);
        }
    }
}

fn after(before: u32, answered_inside: bool) -> u32 {
    let (kind, score) = (before & SYNCHRONOUS, before & !SYNCHRONOUS);
    match (answered_inside, score) {
        (true, CERTAIN..) => SYNCHRONOUS | CERTAIN,
        (true, _) => kind | (score + 1),
        (false, ..=DOUBT) => 0,
        (false, _) => kind | (score - DOUBT),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_groups_of_an_eighth_of_what_is_in_flight() {
        let medium = Medium::new();
        assert_eq!((medium.group(1), medium.group(1000)), (LARGEST, LARGEST));
        (0..4).for_each(|_| medium.note(false));
        let groups = [0, 8, 15, 16, 32, 128, 1000].map(|in_flight| medium.group(in_flight));
        assert_eq!(groups, [1, 1, 1, 2, 4, 16, LARGEST]);
    }

    #[test]
    fn one_call_of_the_other_kind_changes_nothing() {
        let medium = Medium::new();
        medium.note(false);
        assert!(medium.is_synchronous());
        (0..4).for_each(|_| medium.note(false));
        assert!(!medium.is_synchronous());
        medium.note(true);
        assert!(!medium.is_synchronous());
    }

    #[test]
    fn files_that_answer_inside_the_call_are_recognised_again() {
        let medium = Medium::new();
        (0..4).for_each(|_| medium.note(false));
        (0..CERTAIN).for_each(|_| medium.note(true));
        assert!(!medium.is_synchronous());
        medium.note(true);
        assert!(medium.is_synchronous());
    }

    /// Three of four calls of a busy device look as if they had been answered inside.
    #[test]
    fn a_device_that_completes_others_meanwhile_stays_a_device() {
        let medium = Medium::new();
        for _ in 0..100 {
            let calls = [true, true, false, true];
            calls.into_iter().for_each(|inside| medium.note(inside));
        }
        assert!(!medium.is_synchronous());
    }
}
