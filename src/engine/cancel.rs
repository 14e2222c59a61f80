//! Cancelling what waits for readiness, or has not left yet.

use super::Engine;
use super::polls::Cancelled;
use super::reap::MOST;
use super::request::Watch;
use super::roles::Role;
use super::unplug::unplug_all;
use crate::op::Work;
use crate::sync::{sleep, yield_now};
use std::time::Duration;

/// How often the canceller asks the kernel without a pause, before it sleeps between its tries.
const PROMPT: u32 = 100;

/// The number by which a request with a callback can be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId {
    pub(super) tag: u64,
    pub(super) serial: u64,
}

impl Engine {
    /// Cancels the request. Returns `false` if it is complete already. Blocks while another thread is inside
    /// `io_submit` with it.
    pub(crate) fn cancel<W: Work>(&self, watch: &Watch<W>) -> bool {
        if !watch.is_done() && watch.cancel_unsubmitted() {
            return true;
        }
        unplug_all();
        let mut has_asked = false;
        for round in 0.. {
            if !self.is_here() || self.is_lost() || self.is_gone_by(round) {
                return false; // user code has forked, or no event will come
            }
            // A submitter may have cancelled it for this thread meanwhile.
            if watch.is_done() {
                return has_asked && watch.was_cancelled();
            }
            match self.try_cancel(watch.tag(), None) {
                Some(true) => return true,
                // Its reaper has it, and has not stored the result yet.
                Some(false) => {}
                None => has_asked = true,
            }
            self.reap(Role::BYSTANDER, MOST);
            pause(round);
        }
        false
    }

    /// Cancels a request that has a callback. Returns `false` if it is complete.
    pub(crate) fn cancel_by_id(&self, id: RequestId) -> bool {
        unplug_all();
        for round in 0.. {
            if !self.is_here() || self.is_lost() || self.is_gone_by(round) {
                return false; // user code has forked, or no event will come
            }
            if let Some(cancelled) = self.try_cancel(id.tag, Some(id.serial)) {
                return cancelled;
            }
            self.reap(Role::BYSTANDER, MOST);
            pause(round);
        }
        false
    }

    /// Whether another part of the process has destroyed the context. Asked late: the next round of most
    /// cancellations is their last.
    fn is_gone_by(&self, round: u32) -> bool {
        round >= PROMPT && !self.kernel.is_alive()
    }

    /// Cancels the request as soon as that is possible. Does not block.
    pub(crate) fn cancel_soon<W: Work>(&self, watch: &Watch<W>) {
        self.try_cancel(watch.tag(), None);
    }

    /// Returns whether the request was cancelled; `None` if another thread is inside `io_submit` with it, or
    /// its event is on the ring.
    fn try_cancel(&self, tag: u64, serial: Option<u64>) -> Option<bool> {
        match self.polls.cancel(tag, serial, &self.backlog, &self.kernel) {
            Cancelled::Queued(request) => {
                self.complete_cancelled(vec![request]);
                self.run_deferred();
                Some(true)
            }
            Cancelled::InKernel => Some(true),
            Cancelled::Later => None,
            Cancelled::Over => Some(false),
        }
    }

    /// Cancels all polls, as the kernel does at the end of a context.
    pub(crate) fn cancel_all(&self) {
        self.complete_cancelled(self.polls.retry(true, &self.backlog, &self.kernel));
        self.run_deferred();
    }
}

fn pause(round: u32) {
    if round < PROMPT {
        yield_now();
    } else {
        sleep(Duration::from_millis(1));
    }
}
