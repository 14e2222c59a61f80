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
        let (plugged, may_block) = plug::take(self.id());
        if plugged.len() > 0 && self.is_here() {
            self.counters
                .add_for_dispatcher(plugged.len().cast_signed());
            if may_block {
                self.send_plugged(plugged);
            } else {
                self.send_elsewhere(plugged);
            }
        }
    }

    /// As `unplug`, for a thread with a deadline: the helper thread submits.
    fn unplug_without_blocking(&self) {
        let (plugged, _) = plug::take(self.id());
        if plugged.len() > 0 && self.is_here() {
            self.counters
                .add_for_dispatcher(plugged.len().cast_signed());
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
    plug::for_each_engine(Engine::unplug);
}

/// As `unplug_all`, for a thread with a deadline: the helper thread submits.
fn unplug_all_without_blocking() {
    plug::for_each_engine(Engine::unplug_without_blocking);
}

/// Calls the one that suits a thread with or without a deadline.
pub(super) fn unplug_all_before(has_deadline: bool) {
    if has_deadline {
        unplug_all_without_blocking();
    } else {
        unplug_all();
    }
}
