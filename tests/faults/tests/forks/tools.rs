//! What works beside a context: a pool of buffers, and a group of writes with a barrier.

use std::fs::File;
use std::time::Duration;

use kiocb::buf::PoolBuf;
use kiocb::{Aio, BufPool, SubmitError, SyncGroup, SyncKind, TrackedWrite};

use crate::deed::hears;
use crate::ledger::Ledger;

/// The number of the barrier's callback.
const BARRIER: u8 = 30;

pub(crate) struct Tools {
    pub(crate) pool: BufPool,
    buf: PoolBuf,
    group: SyncGroup<File>,
    /// Another, in which nothing waits.
    pub(crate) idle_group: SyncGroup<File>,
    /// Under way, so that the barrier behind it waits.
    write: Option<TrackedWrite<File>>,
}

impl Tools {
    pub(crate) fn new(aio: &Aio, ledger: &'static Ledger) -> Tools {
        let pool = BufPool::new(4, 4096).unwrap();
        let group = SyncGroup::new(aio, tempfile::tempfile().unwrap());
        let write = group.track();
        ledger.promise(BARRIER);
        let barrier = group.barrier(SyncKind::Data, move |_| ledger.call(BARRIER));
        barrier
            .map_err(SubmitError::into_parts)
            .map_err(|(error, _)| error)
            .unwrap();
        Tools {
            buf: pool.take(),
            pool,
            idle_group: SyncGroup::new(aio, tempfile::tempfile().unwrap()),
            group,
            write: Some(write),
        }
    }

    /// In the parent: what the barrier waits for is over.
    pub(crate) fn end_write(&mut self) {
        if let Some(write) = self.write.take() {
            write.end(&Ok(()));
        }
    }

    /// In the child: nothing waits for a thread that is not here.
    pub(crate) fn use_pool(self) {
        drop(self.pool.try_take());
        drop(self.pool.take_timeout(Duration::from_millis(1)));
        assert!(self.pool.available() <= 4);
        assert!(!format!("{:?}", self.pool).is_empty());
        drop(self.buf);
        drop(self.pool);
        std::mem::forget((self.group, self.idle_group, self.write));
    }

    /// In the child: it takes nothing, and calls nothing of the parent's.
    pub(crate) fn use_group(self) {
        refuses(&self.group);
        refuses(&self.idle_group);
        drop(self.write);
        drop((self.group, self.idle_group));
        std::mem::forget((self.pool, self.buf));
    }
}

fn refuses(group: &SyncGroup<File>) {
    let write = group.write("lost", 0, |_| unreachable!());
    hears(write.map_err(SubmitError::into_parts), drop);
    let barrier = group.barrier(SyncKind::All, |_| unreachable!());
    hears(barrier.map_err(SubmitError::into_parts), drop);
    group.track().end(&Ok(()));
    let _ = group.take_error();
    assert!(!format!("{group:?}").is_empty());
}
