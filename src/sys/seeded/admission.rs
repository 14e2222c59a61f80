//! How a request is taken in, or refused.

use super::super::iocb;
use super::super::kernel::WAKE;
use super::asked::{is_nowait, is_poll, is_sync, name_of, pieces_of};
use super::context::{InFlight, Sleepers};
use super::known::Answer;
use super::machine::Machine;
use crate::sync::now;
use std::time::Duration;

impl Machine {
    /// `at`: its place in the call.
    pub(super) fn accept(
        &mut self,
        number: usize,
        iocb: iocb,
        address: usize,
        at: usize,
    ) -> Result<Sleepers, i32> {
        let context = &self.contexts[number];
        if context.is_destroyed {
            self.violate("io_submit after io_destroy");
            return Err(libc::EINVAL);
        }
        if context.is_dead {
            return Err(libc::EINVAL);
        }
        if context.pending.len() + context.ring.len() >= context.capacity {
            self.violate("more requests at once than the context was made for");
            return Err(libc::EAGAIN);
        }
        self.refuse_perhaps(&iocb, at)?;
        Ok(self.begin(number, iocb, address))
    }

    fn refuse_perhaps(&mut self, iocb: &iocb, at: usize) -> Result<(), i32> {
        if iocb.aio_data == WAKE {
            return Ok(());
        }
        if self.dice(self.mood.hoards) || (at > 0 && self.dice(self.mood.partly)) {
            return Err(libc::EAGAIN);
        }
        let Some(errno) = self.dice_refusal(iocb) else {
            return Ok(());
        };
        // Only the first of a call has its errno told: the others are submitted again.
        if at == 0
            && let Some(name) = name_of(iocb)
        {
            let known = self.known.entry(name).or_default();
            known.answers.push(Answer::Refused(errno));
        }
        Err(errno)
    }

    fn dice_refusal(&mut self, iocb: &iocb) -> Option<i32> {
        if is_nowait(iocb) && self.dice(self.mood.would_block) {
            return Some(libc::EOPNOTSUPP);
        }
        let refuses = self.dice(self.mood.refuses);
        refuses.then(|| [libc::EBADF, libc::EINVAL, libc::ENOBUFS][self.dice.below(3)])
    }
    /// Its place in the order of all that happens.
    fn arrive(&mut self, number: usize, iocb: &iocb) -> u64 {
        let order = self.tick();
        if let Some(name) = name_of(iocb) {
            let known = self.known.entry(name).or_default();
            known.arrival.get_or_insert((number, order));
        }
        order
    }

    fn begin(&mut self, number: usize, iocb: iocb, address: usize) -> Sleepers {
        let began = self.arrive(number, &iocb);
        let latency = Duration::from_millis(self.latency_of(&iocb));
        let operation = InFlight {
            iocb,
            address,
            due: now() + latency,
            began,
        };
        if iocb.aio_data == WAKE || !is_poll(&iocb) && self.dice(self.mood.at_once) {
            return self.complete(number, &operation);
        }
        if !is_poll(&iocb) && !is_sync(&iocb) && !self.memory.has(&pieces_of(&iocb)) {
            self.violate("a request names memory that does not exist");
        }
        self.contexts[number].pending.push(operation);
        Vec::new()
    }

    fn latency_of(&mut self, iocb: &iocb) -> u64 {
        match self.mood.latency {
            _ if is_poll(iocb) => self.dice.roll(200),
            0 => 0,
            longest => self.dice.roll(longest),
        }
    }
}
