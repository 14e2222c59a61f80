//! Holding back what callbacks submit, and sending it on its way: when a group is together, the round is over, or
//! the thread is about to block.

use super::medium::LARGEST;
use super::request::{List, OwnedCell};
use super::{Engine, plug};
use std::io;

impl Engine {
    /// Holds the request back, if a callback submits it; submits it otherwise. Returns whether `io_submit`
    /// may have been called.
    #[inline]
    pub(super) fn plug_or_send(&self, request: OwnedCell) -> Result<bool, (io::Error, OwnedCell)> {
        match plug::push(self.id(), request) {
            Ok(held_back) if held_back < LARGEST => Ok(false),
            Ok(_) => {
                self.unplug();
                Ok(true)
            }
            Err(request) => {
                unplug_all(); // it may block, inside another context's callback too
                if let Err(forked) = self.check_origin() {
                    return Err((forked.into(), request));
                }
                self.send_for_dispatcher(request).map(|()| true)
            }
        }
    }

    /// Submits what this thread's callbacks have held back so far. In a forked child that is the parent's,
    /// and is forgotten.
    #[inline]
    pub(super) fn unplug(&self) {
        self.unplug_before(false);
    }

    /// As `unplug`. For a thread with a deadline the helper thread submits.
    fn unplug_before(&self, has_deadline: bool) {
        let (plugged, may_block) = plug::take(self.id());
        if plugged.len() == 0 || !self.is_here() {
            return;
        }
        self.counters
            .add_for_dispatcher(plugged.len().cast_signed());
        if may_block && !has_deadline {
            self.send_plugged(plugged);
        } else {
            self.send_elsewhere(plugged);
        }
    }

    /// Requests that were accepted are submitted by the helper thread, in their order.
    pub(super) fn send_elsewhere(&self, accepted: List) {
        if accepted.len() > 0 {
            self.backlog.push(accepted);
            self.pump_elsewhere();
        }
    }
}

/// Submits all that this thread's callbacks have held back, for every engine. To be called before the thread
/// blocks, whatever it waits for.
#[inline]
pub(super) fn unplug_all() {
    unplug_all_before(false);
}

/// As `unplug_all`. For a thread with a deadline the helper thread submits.
pub(super) fn unplug_all_before(has_deadline: bool) {
    plug::for_each_engine(|engine| engine.unplug_before(has_deadline));
}
