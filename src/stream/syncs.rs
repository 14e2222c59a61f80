//! The sync that a stream has under way.

use super::how::How;
use crate::aio::Aio;
use crate::direct::DirectFile;
use crate::op::Fsync;
use crate::pending::Pending;
use crate::sync_scheduler::SyncKind;
use std::io;
use std::sync::Arc;
use std::task::{Poll, ready};

/// Which changes of the file are synced. A sync covers those that were complete when it was submitted.
#[derive(Default)]
pub(super) struct Syncs {
    /// Changes there were: writes, and the length.
    changes: u64,
    /// How many of them are synced; `None` before the first sync.
    synced: Option<u64>,
    pending: Option<Pending<Fsync<Arc<DirectFile>>>>,
    /// How many changes `pending` covers.
    covers: u64,
}

impl Syncs {
    /// The file is not any more what was synced.
    pub(super) fn changed(&mut self) {
        self.changes += 1;
    }

    /// Waits until a sync is complete that covers all changes, which are complete themselves.
    pub(super) fn all(
        &mut self,
        aio: &Aio,
        file: &Arc<DirectFile>,
        kind: SyncKind,
        how: &mut How<'_, '_>,
    ) -> Poll<io::Result<()>> {
        while self.pending.is_some() || self.synced != Some(self.changes) {
            if self.pending.is_none() {
                self.start(aio, file, kind)?;
            }
            if let Some(done) = ready!(how.outcome(&mut self.pending)) {
                done.result?;
                self.synced = Some(self.covers);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn start(&mut self, aio: &Aio, file: &Arc<DirectFile>, kind: SyncKind) -> io::Result<()> {
        let (request, file) = (aio.alloc(), Arc::clone(file));
        let request = match kind {
            SyncKind::Data => request.init_fdsync(file),
            SyncKind::All => request.init_fsync(file),
        };
        self.covers = self.changes;
        self.pending = Some(request.start()?);
        Ok(())
    }
}
