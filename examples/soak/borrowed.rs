//! Borrowed memory: scopes, and the calls that are complete when they return. Vectors and pools of buffers, too.

use crate::store::Lease;
use crate::worker::Worker;
use kiocb::op::{ReadV, WriteV};
use kiocb::{AlignedBuf, BufPool, IoOptions};
use std::io;

impl Worker<'_> {
    /// Some results are asked for, and the others are there at the scope's end; those of writes count either way.
    pub(crate) fn scope(&mut self) {
        let leases = self.leases();
        let mut buffers: Vec<_> = leases.iter().map(Lease::buffer).collect();
        let aio = &self.round.aio;
        let results: Vec<_> = aio.scope(|s| {
            let pairs = leases.iter().zip(&mut buffers).enumerate();
            let sent = pairs.map(
                |(number, (lease, buf))| match (lease.writes(), number % 3) {
                    (true, 0) => s.write_all_at(lease, buf, lease.offset()),
                    (true, _) => s.write_at(lease, buf, lease.offset()),
                    (false, 0) => s.read_exact_at(lease, buf, lease.offset()),
                    (false, _) => s.read_at(lease, buf, lease.offset()),
                },
            );
            let sent: Vec<_> = sent.collect();
            s.submit();
            sent.into_iter().map(|io| io.wait()).collect()
        });
        settle(leases, &buffers, results);
    }

    pub(crate) fn borrow_many(&mut self) {
        let file = &self.round.stores.all[0].file;
        // One call is about one file.
        let is_other = |lease: &Lease| !std::ptr::eq(lease.file(), file);
        let (others, ours): (Vec<_>, Vec<_>) = self.leases().into_iter().partition(is_other);
        others.into_iter().for_each(|lease| drop(lease.unused()));
        let (writes, reads): (Vec<_>, Vec<_>) = ours.into_iter().partition(Lease::writes);
        let bytes: Vec<_> = writes.iter().map(Lease::buffer).collect();
        let pieces = writes
            .iter()
            .zip(&bytes)
            .map(|(lease, buf)| (&buf[..], lease.offset()));
        let results = self.round.aio.write_many(file, pieces.collect::<Vec<_>>());
        settle(writes, &bytes, results);
        let mut room: Vec<_> = reads.iter().map(Lease::buffer).collect();
        let pieces = reads
            .iter()
            .zip(&mut room)
            .map(|(lease, buf)| (&mut buf[..], lease.offset()));
        let results = self.round.aio.read_many(file, pieces.collect::<Vec<_>>());
        settle(reads, &room, results);
    }

    pub(crate) fn borrow_one(&mut self) {
        for lease in self.leases() {
            let (mut buf, offset) = (lease.buffer(), lease.offset());
            let offloads = self.round.aio.with(IoOptions::new().nowait_or_offload());
            let all = buf.len();
            let result = match (lease.writes(), self.below(3)) {
                (true, 0) => self
                    .round
                    .aio
                    .write_all_at(lease.file(), &buf, offset)
                    .map(|()| all),
                (true, 1) => offloads.write_at(lease.file(), &buf, offset),
                (true, _) => self.round.aio.write_at(lease.file(), &buf, offset),
                (false, 0) => self
                    .round
                    .aio
                    .read_exact_at(lease.file(), &mut buf, offset)
                    .map(|()| all),
                (false, 1) => offloads.read_at(lease.file(), &mut buf, offset),
                (false, _) => self.round.aio.read_at(lease.file(), &mut buf, offset),
            };
            lease.end(result, &buf);
        }
    }

    /// A page in two pieces.
    pub(crate) fn vectored(&mut self) {
        for lease in self.leases() {
            let (buf, offset) = (lease.buffer(), lease.offset());
            let halves: Vec<_> = buf.chunks(buf.len() / 2).map(AlignedBuf::from).collect();
            let done = match lease.writes() {
                true => self
                    .blank()
                    .init_rw(lease, WriteV, halves, offset)
                    .wait()
                    .map_err(drop),
                false => self
                    .blank()
                    .init_rw(lease, ReadV, halves, offset)
                    .wait()
                    .map_err(drop),
            };
            match done {
                Ok(done) => done.file.end(done.result, &joined(&done.buf)),
                Err(()) => self.round.ledger.fault("a vector was refused".into()),
            }
        }
    }

    /// Buffers of a pool with fewer than are wanted at once.
    pub(crate) fn pooled(&mut self) {
        let Ok(pool) = BufPool::new(8, self.round.stores.all[0].page) else {
            return;
        };
        for lease in self.leases() {
            let (mut buf, offset) = (pool.take(), lease.offset());
            if buf.len() != lease.buffer().len() {
                drop(lease.unused()); // of a file with other blocks
                continue;
            }
            lease.fill(&mut buf);
            match lease.writes() {
                true => {
                    let write = self.blank().init_rw(lease, kiocb::op::Write, buf, offset);
                    self.submit(write.init_callback(|done| done.file.end(done.result, &done.buf)));
                }
                false => {
                    let read = self.blank().init_rw(lease, kiocb::op::Read, buf, offset);
                    self.submit(read.init_callback(|done| done.file.end(done.result, &done.buf)));
                }
            }
        }
    }
}

fn settle(leases: Vec<Lease>, buffers: &[AlignedBuf], results: Vec<io::Result<usize>>) {
    for ((lease, buf), result) in leases.into_iter().zip(buffers).zip(results) {
        lease.end(result, buf);
    }
}

fn joined(pieces: &[AlignedBuf]) -> Vec<u8> {
    let mut bytes = Vec::new();
    pieces
        .iter()
        .for_each(|piece| bytes.extend_from_slice(piece));
    bytes
}
