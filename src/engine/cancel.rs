//! Cancelling what can be cancelled: polls.
//!
//! The kernel knows a request by the address of its iocb, and a canceller holds the request's `Watch`: the
//! cell is not given back meanwhile, so no other request can have come to live there. What is not with the
//! kernel yet is cancelled by a word between canceller and submitter.

use super::Engine;
use super::list::List;
use super::reap::MOST;
use super::sleep::NOBODY;
use super::submit::Refusal;
use super::watch::Watch;
use crate::op::Work;
use crate::sync::{sleep, yield_now};
use std::time::Duration;

/// How often the kernel is asked at once, before the canceller pauses between its questions.
const PROMPT: u32 = 100;

impl Engine {
    /// Cancels the request, or finds it done. `false`: it was done.
    pub(crate) fn cancel<W: Work>(&self, watch: &Watch<W>) -> bool {
        self.flush();
        for round in 0_u32.. {
            if watch.is_done() {
                return false;
            }
            if watch.cancel_before_submission() {
                self.complete_cancelled();
                return true;
            }
            if watch.cancel_in(&self.kernel) {
                return true;
            }
            // Its event is on the ring, or another thread is inside io_submit with it.
            self.reap(NOBODY, MOST);
            pause(round);
        }
        false
    }
}

impl Engine {
    /// What waits in the backlog needs no slot to be cancelled.
    fn complete_cancelled(&self) {
        let cancelled = self.backlog.take_cancelled();
        let count = cancelled.len();
        let mut late = List::new();
        cancelled.for_each(|request| {
            late.push(self.refuse_late(request, Refusal::Errno(libc::ECANCELED)))
        });
        self.backlog.forget(count);
        self.fail(late);
    }
}

fn pause(round: u32) {
    if round < PROMPT {
        yield_now();
    } else {
        sleep(Duration::from_millis(1));
    }
}
