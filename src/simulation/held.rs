//! Handles that a thread of the program has, and the ways to get at their results.

use super::executor::{block_on, poll_once};
use super::ledger::{ended, ledger, violate};
use super::things::{Handle, Memory, holds};
use crate::aio::Aio;
use crate::completion::Completion;
use crate::op::{PollReady, Readiness, Request};
use crate::pending::Pending;
use crate::random::Random;
use std::io;
use std::time::Duration;

/// What comes back of a request.
pub(super) trait Outcome {
    fn result(&self) -> io::Result<usize>;
    /// What was read into memory, where it is known.
    fn read(&self) -> Option<&[u8]> {
        None
    }
}

pub(super) fn copy_of(result: &io::Result<usize>) -> io::Result<usize> {
    match result {
        Ok(count) => Ok(*count),
        Err(error) => Err(error
            .raw_os_error()
            .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)),
    }
}

impl Outcome for Completion<Handle, Memory> {
    fn result(&self) -> io::Result<usize> {
        copy_of(&self.result)
    }

    fn read(&self) -> Option<&[u8]> {
        Some(self.buf.as_ref())
    }
}

impl<const N: usize> Outcome for Completion<Handle, [Memory; N]> {
    fn result(&self) -> io::Result<usize> {
        copy_of(&self.result)
    }
}

impl Outcome for Completion<Handle, ()> {
    fn result(&self) -> io::Result<usize> {
        copy_of(&self.result)
    }
}

impl Outcome for Readiness<Handle> {
    fn result(&self) -> io::Result<usize> {
        match &self.result {
            Ok(_) => Ok(0),
            Err(error) => Err(io::Error::from_raw_os_error(
                error.raw_os_error().unwrap_or(0),
            )),
        }
    }
}

/// The result has come: it is what the kernel said, and the memory holds what was transferred.
pub(super) fn arrived(name: u64, outcome: &impl Outcome) {
    let result = outcome.result();
    ended(name, &result);
    if let (Ok(count), Some(bytes)) = (result, outcome.read())
        && !holds(bytes, name, count)
    {
        violate(format!("request {name} came back with other bytes"));
    }
}

/// A handle, whatever its request is.
pub(super) trait Held {
    fn wait(self: Box<Self>);
    fn wait_timeout(self: Box<Self>, time: Duration) -> Option<Box<dyn Held>>;
    fn block_on(self: Box<Self>);
    fn poll(self: Box<Self>) -> Option<Box<dyn Held>>;
    fn abandon(self: Box<Self>);
    fn cancel(&self);
}

pub(super) struct Handed<S: Request> {
    name: u64,
    /// Under `Dispatch::Manual` a task waits until another thread polls, which may never be.
    is_manual: bool,
    pending: Pending<S>,
    cancel: fn(&Pending<S>),
}

pub(super) fn cancel_poll(pending: &Pending<PollReady<Handle>>) {
    pending.cancel();
}

impl<S: Request> Handed<S>
where
    S::Output: Outcome,
{
    pub(super) fn boxed(
        aio: &Aio,
        name: u64,
        pending: Pending<S>,
        cancel: fn(&Pending<S>),
    ) -> Box<dyn Held> {
        Box::new(Handed {
            name,
            is_manual: aio.engine().is_manual(),
            pending,
            cancel,
        })
    }
}

impl<S: Request> Held for Handed<S>
where
    S::Output: Outcome,
{
    fn wait(self: Box<Self>) {
        arrived(self.name, &self.pending.wait());
    }

    fn wait_timeout(self: Box<Self>, time: Duration) -> Option<Box<dyn Held>> {
        match self.pending.wait_timeout(time) {
            Ok(outcome) => {
                arrived(self.name, &outcome);
                None
            }
            Err(pending) => Some(Box::new(Handed { pending, ..*self })),
        }
    }

    fn block_on(self: Box<Self>) {
        if self.is_manual {
            return self.wait();
        }
        arrived(self.name, &block_on(self.pending));
    }

    fn poll(mut self: Box<Self>) -> Option<Box<dyn Held>> {
        if let Some(outcome) = poll_once(&mut self.pending) {
            arrived(self.name, &outcome);
            return None;
        }
        Some(self)
    }

    fn abandon(self: Box<Self>) {
        ledger(|ledger| ledger.abandon(self.name));
        drop(self);
    }

    fn cancel(&self) {
        (self.cancel)(&self.pending);
    }
}

/// Gets at the results of all, each in a way of its own.
pub(super) fn finish(held: Vec<Box<dyn Held>>, dice: &mut Random) {
    for held in held {
        match dice.roll(3) {
            0 => held.wait(),
            1 => held.block_on(),
            _ => held.abandon(),
        }
    }
}
