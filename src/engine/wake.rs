//! Waking the thread that sleeps for something. The rules of sleeping are in `wait`.

use super::Engine;
use super::roles::DISPATCHER;
use crate::sync::sleep;
use crate::user_code;
use std::time::Duration;

/// How often the wake-up is tried, about a millisecond apart.
const WAKE_TRIES: u32 = 1000;

impl Engine {
    /// To be called after something for the dispatcher became true. The dispatcher wakes and looks.
    pub(super) fn wake_dispatcher(&self) {
        self.dispatcher.wake();
        self.interrupt_leader(DISPATCHER);
    }

    /// To be called after a request was counted that no waiting thread will reap, so the dispatcher must
    /// watch the ring for it.
    #[inline]
    pub(super) fn wake_idle_dispatcher(&self) {
        if self.counters.needs_dispatcher() {
            self.dispatcher.wake_idle();
        }
    }

    /// Sends the wake-up, if `tag` leads (rule 3).
    pub(super) fn interrupt_leader(&self, tag: u64) {
        if self.roles.leader() == tag && self.roles.begin_wake() {
            self.send_wake(tag);
        }
    }

    /// A slot is kept for the wake-up, so EAGAIN means that the kernel lacks memory. The wake-up is tried
    /// again for about a second, as long as `tag` leads.
    fn send_wake(&self, tag: u64) {
        for _ in 0..WAKE_TRIES {
            let Some(sent) = self.end.unless_gone(|| self.kernel.wake()) else {
                return; // nobody sleeps any more
            };
            match sent {
                Ok(()) => return,
                Err(libc::EAGAIN) if self.roles.leader() == tag => sleep(Duration::from_millis(1)),
                Err(_) => break,
            }
        }
        self.roles.wake_arrived();
        if self.roles.leader() == tag {
            user_code::error(format_args!(
                "{}: the wake-up of a sleeping thread can't be submitted: it sleeps on until the next completion",
                self.name()
            ));
        }
    }
}
