//! The disk's queue: writes and syncs that have arrived, and are completed in an order of the disk's own.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{Errno, ReplyEmpty, ReplyWrite};

use super::disk::Disk;
use crate::random::Random;

/// How long a request waits for another one.
const COMPANY: Duration = Duration::from_micros(200);

/// A request that has arrived and is not complete.
#[derive(Debug)]
pub(super) enum Waiting {
    Write {
        file: u64,
        offset: usize,
        bytes: Vec<u8>,
        is_durable: bool,
        reply: ReplyWrite,
    },
    /// It covers what was complete when it arrived, and no more.
    Sync {
        file: u64,
        up_to: u64,
        reply: ReplyEmpty,
    },
}

impl Waiting {
    fn makes_durable(&self) -> bool {
        match self {
            Waiting::Write { is_durable, .. } => *is_durable,
            Waiting::Sync { .. } => true,
        }
    }

    fn carry_out(self, disk: &mut Disk) {
        match self {
            Waiting::Write {
                file,
                offset,
                bytes,
                is_durable,
                reply,
            } => {
                let len = u32::try_from(bytes.len()).expect("what FUSE sends at once");
                disk.write(file, offset, bytes, is_durable);
                reply.written(len);
            }
            Waiting::Sync { file, up_to, reply } => {
                disk.sync(file, up_to);
                reply.ok();
            }
        }
    }

    /// The power fails while it is under way: a write may get to the medium, or a part of it.
    fn fail(mut self, disk: &mut Disk) {
        if let Waiting::Write {
            file,
            offset,
            bytes,
            ..
        } = &mut self
        {
            disk.write(*file, *offset, std::mem::take(bytes), false);
        }
        self.refuse();
    }

    fn refuse(self) {
        match self {
            Waiting::Write { reply, .. } => reply.error(Errno::EIO),
            Waiting::Sync { reply, .. } => reply.error(Errno::EIO),
        }
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) disk: Disk,
    waiting: Vec<Waiting>,
    random: Random,
    /// Without power every request fails.
    pub(super) has_power: bool,
    has_ended: bool,
}

impl State {
    /// Completes one, unless it is to wait for company. What makes durable takes long, as on a disk with a cache:
    /// most of the time it is what a cut finds under way. And one that is alone waits now and then, so that there
    /// is a choice however fast requests are completed.
    fn complete_one(&mut self) -> bool {
        let count = self.waiting.len();
        let chosen = self.random.below(count);
        let chances = match self.waiting[chosen].makes_durable() {
            true => 6,
            false if count == 1 => 2,
            false => 1,
        };
        let is_due = self.random.roll(chances) == 0;
        if is_due {
            let request = self.waiting.swap_remove(chosen);
            request.carry_out(&mut self.disk);
        }
        is_due
    }
}

/// The disk and its queue, for the server's thread, the thread that completes requests, and the test.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub(super) fn new(disk: Disk, seed: u64) -> Shared {
        Shared {
            state: Mutex::new(State {
                disk,
                waiting: Vec::new(),
                random: Random(seed),
                has_power: true,
                has_ended: false,
            }),
            changed: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked with the lock held is failing anyway; its drops must still work.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn arrive(&self, request: Waiting) {
        let mut state = self.lock();
        if state.has_power {
            state.waiting.push(request);
            self.changed.notify_all();
        } else {
            request.refuse();
        }
    }

    /// Completes requests, whichever chance names next, until the end.
    pub(super) fn complete_all(&self) {
        let mut state = self.lock();
        while !state.has_ended {
            if state.waiting.is_empty() {
                let woken = self.changed.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
            } else if state.complete_one() {
                drop(state); // others may arrive before the next one is chosen
                state = self.lock();
            } else {
                let woken = self.changed.wait_timeout(state, COMPANY);
                (state, _) = woken.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    pub(super) fn end(&self) {
        self.lock().has_ended = true;
        self.changed.notify_all();
    }

    /// The power fails.
    pub(super) fn cut(&self, random: &mut Random) {
        let mut state = self.lock();
        state.has_power = false;
        for request in std::mem::take(&mut state.waiting) {
            request.fail(&mut state.disk);
        }
        state.disk.cut(random);
    }
}
