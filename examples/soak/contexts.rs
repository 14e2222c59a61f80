//! Contexts that come and go beside the round's: of one thread, and of every shape.

use crate::groups::{mixed, take_all};
use crate::worker::{Either, Worker, end, request};
use kiocb::{Aio, Dispatch};
use std::time::Duration;

impl Worker<'_> {
    /// A context of this thread's own.
    pub(crate) fn local(&mut self) {
        let Ok(aio) = Aio::builder().depth(16).build_local() else {
            return self.round.ledger.fault("no local context".into());
        };
        let queue = aio.queue();
        for _ in 0..4 {
            for lease in self.leases() {
                if let Err(refused) = queue.push(mixed(request(aio.alloc(), lease)), ()) {
                    self.refused(refused.error());
                }
            }
            take_all(&queue, self.round.ledger);
        }
        for lease in self.leases() {
            let sent = match request(aio.alloc(), lease) {
                Either::Read(read) => aio.submit(read, end).map_err(drop),
                Either::Write(write) => aio.submit(write, end).map_err(drop),
            };
            if sent.is_err() {
                self.round
                    .ledger
                    .fault("a local context refused a request".into());
            }
        }
        let _ = aio.poll(1, 8, Some(Duration::from_millis(1)));
        if let Err(error) = aio.drain() {
            self.round.ledger.fault(format!("a local context: {error}"));
        }
        self.round.ledger.add(aio.stats());
    }

    /// A context that ends with requests under way, in one of the ways there are.
    pub(crate) fn another_context(&mut self) {
        let kinds = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];
        let dispatch = kinds[self.below(3) as usize];
        let builder = Aio::builder()
            .depth(1 + self.below(32) as u32)
            .dispatch(dispatch);
        let aio = match builder.build() {
            Ok(aio) => aio,
            Err(error) => return self.round.ledger.fault(format!("no context: {error}")),
        };
        for lease in self.leases() {
            match request(aio.alloc(), lease) {
                Either::Read(read) => self.submit(read.init_callback(end)),
                Either::Write(write) => self.submit(write.init_callback(end)),
            }
        }
        if self.below(2) == 0 {
            return drop(aio);
        }
        if let Err(error) = aio.shutdown(Duration::from_secs(60)) {
            self.round.ledger.fault(format!("shutdown: {error}"));
        }
        self.round.ledger.add(aio.stats());
    }
}
