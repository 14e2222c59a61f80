//! Carries out what the scheduler says: submits syncs, and collects the callbacks that are due.
//!
//! The lock is held for a call of the scheduler and no longer: no callback runs, nothing is submitted and
//! nothing of the user's is dropped under it.

use super::calls::{Calls, Cause, Waiter};
use crate::aio::Aio;
use crate::completion::Completion;
use crate::error::AioError;
use crate::op::Receive;
use crate::sync_scheduler::{Next, SyncKind, SyncScheduler};
use crate::sys::process_mutex::ProcessMutex;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

/// What the handles of one group share.
pub(super) struct Inner<F> {
    pub(super) aio: Aio,
    pub(super) file: Arc<F>,
    /// In a forked child it can't be locked, and the barriers in it are neither called nor dropped.
    pub(super) scheduler: ProcessMutex<SyncScheduler<Waiter, Cause>>,
}

impl<F: AsFd + Send + Sync + 'static> Inner<F> {
    pub(super) fn new(aio: &Aio, file: Arc<F>) -> Inner<F> {
        Inner {
            aio: aio.clone(),
            file,
            scheduler: ProcessMutex::new(SyncScheduler::new()),
        }
    }

    /// A write begins; returns its epoch. `None` in a forked child.
    pub(super) fn begin(&self) -> Option<u64> {
        Some(self.scheduler.lock()?.begin())
    }

    /// A write ends.
    pub(super) fn end(self: &Arc<Self>, epoch: u64, failure: Option<Cause>) {
        let Some(mut scheduler) = self.scheduler.lock() else {
            return; // a forked child: the write and the barriers behind it are the parent's
        };
        let next = scheduler.end(epoch, failure);
        drop(scheduler);
        let mut calls = Calls::default();
        self.carry_out(next, &mut calls);
        calls.call();
    }

    /// Makes a barrier. `Err` gives it back with the error that it is refused with.
    pub(super) fn barrier(
        self: &Arc<Self>,
        kind: SyncKind,
        waiter: Waiter,
    ) -> Result<(), (Waiter, Cause)> {
        let number = waiter.number;
        let Some(mut scheduler) = self.scheduler.lock() else {
            return Err((waiter, Arc::new(AioError::Forked.into())));
        };
        let made = scheduler.barrier(kind, waiter);
        drop(scheduler);
        let mut calls = Calls::default();
        self.carry_out(made?, &mut calls);
        match calls.call_others(number) {
            Some((waiter, Err(cause))) => Err((waiter, cause)),
            _ => Ok(()),
        }
    }

    /// Does what follows from a change, and collects the callbacks that are due. A sync that can't be
    /// submitted is a change too.
    fn carry_out(self: &Arc<Self>, mut next: Next<Waiter, Cause>, calls: &mut Calls) {
        loop {
            calls.fail(next.failed);
            let Some(kind) = next.sync else { return };
            let Err(error) = self.submit_sync(kind, calls) else {
                return;
            };
            let Some(after) = self.sync_refused(error, calls) else {
                return;
            };
            next = after;
        }
    }

    /// The sync that was to be submitted was not.
    fn sync_refused(&self, error: io::Error, calls: &mut Calls) -> Option<Next<Waiter, Cause>> {
        let (group, next) = self.scheduler.lock()?.sync_refused();
        calls.end(group, &Err(Arc::new(error)));
        Some(next)
    }

    /// The file's `as_fd` is user code: it may panic. Then the request is dropped, its callback with it, and
    /// that does what is to be done here for a refusal.
    fn submit_sync(self: &Arc<Self>, kind: SyncKind, calls: &mut Calls) -> io::Result<()> {
        let (blank, file) = (self.aio.alloc(), Arc::clone(&self.file));
        let request = match kind {
            SyncKind::Data => blank.init_fdsync(file),
            SyncKind::All => blank.init_fsync(file),
        };
        let request = request.init_receiver(SyncCallback(Some(Arc::clone(self))));
        let Some(Err(refused)) = calls.panics.catch(|| request.submit()) else {
            return Ok(());
        };
        let (error, request) = refused.into_parts();
        let (_, mut callback) = request.into_parts();
        callback.0 = None;
        Err(error)
    }

    fn synced(self: &Arc<Self>, result: io::Result<usize>) {
        let Some(mut scheduler) = self.scheduler.lock() else {
            return; // a forked child: the sync is the parent's
        };
        let result = result.map(drop).map_err(Arc::new);
        let (group, next) = scheduler.synced(result.clone());
        drop(scheduler);
        let mut calls = Calls::default();
        calls.end(group, &result);
        self.carry_out(next, &mut calls);
        calls.call();
    }

    fn sync_dropped(self: &Arc<Self>) {
        let mut calls = Calls::default();
        let error = io::Error::from_raw_os_error(libc::ECANCELED);
        if let Some(next) = self.sync_refused(error, &mut calls) {
            self.carry_out(next, &mut calls);
        }
        calls.call();
    }
}

/// The callback of a sync that is under way. Dropped instead of being called, because its request was not
/// submitted, it says so: the sync would stay under way for ever.
struct SyncCallback<F: AsFd + Send + Sync + 'static>(Option<Arc<Inner<F>>>);

impl<F: AsFd + Send + Sync + 'static> Receive<Completion<Arc<F>, ()>> for SyncCallback<F> {
    fn receive(mut self, done: Completion<Arc<F>, ()>) {
        if let Some(inner) = self.0.take() {
            inner.synced(done.result);
        }
    }
}

impl<F: AsFd + Send + Sync + 'static> Drop for SyncCallback<F> {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take() {
            inner.sync_dropped();
        }
    }
}
