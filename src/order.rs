//! Order and durability: writes that are tracked, and barriers that tell when they are safe.
//!
//! `barrier` has the rule, without any I/O: what follows when a write begins or ends, a barrier is made, a
//! sync ends. [`Journal`] carries it out. No lock is held while a callback runs or a request is submitted.

use crate::aio::Aio;
use crate::barrier::{Next, Order, SyncKind};
use crate::buf::IoBuf;
use crate::completion::Completion;
use crate::error::{AioError, SubmitError};
use crate::flags::RwFlags;
use crate::iocb::Iocb;
use crate::op::Exact;
use crate::op::{Callback, Write};
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// What a barrier calls: given back, boxed, where the barrier was refused.
pub type BarrierCallback = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A file whose writes are tracked, so that a [barrier](Journal::barrier) can tell when they are durable. For
/// write-ahead logs, and for page files that are checkpointed. Clones are the same journal.
///
/// The kernel orders nothing: a sync does not wait for writes in flight. A barrier does: it is "sync this
/// file after every write that was submitted before has completed, then call me". Syncs of one journal never
/// overlap: barriers that come while one runs share the next, whoever made them. That is what databases call
/// group commit.
///
/// ```
/// use kiocb::{Aio, Journal, SyncKind};
/// use std::sync::mpsc;
///
/// # fn main() -> std::io::Result<()> {
/// # let dir = tempfile::tempdir()?;
/// let aio = Aio::global()?;
/// let log = Journal::new(&aio, std::fs::File::create(dir.path().join("log"))?);
/// // Errors need not be looked at here: the barrier reports them.
/// log.write("begin; ", 0, |done| drop(done.result))?;
/// log.write("commit", 7, |done| drop(done.result))?;
/// let (committed, wait) = mpsc::channel();
/// log.barrier(SyncKind::Data, move |result| committed.send(result).unwrap())?;
/// wait.recv().unwrap()?; // both are on the disk now
/// # assert_eq!(std::fs::read(dir.path().join("log"))?, b"begin; commit");
/// # Ok(())
/// # }
/// ```
///
/// # Errors stay
/// A write that fails makes every barrier after it fail. So does a sync that fails, because nobody knows what
/// it has lost: the kernel reports such an error once, may have marked the pages clean, and a second sync
/// then succeeds although data are gone ("fsyncgate"). The first error stays: each later barrier is refused
/// with it, whichever thread makes it, until somebody who has seen to it takes it by
/// [`take_error`](Journal::take_error). To see to it means to write again all that no barrier has confirmed,
/// from memory of one's own and not from the file; or to stop, and recover at the next start.
///
/// # Which writes
/// Those by [`write`](Journal::write) and [`write_durable`](Journal::write_durable); others, [waited
/// for](Iocb::wait), awaited, vectored or in a batch, are tracked by hand, with [`track`](Journal::track).
/// What is not tracked is not waited for; what has completed is synced, however it was written.
///
/// # The end
/// What is under way keeps the [`Aio`] alive. [`Aio::drain`] waits for barriers too; [`Aio::shutdown`] makes
/// those fail whose sync has not been submitted ([`AioError::ShutDown`]), so drain before.
#[doc(alias = "group commit")]
#[doc(alias = "fsync")]
pub struct Journal<F>(Arc<Inner<F>>);

struct Inner<F> {
    aio: Aio,
    file: Arc<F>,
    order: Mutex<Order<Waiter, Cause>>,
}

/// One write of a [`Journal`] that is under way: barriers made after it wait for its [`end`](Tracked::end).
///
/// Dropped without that, the write counts as failed (ECANCELED): so it is where its request was refused and
/// is not submitted again. Forgotten (`mem::forget`), later barriers are never called.
#[must_use = "dropped, it counts as a failed write"]
pub struct Tracked<F: AsFd + Send + Sync + 'static> {
    journal: Arc<Inner<F>>,
    epoch: Option<u64>,
}

/// A barrier's callback, and how the thread that makes it knows it again.
struct Waiter {
    number: u64,
    callback: BarrierCallback,
}

/// Why: an error that many are told.
type Cause = Arc<io::Error>;

/// Callbacks that are due, with their results.
type Calls = Vec<(Waiter, Result<(), Cause>)>;

