//! What the engine has to know of a request, in one byte.

use crate::op::Traits;
use std::sync::atomic::{AtomicU8, Ordering};

/// Marks of a request: what its operation said ([`Traits`]), and whether it is observed. Looking at some of them
/// is one instruction. Not modelled: they change only before the request is accepted.
#[derive(Debug)]
pub(super) struct Marks(AtomicU8);

pub(super) const MAY_GO_ON: u8 = 1;
pub(super) const CANCELLABLE: u8 = 2;
pub(super) const OFFLOAD: u8 = 4;
pub(super) const HAS_EVENTFD: u8 = 8;
/// The observer has a record of it.
pub(super) const OBSERVED: u8 = 16;

impl Marks {
    pub(super) fn of(traits: Traits) -> Marks {
        let mark = |is_so: bool, mark: u8| if is_so { mark } else { 0 };
        Marks(AtomicU8::new(
            mark(traits.may_go_on, MAY_GO_ON)
                | mark(traits.cancellable, CANCELLABLE)
                | mark(traits.offload, OFFLOAD)
                | mark(traits.has_eventfd, HAS_EVENTFD),
        ))
    }

    /// Whether it has one of these.
    #[inline]
    pub(super) fn has(&self, marks: u8) -> bool {
        // Relaxed: the request reached this thread by a synchronising way, after its last mark was set.
        self.0.load(Ordering::Relaxed) & marks != 0
    }

    #[inline]
    pub(super) fn has_none(&self) -> bool {
        !self.has(u8::MAX)
    }

    /// To be called before the request is accepted. Its watcher may be looking for another mark meanwhile.
    pub(super) fn set(&self, mark: u8) {
        // Relaxed: as in `has`.
        self.0.fetch_or(mark, Ordering::Relaxed);
    }
}
