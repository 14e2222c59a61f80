//! Syncs: alone, as barriers after writes, and shared by the commits of several threads.

use crate::store::Lease;
use crate::worker::Worker;
use kiocb::{AlignedBuf, Completion, SyncGroup, SyncKind};
use std::io;
use std::sync::Arc;

impl Worker<'_> {
    pub(crate) fn sync(&mut self) {
        let Some(lease) = self.lease().map(Lease::unused) else {
            return;
        };
        let synced = match self.below(3) {
            0 => self.round.aio.fdatasync(lease.file()),
            1 => self.round.aio.fsync(lease.file()),
            _ => {
                let request = self.blank().init_fdsync(Arc::new(lease));
                request.wait().map_or_else(
                    |refused| Err(refused.into_parts().0),
                    |done| done.result.map(drop),
                )
            }
        };
        self.synced(synced);
    }

    fn synced<T>(&self, synced: io::Result<T>) {
        if let Err(error) = synced {
            self.round.ledger.error(&error, self.round.faults);
        }
    }

    /// Writes and barriers in turn; the handles say when all is durable.
    pub(crate) fn barriers(&mut self) {
        let store = self.below(self.round.stores.all.len() as u64) as usize;
        let store = &self.round.stores.all[store];
        let group = SyncGroup::from_arc(&self.round.aio, Arc::clone(store));
        let mut syncs = Vec::new();
        for _ in 0..4 {
            for _ in 0..4 {
                if let Some(lease) = store.lend(self.round.ledger, &mut self.dice, true) {
                    self.write_in(&group, lease);
                }
            }
            syncs.push(group.sync(SyncKind::Data));
        }
        self.commit_in(&group);
        for sync in syncs {
            self.synced(sync.wait());
        }
        group.take_error();
    }

    fn write_in(&mut self, group: &SyncGroup<crate::store::Store>, lease: Lease) {
        let (buf, offset) = (lease.buffer(), lease.offset());
        if !lease.writes() {
            return; // a page in doubt
        }
        let durable = self.below(4) == 0;
        let written = move |done: Completion<_, AlignedBuf>| lease.end(done.result, &done.buf);
        let sent = match durable {
            true => group.write_durable(buf, offset, written).map_err(drop),
            false => group.write(buf, offset, written).map_err(drop),
        };
        if sent.is_err() {
            self.round.ledger.fault("a group refused a write".into());
        }
    }

    fn commit_in(&mut self, group: &SyncGroup<crate::store::Store>) {
        let Some(lease) = group.file().lend(self.round.ledger, &mut self.dice, true) else {
            return;
        };
        if !lease.writes() {
            return;
        }
        let (buf, offset) = (lease.buffer(), lease.offset());
        match group.commit(buf, offset).wait() {
            Ok(buf) => {
                let length = buf.len();
                lease.end(Ok(length), &buf);
            }
            // The write may have been done, and an earlier one have failed: the page is in doubt.
            Err(failed) => self.round.ledger.error(failed.error(), self.round.faults),
        }
    }
}