impl<F: AsFd + Send + Sync + 'static> Journal<F> {
    /// A journal over `file`, whose requests go to `aio`.
    pub fn new(aio: &Aio, file: impl Into<Arc<F>>) -> Journal<F> {
        Journal(Arc::new(Inner {
            aio: aio.clone(),
            file: file.into(),
            order: Mutex::new(Order::new()),
        }))
    }

    /// The file.
    pub fn file(&self) -> &Arc<F> {
        &self.0.file
    }

    /// Writes all of `buf` at `offset` (as [`write_all`](Iocb::write_all)), calls `callback`, and then counts
    /// as ended. Blocks where [`submit`](Iocb::submit) does.
    ///
    /// # Errors
    /// As `submit`. The write is inside the error, still tracked: submit it again, or drop it, which counts
    /// as a failed write.
    #[expect(
        clippy::type_complexity,
        reason = "the request comes back whole, as everywhere"
    )]
    pub fn write<B, C>(
        &self,
        buf: B,
        offset: u64,
        callback: C,
    ) -> Result<
        (),
        SubmitError<
            Iocb<
                Callback<
                    Exact<Arc<F>, Write, B>,
                    impl FnOnce(Completion<Arc<F>, B>) + Send + use<F, B, C>,
                >,
            >,
        >,
    >
    where
        B: IoBuf + Send + 'static,
        C: FnOnce(Completion<Arc<F>, B>) + Send + 'static,
    {
        let request = self.request(buf, offset, RwFlags::empty());
        request
            .init_callback(self.track().around(callback))
            .submit()
    }

    /// As [`write`](Journal::write), and when `callback` is called without an error, this write is durable by
    /// itself ([`DSYNC`](RwFlags::DSYNC)): no barrier is needed. Cheaper than a barrier for one small record;
    /// many are cheaper with one barrier. Linux 4.7.
    ///
    /// # Errors
    /// As `write`.
    #[expect(
        clippy::type_complexity,
        reason = "the request comes back whole, as everywhere"
    )]
    pub fn write_durable<B, C>(
        &self,
        buf: B,
        offset: u64,
        callback: C,
    ) -> Result<
        (),
        SubmitError<
            Iocb<
                Callback<
                    Exact<Arc<F>, Write, B>,
                    impl FnOnce(Completion<Arc<F>, B>) + Send + use<F, B, C>,
                >,
            >,
        >,
    >
    where
        B: IoBuf + Send + 'static,
        C: FnOnce(Completion<Arc<F>, B>) + Send + 'static,
    {
        let request = self.request(buf, offset, RwFlags::DSYNC);
        request
            .init_callback(self.track().around(callback))
            .submit()
    }

    fn request<B: IoBuf + Send + 'static>(
        &self,
        buf: B,
        offset: u64,
        flags: RwFlags,
    ) -> Iocb<Exact<Arc<F>, Write, B>> {
        let blank = self.0.aio.alloc();
        let request = blank.init_rw(Arc::clone(&self.0.file), Write, buf, offset);
        request.write_all().rw_flags(flags)
    }

    /// Says that a write of one's own begins now: of any kind, on any context, not yet submitted.
    ///
    /// ```
    /// use kiocb::op::WriteV;
    /// use kiocb::{Aio, Iocb, Journal};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let log = Journal::new(&Aio::global()?, tempfile::tempfile()?);
    /// let write = log.track();
    /// let done = Iocb::alloc().init_rw(log.file().clone(), WriteV, ["head", "body"], 0).write_all().wait()?;
    /// write.end(&done.result);
    /// # assert_eq!(done.result?, 8);
    /// # Ok(())
    /// # }
    /// ```
    pub fn track(&self) -> Tracked<F> {
        Tracked {
            journal: Arc::clone(&self.0),
            epoch: Some(self.0.order.lock().begin()),
        }
    }

    /// Calls `callback` once, when every write that was begun before has ended and a sync after that is
    /// complete: with `Ok` if all of that went well, else with the first error.
    ///
    /// It is called where the context's callbacks run; it may write, make barriers, panic. Where no sync is
    /// to be, because a write failed or the context takes none any more, it is called by whoever finds that
    /// out: the last write's callback or [`Tracked::end`], or, if the context is shut down at this very
    /// moment, another thread's `barrier`.
    ///
    /// # Errors
    /// The barrier was refused, and `callback` is inside the error: [an earlier error
    /// stays](Journal#errors-stay), or what [`submit`](Iocb::submit) says of the sync (EINVAL: this file has
    /// none).
    pub fn barrier(
        &self,
        kind: SyncKind,
        callback: impl FnOnce(io::Result<()>) + Send + 'static,
    ) -> Result<(), SubmitError<BarrierCallback>> {
        let mut order = self.0.order.lock();
        let number = order.count();
        let callback = Box::new(callback);
        let made = order.barrier(kind, Waiter { number, callback });
        drop(order);
        let mut calls = Calls::new();
        match made {
            Ok(next) => self.0.carry_out(next, &mut calls),
            Err((waiter, cause)) => calls.push((waiter, Err(cause))),
        }
        let own = calls.iter().position(|(waiter, _)| waiter.number == number);
        let own = own.map(|place| calls.remove(place));
        call(calls);
        match own {
            Some((waiter, Err(cause))) => Err(SubmitError::new(again(&cause), waiter.callback)),
            _ => Ok(()),
        }
    }

    /// The error that stays, if there is one. It is the caller's now: barriers made from here on are carried
    /// out again, and what was written before must be taken for lost. Barriers that wait already fail all the
    /// same.
    pub fn take_error(&self) -> Option<io::Error> {
        let cause = self.0.order.lock().take_failure()?;
        Some(again(&cause))
    }
}

