//! A thread's part: one thing after the other, of all that can be asked of a context.

use crate::rng::{Rng, below};
use crate::round::Round;
use crate::store::Lease;
use kiocb::op::{Read, Rw, Write};
use kiocb::{AlignedBuf, Completion, Iocb};

pub(crate) type Reading = Iocb<Rw<Lease, Read, AlignedBuf>>;
pub(crate) type Writing = Iocb<Rw<Lease, Write, AlignedBuf>>;

/// Pages that are used together.
pub(crate) const MOST: u64 = 128;

pub(crate) struct Worker<'a> {
    pub(crate) round: &'a Round<'a>,
    pub(crate) thread: usize,
    pub(crate) dice: Rng,
}

/// A request for one page, of either kind.
pub(crate) enum Either {
    Read(Reading),
    Write(Writing),
}

/// The request has its result.
pub(crate) fn end(done: Completion<Lease, AlignedBuf>) {
    done.file.end(done.result, &done.buf);
}

impl<'a> Worker<'a> {
    pub(crate) fn new(round: &'a Round<'a>, thread: usize, dice: Rng) -> Worker<'a> {
        Worker {
            round,
            thread,
            dice,
        }
    }

    pub(crate) fn run(mut self) {
        while !self.round.is_over() {
            self.act();
        }
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        below(self.dice.next(), bound)
    }

    pub(crate) fn lease(&mut self) -> Option<Lease> {
        let stores = &self.round.stores.all;
        let store = below(self.dice.next(), stores.len() as u64) as usize;
        let writes = below(self.dice.next(), 3) == 0;
        stores[store].lend(self.round.ledger, &mut self.dice, writes)
    }

    /// Some pages, each for a read or a write.
    pub(crate) fn leases(&mut self) -> Vec<Lease> {
        let count = 1 + self.below(MOST);
        (0..count).filter_map(|_| self.lease()).collect()
    }

    pub(crate) fn blank(&self) -> Iocb {
        self.round.aio.alloc()
    }

    pub(crate) fn request(&self, lease: Lease) -> Either {
        request(self.blank(), lease)
    }

    /// The rare things are dear.
    fn act(&mut self) {
        match self.below(200) {
            0..40 => self.call_back(),
            40..45 => self.call_back_exactly(),
            45..60 => self.wait(),
            60..80 => self.start(),
            80..95 => self.await_all(),
            95..100 => self.abandon(),
            100..120 => self.batch(),
            120..140 => self.queue(),
            140..145 => self.mixed_queue(),
            145..160 => self.scope(),
            160..170 => self.borrow_many(),
            170..178 => self.borrow_one(),
            178..183 => self.vectored(),
            183..188 => self.pooled(),
            188..191 => self.readiness(),
            191..193 => self.sync(),
            193..196 => self.barriers(),
            196..198 => self.local(),
            198 => self.stream(),
            _ => self.another_context(),
        }
    }
}

pub(crate) fn request(blank: Iocb, lease: Lease) -> Either {
    let (buf, offset) = (lease.buffer(), lease.offset());
    match lease.writes() {
        true => Either::Write(blank.init_rw(lease, Write, buf, offset)),
        false => Either::Read(blank.init_rw(lease, Read, buf, offset)),
    }
}
