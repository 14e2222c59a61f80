//! Tasks that wait for a buffer, oldest first.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

/// Each task has a number, in the order in which the tasks came, and keeps it until it has a buffer or waits
/// no longer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    last: u64,
    /// Those that sleep, and by what they are woken.
    asleep: BTreeMap<u64, Waker>,
    /// Those that were woken and have not looked yet.
    woken: BTreeSet<u64>,
}

/// A task that waits, or will: its number, once it has one.
#[derive(Debug, Default)]
pub(super) struct Place(Option<u64>);

impl Queue {
    /// Whether one of `free` buffers is left for a task in this place, behind those that came before.
    pub(super) fn is_turn_of(&self, place: &Place, free: usize) -> bool {
        let end = place.0.unwrap_or(u64::MAX);
        let woken = self.woken.range(..end).take(free).count();
        let asleep = self.asleep.range(..end).take(free).count();
        woken + asleep < free
    }

    /// The task sleeps, in its old place if it has one. Returns its waker before.
    pub(super) fn sleep(&mut self, place: &mut Place, waker: Waker) -> Option<Waker> {
        let number = *place.0.get_or_insert_with(|| {
            self.last += 1;
            self.last
        });
        self.woken.remove(&number);
        self.asleep.insert(number, waker)
    }

    /// The task waits no longer. Returns its waker if it slept, and otherwise `None`: it had been woken.
    pub(super) fn leave(&mut self, place: &mut Place) -> Option<Waker> {
        let number = place.0.take()?;
        self.woken.remove(&number);
        self.asleep.remove(&number)
    }

    /// Takes the waker of the oldest task that sleeps: it is to be called, without a lock.
    pub(super) fn wake_oldest(&mut self) -> Option<Waker> {
        let (number, waker) = self.asleep.pop_first()?;
        self.woken.insert(number);
        Some(waker)
    }
}

impl Place {
    pub(super) fn is_taken(&self) -> bool {
        self.0.is_some()
    }
}