impl<F: AsFd + Send + Sync + 'static> Tracked<F> {
    /// The write has ended like this. A short one counts as a success, so use [`write_all`](Iocb::write_all),
    /// or pass an error.
    ///
    /// Barriers that waited for it and fail are called in here.
    pub fn end<T>(mut self, result: &io::Result<T>) {
        self.settle(result.as_ref().err().map(|error| Arc::new(again(error))));
    }

    /// A callback that ends the write when `callback` has returned, also by panic.
    fn around<B, C: FnOnce(Completion<Arc<F>, B>)>(
        self,
        callback: C,
    ) -> impl FnOnce(Completion<Arc<F>, B>) + use<F, B, C> {
        move |done: Completion<Arc<F>, B>| {
            let result = done.result.as_ref().map_err(again).map(drop);
            let outcome = catch_unwind(AssertUnwindSafe(|| callback(done)));
            self.end(&result);
            outcome.unwrap_or_else(|panic| resume_unwind(panic));
        }
    }

    fn settle(&mut self, failure: Option<Cause>) {
        if let Some(epoch) = self.epoch.take() {
            let next = self.journal.order.lock().end(epoch, failure);
            let mut calls = Calls::new();
            self.journal.carry_out(next, &mut calls);
            call(calls);
        }
    }
}

impl<F: AsFd + Send + Sync + 'static> Drop for Tracked<F> {
    fn drop(&mut self) {
        let never_written = || Arc::new(io::Error::from_raw_os_error(libc::ECANCELED));
        self.settle(self.epoch.map(|_| never_written()));
    }
}

impl<F: AsFd + Send + Sync + 'static> Inner<F> {
    /// Does what follows from a change, and collects the callbacks that are due. A sync that can't be
    /// submitted is a change too.
    fn carry_out(self: &Arc<Self>, mut next: Next<Waiter, Cause>, calls: &mut Calls) {
        loop {
            let failed = next.failed.into_iter();
            calls.extend(failed.map(|(waiter, cause)| (waiter, Err(cause))));
            let Some(kind) = next.sync else { return };
            let Err(error) = self.submit_sync(kind) else {
                return;
            };
            let cause = Arc::new(error);
            let (group, after) = self.order.lock().sync_refused();
            let group = group.into_iter();
            calls.extend(group.map(|waiter| (waiter, Err(Arc::clone(&cause)))));
            next = after;
        }
    }

    fn submit_sync(self: &Arc<Self>, kind: SyncKind) -> io::Result<()> {
        let (blank, file) = (self.aio.alloc(), Arc::clone(&self.file));
        let request = match kind {
            SyncKind::Data => blank.init_fdsync(file),
            SyncKind::All => blank.init_fsync(file),
        };
        let inner = Arc::clone(self);
        request
            .init_callback(move |done| inner.synced(done.result))
            .submit()?;
        Ok(())
    }

    fn synced(self: Arc<Self>, result: io::Result<usize>) {
        let result = result.map(drop).map_err(Arc::new);
        let (group, next) = self.order.lock().synced(result.clone());
        let mut calls: Calls = group.into_iter().map(|w| (w, result.clone())).collect();
        self.carry_out(next, &mut calls);
        call(calls);
    }
}

/// Calls them all, also when one panics; then the first panic goes on, unless another one is going on
/// already.
fn call(calls: Calls) {
    let mut first = None;
    for (waiter, result) in calls {
        let result = result.map_err(|cause| again(&cause));
        let called = catch_unwind(AssertUnwindSafe(|| (waiter.callback)(result)));
        first = first.or(called.err());
    }
    if let Some(panic) = first
        && !std::thread::panicking()
    {
        resume_unwind(panic);
    }
}

/// The same error once more: `io::Error` can't be cloned.
fn again(error: &io::Error) -> io::Error {
    if let Some(errno) = error.raw_os_error() {
        return io::Error::from_raw_os_error(errno);
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(unavailable) => AioError::clone(unavailable).into(),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

impl<F> Clone for Journal<F> {
    fn clone(&self) -> Self {
        Journal(Arc::clone(&self.0))
    }
}

impl<F> fmt::Debug for Journal<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = self.0.order.lock();
        f.debug_struct("Journal")
            .field("writes", &order.epochs.iter().sum::<usize>())
            .field("barriers", &order.waiting.len())
            .field("syncing", &order.syncing.is_some())
            .field("error", &order.failure)
            .finish_non_exhaustive()
    }
}

impl<F: AsFd + Send + Sync + 'static> fmt::Debug for Tracked<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracked").finish_non_exhaustive()
    }
}
