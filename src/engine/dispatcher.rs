//! The thread that runs callbacks: the completion thread, or the one that is in `poll`.

use crate::sync::{AtomicBool, AtomicU32, Mutex, Ordering, Parker};
use std::sync::Arc;
use std::time::Instant;

/// Running, or leading.
const AWAKE: u32 = 0;
/// Parked with nothing to wait for: the next submission that needs it wakes it.
pub(super) const IDLE: u32 = 1;
/// Parked as a follower: the leader wakes it when it has callbacks for it, or when it steps down.
pub(super) const FOLLOWING: u32 = 2;

#[derive(Debug)]
pub(super) struct Dispatcher {
    state: AtomicU32,
    parker: Mutex<Option<Arc<Parker>>>,
    /// Callbacks or wakers were called since it was asked last.
    delivered: AtomicBool,
}

impl Dispatcher {
    pub(super) fn new() -> Dispatcher {
        Dispatcher {
            state: AtomicU32::new(AWAKE),
            parker: Mutex::new(None),
            delivered: AtomicBool::new(false),
        }
    }

    /// A thread calls callbacks or wakers.
    #[inline]
    pub(super) fn note_delivery(&self) {
        // Relaxed, here and below: decides only how soon the dispatcher parks.
        if !self.delivered.load(Ordering::Relaxed) {
            self.delivered.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a thread did since this was asked last.
    pub(super) fn take_delivery(&self) -> bool {
        let delivered = self.delivered.load(Ordering::Relaxed);
        if delivered {
            self.delivered.store(false, Ordering::Relaxed);
        }
        delivered
    }

    /// Makes this thread the dispatcher.
    pub(super) fn adopt(&self, parker: &Arc<Parker>) {
        *self.parker.lock() = Some(Arc::clone(parker));
    }

    /// Sleeps until `ready` returns true, or until the deadline.
    pub(super) fn park(
        &self,
        state: u32,
        deadline: Option<Instant>,
        parker: &Parker,
        ready: impl Fn() -> bool,
    ) {
        // SeqCst: announce, then look; see `wake` and `Counters::add_for_dispatcher`.
        self.state.store(state, Ordering::SeqCst);
        while !ready() && parker.park(deadline) {}
        // SeqCst as before; a thread that still sees it parked unparks it once too often, which is harmless.
        self.state.store(AWAKE, Ordering::SeqCst);
    }

    /// To be called after something for the dispatcher became true: if it is parked, it wakes and looks.
    pub(super) fn wake(&self) {
        // SeqCst: the other half of `park`.
        if self.state.load(Ordering::SeqCst) != AWAKE {
            self.unpark();
        }
    }

    /// As `wake`, for what concerns only a dispatcher that had nothing to wait for.
    #[inline]
    pub(super) fn wake_idle(&self) {
        // SeqCst: as in `wake`.
        if self.state.load(Ordering::SeqCst) == IDLE {
            self.unpark();
        }
    }

    fn unpark(&self) {
        if let Some(parker) = &*self.parker.lock() {
            parker.unpark();
        }
    }
}
