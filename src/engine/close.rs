//! Waiting for silence, and the end: refuse new requests, drain, stop the thread, destroy the context.

use super::sleep::is_over;
use super::{Engine, gather};
use crate::dispatch::Dispatch;
use crate::error::AioError;
use crate::sync::{Condvar, Mutex, now};
use std::time::{Duration, Instant};

/// Where threads wait until nothing is outstanding.
#[derive(Debug)]
pub(super) struct Silence {
    lock: Mutex<()>,
    came: Condvar,
}

impl Silence {
    pub(super) fn new() -> Silence {
        Silence {
            lock: Mutex::new(()),
            came: Condvar::new(),
        }
    }
}

impl Engine {
    /// Waits until nothing is outstanding, or the time is over.
    pub(crate) fn drain(&self, deadline: Option<Instant>) -> Result<(), AioError> {
        self.check_origin()?;
        gather::flush_all();
        if self.is_waited_for_here() {
            return Err(AioError::WouldDeadlock);
        }
        let silent = match self.dispatch {
            Dispatch::Manual => self.poll_until_silent(deadline),
            Dispatch::Thread | Dispatch::Anywhere => self.await_silence(deadline),
        };
        if silent {
            Ok(())
        } else {
            Err(AioError::TimedOut)
        }
    }

    /// Whether this thread is in the middle of something that must end before the engine can be silent.
    pub(crate) fn is_waited_for_here(&self) -> bool {
        gather::is_running_here(self.id())
            || (self.dispatch != Dispatch::Manual && self.dispatcher.is_this_thread())
    }

    fn poll_until_silent(&self, deadline: Option<Instant>) -> bool {
        loop {
            if self.outstanding() == 0 {
                return true;
            }
            if is_over(deadline) {
                return false;
            }
            self.poll_as_dispatcher(1, usize::MAX, deadline);
        }
    }

    fn await_silence(&self, deadline: Option<Instant>) -> bool {
        let _listening = self.tally.listen();
        let mut guard = self.silence.lock.lock();
        while self.outstanding() > 0 {
            match deadline {
                None => self.silence.came.wait(&mut guard),
                Some(deadline) if is_over(Some(deadline)) => return false,
                Some(deadline) => {
                    self.silence.came.wait_until(&mut guard, deadline);
                }
            }
        }
        true
    }

    /// Requests accepted and not completed: never too few, and not zero unless there was a moment without
    /// any.
    pub(super) fn outstanding(&self) -> u64 {
        loop {
            let before = (self.backlog.pushes(), self.slots.moves());
            // In the order in which a request goes its way, so that none is missed by moving forward.
            let sum = self.backlog.len() as u64 + self.slots.in_use() + self.tally.in_hand();
            // One that came in behind our back (from a callback, or back from the kernel's side) took a slot,
            // or was pushed.
            if sum > 0 || before == (self.backlog.pushes(), self.slots.moves()) {
                return sum;
            }
        }
    }

    /// Tells whoever waits for it that nothing is outstanding, if it is so. For whoever has completed
    /// something.
    #[inline]
    pub(super) fn report_if_silent(&self) {
        if self.tally.has_listeners() && self.outstanding() == 0 {
            // Through the lock: who found something outstanding is asleep by the time we have it.
            drop(self.silence.lock.lock());
            self.silence.came.notify_all();
            self.rouse_dispatcher();
        }
    }

    /// Whether the dispatcher may end: it was told to, and nothing is outstanding.
    pub(super) fn is_finished(&self) -> bool {
        self.tally.is_stopping() && self.outstanding() == 0
    }

    /// Whether the dispatcher has nothing to sleep for: the thread when it may end, a thread in `poll` when
    /// nothing can come.
    pub(super) fn is_silent_for_dispatcher(&self) -> bool {
        (self.dispatch == Dispatch::Manual || self.tally.is_stopping()) && self.outstanding() == 0
    }

    /// Refuses new requests from now on.
    pub(crate) fn close(&self) {
        self.tally.close();
    }

    /// Ends the engine once nothing is outstanding; waits for that, unless not `joined`. Without a thread it
    /// drains on this one. New requests must be refused already, or impossible.
    pub(crate) fn stop(&self, joined: bool) {
        // In a forked child the thread and the context are the parent's. Stopped before: somebody is at it,
        // or has given up waiting.
        if !self.origin.is_here() || self.tally.stop() {
            return;
        }
        if self.dispatch == Dispatch::Manual {
            // Dropped by a callback in `poll`, or given up: the `poll` that finds nothing outstanding ends
            // it.
            if joined && !gather::is_running_here(self.id()) {
                self.poll_until_silent(None);
                let _after_the_last_poll = self.poller.lock();
                self.tear_down();
            }
            return;
        }
        self.rouse_dispatcher();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && joined
            && !self.dispatcher.is_this_thread()
        {
            // If it panicked it has said so, and there is nobody else to tell.
            let _ = thread.join();
        }
    }

    /// Drains and stops within the time given. Past it everything goes on in the background, and nothing is
    /// freed before it is complete.
    pub(crate) fn shut_down(&self, deadline: Option<Instant>) -> Result<(), AioError> {
        self.close();
        if let Err(error) = self.drain(deadline) {
            if error == AioError::TimedOut {
                let left = self.outstanding();
                log::warn!(
                    "shutdown past its deadline: {left} requests are outstanding and keep their files and buffers"
                );
                self.stop(false);
            }
            return Err(error);
        }
        self.stop(true);
        Ok(())
    }

    /// For `Dispatch::Manual`: see [`crate::Aio::poll`].
    pub(crate) fn poll(
        &self,
        min: usize,
        max: usize,
        timeout: Option<Duration>,
    ) -> Result<usize, AioError> {
        self.check_origin()?;
        if self.dispatch != Dispatch::Manual {
            return Err(AioError::NotManual);
        }
        if gather::is_running_here(self.id()) {
            return Err(AioError::WouldDeadlock);
        }
        gather::flush_all();
        // A timeout beyond what the clock can hold is none.
        let deadline = timeout.and_then(|timeout| now().checked_add(timeout));
        Ok(self.poll_as_dispatcher(min, max, deadline))
    }

    fn poll_as_dispatcher(&self, min: usize, max: usize, deadline: Option<Instant>) -> usize {
        let Some(_poller) = self.become_poller(deadline) else {
            return 0;
        };
        let mut delivered = self.turn(max);
        if delivered < min.min(max) && self.outstanding() > 0 {
            delivered += self.rest_and_turn(min - delivered, max - delivered, deadline);
        }
        if self.is_finished() {
            self.tear_down();
        }
        delivered
    }

    /// The part of `poll` that may sleep.
    fn rest_and_turn(&self, min: usize, max: usize, deadline: Option<Instant>) -> usize {
        self.dispatcher.adopt();
        let _listening = self.tally.listen();
        let mut delivered = 0;
        while delivered < min.min(max) && self.outstanding() > 0 && !is_over(deadline) {
            delivered += self.rest(max - delivered, deadline);
            delivered += self.turn(max.saturating_sub(delivered));
        }
        self.roles.hand_on(super::sleep::DISPATCHER);
        delivered
    }
}
