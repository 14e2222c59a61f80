//! The requests of one scope, and what is known of each.

use super::work::BorrowedWork;
use crate::engine::{List, OwnedCell, Watch};
use crate::op::Job;
use std::cell::Cell;
use std::io;

/// In the order in which they were made.
pub(super) struct Requests {
    /// Made and not yet submitted.
    unsent: List,
    all: Vec<State>,
}

pub(super) enum State {
    Waiting(Watch<Job<BorrowedWork>>),
    Done(io::Result<usize>),
    Taken,
}

/// Of so many requests a thread keeps the memory for its next scope.
const KEPT: usize = 1024;

crate::sync::thread_local! {
    /// The memory of a scope that this thread has left: empty, and never of more than `KEPT` requests. A
    /// scope inside another one finds it taken, and makes its own.
    static SPARE: Cell<Vec<State>> = const { Cell::new(Vec::new()) };
}

impl Requests {
    pub(super) fn new() -> Requests {
        Requests {
            unsent: List::new(),
            all: SPARE.try_with(Cell::take).unwrap_or_default(),
        }
    }

    /// Returns its place.
    pub(super) fn add(&mut self, job: Job<BorrowedWork>) -> usize {
        let (cell, watch) = OwnedCell::watched(job, false);
        self.unsent.push(cell);
        self.all.push(State::Waiting(watch));
        self.all.len() - 1
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn take_unsent(&mut self) -> List {
        std::mem::take(&mut self.unsent)
    }

    /// Puts `state` in the place of the one that was there.
    pub(super) fn replace(&mut self, place: usize, state: State) -> State {
        std::mem::replace(&mut self.all[place], state)
    }
}

impl Drop for Requests {
    /// Nothing of them is with the kernel any more.
    fn drop(&mut self) {
        let mut memory = std::mem::take(&mut self.all);
        memory.clear();
        if memory.capacity() <= KEPT {
            // On a thread that is ending there is no next scope.
            let _ = SPARE.try_with(|spare| spare.set(memory));
        }
    }
}
