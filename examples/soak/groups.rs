//! Many requests together: batches and queues.

use crate::ledger::Ledger;
use crate::store::Lease;
use crate::worker::{Either, Worker, end};
use kiocb::AlignedBuf;
use kiocb::op::Mixed;
use kiocb::{Iocb, Queue};

type Any = Mixed<Lease, AlignedBuf>;

pub(crate) fn mixed(either: Either) -> Iocb<Any> {
    match either {
        Either::Read(read) => read.mixed(),
        Either::Write(write) => write.mixed(),
    }
}

/// Takes all that was pushed, as it comes.
pub(crate) fn take_all(queue: &Queue<(), Any>, ledger: &Ledger) {
    while !queue.is_empty() {
        let some = match queue.wait(1, None) {
            Ok(some) => some,
            Err(error) => return ledger.fault(format!("a queue: {error}")),
        };
        for ((), done) in some {
            match done.buf.one() {
                Some(buf) => done.file.end(done.result, &buf),
                None => ledger.fault("a queue gave no buffer back".into()),
            }
        }
    }
}

impl Worker<'_> {
    /// Half with callbacks, half by handles.
    pub(crate) fn batch(&mut self) {
        let leases = self.leases();
        let aio = self.round.aio.clone();
        let (mut batch, mut reads, mut writes) = (aio.batch(), Vec::new(), Vec::new());
        for lease in leases {
            match (self.request(lease), self.below(2)) {
                (Either::Read(read), 0) => drop(batch.push_callback(read.init_callback(end))),
                (Either::Write(write), 0) => drop(batch.push_callback(write.init_callback(end))),
                (Either::Read(read), _) => reads.push(batch.push(read)),
                (Either::Write(write), _) => writes.push(batch.push(write)),
            }
        }
        let refused = batch.submit();
        refused.errors().for_each(|error| self.refused(error));
        reads.into_iter().for_each(|read| end(read.wait()));
        writes.into_iter().for_each(|write| end(write.wait()));
    }

    pub(crate) fn queue(&mut self) {
        let queue = self.round.aio.queue();
        for lease in self.leases() {
            self.push(&queue, mixed(self.request(lease)));
        }
        take_all(&queue, self.round.ledger);
    }

    /// A queue with exact requests, used more than once.
    pub(crate) fn mixed_queue(&mut self) {
        let queue = self.round.aio.queue();
        for _ in 0..4 {
            for lease in self.leases() {
                let exact = match self.request(lease) {
                    Either::Read(read) => read.read_exact().mixed(),
                    Either::Write(write) => write.write_all().mixed(),
                };
                self.push(&queue, exact);
            }
            take_all(&queue, self.round.ledger);
        }
    }

    fn push(&self, queue: &Queue<(), Any>, request: Iocb<Any>) {
        if let Err(refused) = queue.push(request, ()) {
            self.refused(refused.error());
        }
    }
}
