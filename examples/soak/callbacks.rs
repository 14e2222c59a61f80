//! Requests with callbacks: plain ones, exact ones, and such as callbacks submit.

use crate::ledger::Ledger;
use crate::rng::Rng;
use crate::store::{Lease, Store};
use crate::worker::{Either, Worker, end, request};
use kiocb::op::Submit;
use kiocb::{Aio, Iocb};
use std::sync::Arc;

/// While so many requests are queued no more are added, so that memory stays what it is on a slow medium.
const BACKLOG: u64 = 1000;

/// What a callback needs to submit the next request.
struct Chain {
    aio: Aio,
    store: Arc<Store>,
    ledger: Arc<Ledger>,
    dice: Rng,
    left: u64,
}

impl Worker<'_> {
    pub(crate) fn call_back(&mut self) {
        if self.round.aio.stats().queued > BACKLOG {
            return std::thread::yield_now();
        }
        for lease in self.leases() {
            match self.request(lease) {
                Either::Read(read) => self.submit(read.init_callback(end)),
                Either::Write(write) => self.submit(write.init_callback(end)),
            }
        }
        if self.below(4) == 0 {
            self.chain();
        }
    }

    pub(crate) fn call_back_exactly(&mut self) {
        for lease in self.leases() {
            match self.request(lease) {
                Either::Read(read) => {
                    let read = read.read_exact().nowait_or_offload();
                    self.submit(read.init_callback(end));
                }
                Either::Write(write) => self.submit(write.write_all().init_callback(end)),
            }
        }
    }

    pub(crate) fn submit<S: Submit>(&self, request: Iocb<S>) {
        if let Err(refused) = request.submit() {
            self.refused(refused.error());
        }
    }

    pub(crate) fn refused(&self, error: &std::io::Error) {
        self.round.ledger.fault(format!("refused: {error}"));
    }

    /// Each completion starts the next.
    fn chain(&mut self) {
        let store = self.below(self.round.stores.all.len() as u64) as usize;
        let chain = Chain {
            aio: self.round.aio.clone(),
            store: Arc::clone(&self.round.stores.all[store]),
            ledger: Arc::clone(self.round.ledger),
            dice: Rng::new(self.dice.next()),
            left: self.below(64),
        };
        chain.go_on();
    }
}

impl Chain {
    fn go_on(mut self) {
        let writes = self.dice.next() & 1 == 0;
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        if let Some(lease) = self.store.lend(&self.ledger, &mut self.dice, writes) {
            self.submit(lease);
        }
    }

    fn submit(self, lease: Lease) {
        let ledger = Arc::clone(&self.ledger);
        let sent = match request(self.aio.alloc(), lease) {
            Either::Read(read) => read
                .init_callback(|done| {
                    end(done);
                    self.go_on()
                })
                .submit()
                .map_err(drop),
            Either::Write(write) => write
                .init_callback(|done| {
                    end(done);
                    self.go_on()
                })
                .submit()
                .map_err(drop),
        };
        if sent.is_err() {
            ledger.fault("a callback's request was refused".into());
        }
    }
}
