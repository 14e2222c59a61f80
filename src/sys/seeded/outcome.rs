//! How a request ends: what it does, and who is told.

use super::super::kernel::WAKE;
use super::super::{io_event, iocb};
use super::asked::{has_eventfd, is_nowait, is_poll, is_read, is_sync, name_of, pieces_of};
use super::context::{InFlight, Sleepers};
use super::known::{Answer, Synced};
use super::machine::Machine;
use crate::sync::now;
use std::time::Instant;

impl Machine {
    /// When the next request is to complete.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let pending = self.contexts.iter().flat_map(|context| &context.pending);
        pending.map(|operation| operation.due).min()
    }

    /// Completes one request whose time has come, any of them. Returns who is to be woken for it.
    pub(super) fn complete_one(&mut self) -> Option<Sleepers> {
        let due = self.all_due();
        if due.is_empty() {
            return None;
        }
        let (number, place) = due[self.dice.below(due.len())];
        let operation = self.contexts[number].pending.swap_remove(place);
        Some(self.complete(number, &operation))
    }

    /// Their contexts, and their places there.
    fn all_due(&self) -> Vec<(usize, usize)> {
        let now = now();
        let mut due = Vec::new();
        for (number, context) in self.contexts.iter().enumerate() {
            for (place, operation) in context.pending.iter().enumerate() {
                if operation.due <= now {
                    due.push((number, place));
                }
            }
        }
        due
    }

    pub(super) fn complete(&mut self, number: usize, operation: &InFlight) -> Sleepers {
        let result = self.carry_out(&operation.iocb);
        self.publish(number, operation, result)
    }

    pub(super) fn publish(&mut self, number: usize, operation: &InFlight, result: i64) -> Sleepers {
        let iocb = &operation.iocb;
        self.remember(operation, result);
        if has_eventfd(iocb) {
            *self.eventfds.entry(iocb.aio_resfd).or_default() += 1;
        }
        self.events += 1;
        let context = &mut self.contexts[number];
        context.ring.push_back(io_event {
            data: iocb.aio_data,
            res: result,
            ..io_event::default()
        });
        std::mem::take(&mut context.sleepers)
    }

    fn remember(&mut self, operation: &InFlight, result: i64) {
        let ended = self.tick();
        if let Some(name) = name_of(&operation.iocb) {
            let known = self.known.entry(name).or_default();
            known.answers.push(Answer::Event(result));
            known.ended = ended;
        }
        if is_sync(&operation.iocb) && result == 0 {
            self.syncs.push(Synced {
                file: operation.iocb.aio_fildes,
                began: operation.began,
            });
        }
    }

    /// What the request does, and its result.
    fn carry_out(&mut self, iocb: &iocb) -> i64 {
        if iocb.aio_data == WAKE {
            return 0;
        }
        if is_nowait(iocb) && self.dice(self.mood.would_block) {
            return -i64::from(libc::EAGAIN);
        }
        if is_poll(iocb) {
            return libc::POLLIN.into();
        }
        if is_sync(iocb) {
            return self.dice_failure().unwrap_or(0);
        }
        self.transfer(iocb)
    }

    fn dice_failure(&mut self) -> Option<i64> {
        self.dice(self.mood.fails)
            .then(|| [-i64::from(libc::EIO), -i64::from(libc::ENOSPC)][self.dice.below(2)])
    }

    fn transfer(&mut self, iocb: &iocb) -> i64 {
        let pieces = pieces_of(iocb);
        if !self.memory.has(&pieces) {
            self.violate("the kernel used memory of a request that was freed");
            return -i64::from(libc::EFAULT);
        }
        if let Some(failure) = self.dice_failure() {
            return failure;
        }
        let whole: usize = pieces.iter().map(|piece| piece.1).sum();
        let count = self.dice_count(whole);
        let offset = iocb.aio_offset.cast_unsigned();
        let wrong = self.memory.transfer(is_read(iocb), &pieces, count, offset);
        for offset in wrong {
            self.violate(format!("memory to be written was changed: offset {offset}"));
        }
        let more = i64::from(count == whole && self.dice(self.mood.exaggerates)) * 100_000;
        i64::try_from(count).expect("small") + more
    }

    /// How many bytes come over, of so many.
    fn dice_count(&mut self, whole: usize) -> usize {
        if whole > 0 && self.dice(self.mood.short) {
            self.dice.below(whole)
        } else {
            whole
        }
    }
}
