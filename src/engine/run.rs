//! Rounds of the dispatcher: the completion thread's life, and `poll`.

use super::Engine;
use super::account::is_over;
use super::reap::MOST;
use super::roles::{DISPATCHER, Role, Submits};
use super::wait::Sleep;
use crate::dispatch::Dispatch;
use crate::error::AioError;
use crate::sync::{Parker, Taken, now};
use crate::user_code;
use std::io;
use std::time::{Duration, Instant};

/// How long the completion thread stays in the kernel after nothing needs it any more, in case a callback or a
/// future is submitted soon. Not after it has only stored results for threads that wait: it would wake for each
/// of their events, and take them from under their hands.
const LINGER: Duration = Duration::from_millis(10);

impl Engine {
    /// The completion thread's life (I8): it waits only for events and for the inbox, and panics of user code
    /// are caught. In a forked child it returns at once.
    pub(super) fn run(&self) {
        let parker = Parker::current();
        let role = Role::DISPATCHER;
        while self.is_here() && !self.is_finished() {
            if self.poll_once(role, usize::MAX) > 0 {
                continue;
            }
            if !self.is_here() {
                return;
            }
            if self.counters.needs_dispatcher() && !self.is_lost() {
                self.park(role, MOST, &Sleep::until(None), &parker);
            } else if self.dispatcher.take_delivery() && !self.is_lost() {
                self.park(role, MOST, &Sleep::until(Some(now() + LINGER)), &parker);
            } else {
                self.park_idle(&parker);
            }
        }
    }

    /// One round of the dispatcher, with at most `most` requests. Returns how many came to their end.
    fn poll_once(&self, role: Role, most: usize) -> usize {
        if self.inbox.is_empty() {
            return self.reap(role, most.min(MOST));
        }
        let callbacks = self.inbox.take_callbacks(most);
        let delivered = callbacks.len();
        if self.dispatch(callbacks, role) && self.run_deferred() {
            return delivered + self.reap(role, (most - delivered).min(MOST));
        }
        delivered
    }

    /// For `Dispatch::Manual`: see [`crate::Aio::poll`].
    pub(crate) fn poll(
        &self,
        min: usize,
        max: usize,
        timeout: Option<Duration>,
    ) -> Result<usize, AioError> {
        self.check_poll()?;
        let delivered = self.poll_for(min, max, timeout.is_some(), &sleep_for(timeout, None));
        self.check_origin().map(|()| delivered)
    }

    /// As `poll`, with a signal mask in force while it sleeps: see [`crate::Aio::poll_with_mask`].
    pub(crate) fn poll_with_mask(
        &self,
        min: usize,
        max: usize,
        timeout: Option<Duration>,
        mask: u64,
    ) -> io::Result<usize> {
        self.check_poll()?;
        let sleep = sleep_for(timeout, Some(mask));
        let delivered = self.poll_for(min, max, timeout.is_some(), &sleep);
        self.check_origin()?;
        match sleep.errno() {
            Some(errno) if errno != libc::EINTR && delivered == 0 => {
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => Ok(delivered),
        }
    }

    fn check_poll(&self) -> Result<(), AioError> {
        self.check_origin()?;
        if self.dispatch != Dispatch::Manual {
            return Err(AioError::NotManual);
        }
        if user_code::must_not_block() {
            return Err(AioError::WouldDeadlock);
        }
        Ok(())
    }

    fn poll_for(&self, min: usize, max: usize, is_bounded: bool, sleep: &Sleep) -> usize {
        let role = Role::DISPATCHER.before(is_bounded, Submits::OfCallbacks);
        self.poll_as_dispatcher(role, min, max, sleep)
    }

    fn poll_as_dispatcher(&self, role: Role, min: usize, max: usize, sleep: &Sleep) -> usize {
        let Some(poller) = self.become_poller(min, sleep.deadline()) else {
            return 0;
        };
        let mut delivered = self.poll_once(role, max);
        if self.is_here() && delivered < min.min(max) && self.outstanding() > 0 {
            delivered += self.park_and_poll(role, min - delivered, max - delivered, sleep);
        }
        if !self.is_here() {
            std::mem::forget(poller);
            return delivered;
        }
        if self.is_finished() {
            self.finish();
        }
        drop(poller);
        self.run_deferred();
        delivered
    }

    /// A second thread waits for its turn, unless `min` is 0.
    fn become_poller(&self, min: usize, deadline: Option<Instant>) -> Option<Taken<'_>> {
        match min {
            0 => self.poller.try_take(),
            _ => self.poller.take_until(deadline),
        }
    }

    /// The part of `poll` that may sleep.
    fn park_and_poll(&self, role: Role, min: usize, max: usize, sleep: &Sleep) -> usize {
        let parker = Parker::current();
        self.dispatcher.adopt(&parker);
        let _listening = self.counters.listen();
        let mut delivered = 0;
        while delivered < min.min(max) && self.outstanding() > 0 && !is_over(sleep.deadline()) {
            delivered += self.park(role, max - delivered, sleep, &parker);
            if self.is_here() {
                delivered += self.poll_once(role, max.saturating_sub(delivered));
            }
            if !self.is_here() || self.is_lost() {
                return delivered;
            }
            if sleep.errno().is_some() {
                break;
            }
        }
        self.roles.pass_lead(DISPATCHER);
        delivered
    }

    /// Polls until nothing is outstanding. Returns `false` if the time is over before, if no more events can
    /// come, or in a forked child.
    pub(super) fn poll_until_idle(&self, deadline: Option<Instant>) -> bool {
        let role = Role::DISPATCHER.before(deadline.is_some(), Submits::Nothing);
        loop {
            if !self.is_here() || self.is_lost() {
                return false;
            }
            if self.outstanding() == 0 && self.inbox.is_empty() {
                return true;
            }
            if is_over(deadline) {
                return false;
            }
            self.poll_as_dispatcher(role, 1, usize::MAX, &Sleep::until(deadline));
        }
    }
}

/// A timeout beyond what the clock can hold is none.
fn sleep_for(timeout: Option<Duration>, mask: Option<u64>) -> Sleep {
    let deadline = timeout.and_then(|timeout| now().checked_add(timeout));
    Sleep::until(deadline).with_mask(mask)
}
