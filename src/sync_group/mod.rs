//! Order and durability: writes that are tracked, and barriers that tell when they are safe.
//!
//! | file | noun |
//! | --- | --- |
//! | `mod` | the group that users hold |
//! | `write` | one of its writes |
//! | `pending` | barriers and commits as handles; `slot`: where their outcome arrives |
//! | `inner` | what its handles share: syncs submitted, and what follows from their end |
//! | `calls` | callbacks of barriers that are due; `panics`: calling what the user gave |
//!
//! `sync_scheduler` has the rule, without any I/O: what follows when a write begins or ends, a barrier is
//! made, a sync ends. This module carries it out by the crate's public interface.

mod calls;
mod inner;
mod panics;
mod pending;
mod slot;
mod write;

use crate::aio::Aio;
use crate::buf::IoBuf;
use crate::completion::Completion;
use crate::error::SubmitError;
use crate::flags::RwFlags;
use crate::iocb::Iocb;
use crate::op::Write;
use crate::sync_scheduler::{Snapshot, SyncKind};
use calls::{Cause, Waiter, again};
use inner::Inner;
pub use pending::{CommitError, PendingCommit, PendingSync};
use slot::{Arrive, Slot};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use write::WriteAll;
pub use write::{TrackedWrite, UnsubmittedWrite};

/// What a barrier calls. A barrier that is refused gives it back, boxed.
pub type BarrierCallback = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A file whose writes are tracked, so that a [barrier](SyncGroup::barrier) can tell when they are durable.
/// For write-ahead logs, and for page files that are checkpointed. Clones are the same group.
///
/// The kernel orders nothing: a sync does not wait for writes in flight. A barrier does: it is "sync this
/// file after every write that was submitted before has completed, then call me". Syncs of one group never
/// overlap. Barriers that are made while one runs share the next, whichever threads make them: databases call
/// that group commit. What a barrier costs does not depend on how many wait.
///
/// ```
/// use kiocb::{Aio, SyncGroup, SyncKind};
/// use std::sync::mpsc;
///
/// # fn main() -> std::io::Result<()> {
/// # let dir = tempfile::tempdir()?;
/// let aio = Aio::global()?;
/// let log = SyncGroup::new(&aio, std::fs::File::create(dir.path().join("log"))?);
/// // Errors need not be looked at here: the barrier reports them.
/// log.write("begin; ", 0, |done| drop(done.result))?;
/// log.write("commit", 7, |done| drop(done.result))?;
/// let (committed, wait) = mpsc::channel();
/// log.barrier(SyncKind::Data, move |result| committed.send(result).unwrap())?;
/// wait.recv().unwrap()?; // both are on the disk now
/// # assert_eq!(std::fs::read(dir.path().join("log"))?, b"begin; commit");
///
/// log.commit("; in a line", 13).wait()?; // or .await
/// # Ok(())
/// # }
/// ```
///
/// # Errors stay
/// A write that fails makes every barrier after it fail. A sync that fails makes all barriers that wait fail:
/// which data it has lost is unknown. The kernel reports such an error once and may have marked the pages
/// clean, so a second sync succeeds although data are gone ("fsyncgate").
///
/// The first error stays. Each later barrier is refused with it, on whichever thread it is made, until the
/// program takes it by [`take_error`](SyncGroup::take_error). Before it goes on, the program must write again
/// all that no barrier has confirmed, from its own memory and not from the file. Or it stops, and recovers at
/// its next start.
///
/// # A sync that takes long
/// The kernel carries syncs out on threads that the whole machine shares, and blocked ones of other files and
/// processes may hold them up, as [`init_fsync`](crate::Iocb::init_fsync) says. A
/// [`write_durable`](SyncGroup::write_durable) needs none of these threads.
///
/// # Which writes
/// Those by [`write`](SyncGroup::write), [`write_durable`](SyncGroup::write_durable) and
/// [`commit`](SyncGroup::commit). Others ([waited
/// for](Iocb::wait), awaited, vectored or in a batch) are tracked by hand, with [`track`](SyncGroup::track).
/// A write that is not tracked is not waited for. What has completed is synced, however it was written.
///
/// # The end
/// What is under way keeps the [`Aio`] alive. [`Aio::drain`] waits for barriers too. [`Aio::shutdown`] makes
/// those fail whose sync has not been submitted ([`AioError::ShutDown`]), so drain before.
///
/// # Fork
/// In a forked child of the process that made the group, [`barrier`](SyncGroup::barrier),
/// [`write`](SyncGroup::write) and [`write_durable`](SyncGroup::write_durable) return
/// [`AioError::Forked`], as do the handles of [`sync`](SyncGroup::sync) and [`commit`](SyncGroup::commit),
/// also those made before the fork; [`take_error`](SyncGroup::take_error) returns `None`, and what
/// [`track`](SyncGroup::track) returns tracks nothing. Barriers of the parent are called in the parent alone.
/// None of these calls blocks in the child, and no drop does, also where another thread of the parent was
/// inside one when it forked. The child makes a group of its own, over an [`Aio`] of its own.
///
/// [`AioError::Forked`]: crate::AioError::Forked
/// [`AioError::ShutDown`]: crate::AioError::ShutDown
#[doc(alias = "group commit")]
#[doc(alias = "fsync")]
pub struct SyncGroup<F>(Arc<Inner<F>>);

impl<F: AsFd + Send + Sync + 'static> SyncGroup<F> {
    /// A group over `file`, whose requests go to `aio`. Does not block.
    pub fn new(aio: &Aio, file: F) -> SyncGroup<F> {
        SyncGroup::from_arc(aio, Arc::new(file))
    }

    /// As [`new`](SyncGroup::new), over a file that is shared already: the group is a `SyncGroup<File>` for
    /// an `Arc<File>`. (`new` takes an `Arc<File>` too, and wraps it in another `Arc`.)
    ///
    /// ```
    /// use kiocb::{Aio, SyncGroup};
    /// use std::{fs::File, sync::Arc};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let file = Arc::new(tempfile::tempfile()?);
    /// let group: SyncGroup<File> = SyncGroup::from_arc(&Aio::global()?, Arc::clone(&file));
    /// assert!(Arc::ptr_eq(group.file(), &file));
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_arc(aio: &Aio, file: Arc<F>) -> SyncGroup<F> {
        SyncGroup(Arc::new(Inner::new(aio, file)))
    }

    /// The file.
    pub fn file(&self) -> &Arc<F> {
        &self.0.file
    }

    /// Writes all of `buf` at `offset` (as [`write_all`](Iocb::write_all)), calls `callback`, and then counts
    /// as ended. Blocks where [`submit`](Iocb::submit) does.
    ///
    /// # Errors
    /// As [`submit`](Iocb::submit). The [write](UnsubmittedWrite) is inside the error, and for the group it
    /// is still under way: submit it again, take it apart, or drop it, which counts as a failed write.
    pub fn write<B, C>(
        &self,
        buf: B,
        offset: u64,
        callback: C,
    ) -> Result<(), SubmitError<UnsubmittedWrite<F, B, C>>>
    where
        B: IoBuf + Send + 'static,
        C: FnOnce(Completion<Arc<F>, B>) + Send + 'static,
    {
        let request = self.request(buf, offset, RwFlags::empty());
        write::submit(request, callback, self.track())
    }

    /// As [`write`](SyncGroup::write), and when `callback` is called without an error, this write is durable
    /// by itself ([`DSYNC`](RwFlags::DSYNC)): no barrier is needed. For one small record this is cheaper than
    /// a barrier; for many, one barrier is cheaper. Linux 4.13.
    ///
    /// # Errors
    /// As [`write`](SyncGroup::write).
    pub fn write_durable<B, C>(
        &self,
        buf: B,
        offset: u64,
        callback: C,
    ) -> Result<(), SubmitError<UnsubmittedWrite<F, B, C>>>
    where
        B: IoBuf + Send + 'static,
        C: FnOnce(Completion<Arc<F>, B>) + Send + 'static,
    {
        let request = self.request(buf, offset, RwFlags::DSYNC);
        write::submit(request, callback, self.track())
    }

    fn request<B: IoBuf + Send + 'static>(
        &self,
        buf: B,
        offset: u64,
        flags: RwFlags,
    ) -> Iocb<WriteAll<F, B>> {
        let blank = self.0.aio.alloc();
        let request = blank.init_rw(Arc::clone(&self.0.file), Write, buf, offset);
        request.write_all().rw_flags(flags)
    }

    /// Says that a write of the caller's own begins now: of any kind, on any context, not yet submitted. Does
    /// not block.
    ///
    /// ```
    /// use kiocb::op::WriteV;
    /// use kiocb::{Aio, Iocb, SyncGroup};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let log = SyncGroup::new(&Aio::global()?, tempfile::tempfile()?);
    /// let write = log.track();
    /// let done = Iocb::alloc().init_rw(log.file().clone(), WriteV, ["head", "body"], 0).write_all().wait()?;
    /// write.end(&done.result);
    /// # assert_eq!(done.result?, 8);
    /// # Ok(())
    /// # }
    /// ```
    pub fn track(&self) -> TrackedWrite<F> {
        TrackedWrite::begin(&self.0)
    }

    /// Calls `callback` once, when every write that was begun before has ended and a sync after that is
    /// complete: with `Ok` if all of that went well, else with the first error. Blocks where
    /// [`submit`](Iocb::submit) does.
    ///
    /// It is called where the context's callbacks run; it may write, make barriers, panic. Where there is no
    /// sync, because a write failed or the context takes no requests any more, the thread that finds that out
    /// calls it: in the last write's callback, in [`TrackedWrite::end`] or its drop, or, if the context is
    /// being shut down at this moment, in another thread's `barrier`. No lock is held meanwhile. If the
    /// callback of one barrier panics, those of the others are called all the same, and then the panic goes
    /// on in that thread.
    ///
    /// # Errors
    /// The barrier was refused, and `callback` is inside the error:
    ///
    /// - any errno: [an earlier error stays](SyncGroup#errors-stay).
    /// - what [`submit`](Iocb::submit) returns for the sync: EINVAL where this file has none (a pipe), or an
    ///   [`AioError`](crate::AioError) inside. Nothing stays: the next barrier tries again.
    pub fn barrier(
        &self,
        kind: SyncKind,
        callback: impl FnOnce(io::Result<()>) + Send + 'static,
    ) -> Result<(), SubmitError<BarrierCallback>> {
        let made = self
            .0
            .barrier(kind, Waiter::of_callback(Box::new(callback)));
        made.map_err(|(waiter, cause)| {
            let callback = waiter.into_callback().expect("made of one above");
            SubmitError::new(again(&cause), callback)
        })
    }

    /// A [barrier](SyncGroup::barrier) with a handle instead of a callback: to be waited for, also with a
    /// deadline, or awaited. Where the barrier is refused, the handle's result says so. Blocks where
    /// [`submit`](Iocb::submit) does.
    ///
    /// ```
    /// use kiocb::{Aio, SyncGroup, SyncKind};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let log = SyncGroup::new(&Aio::global()?, tempfile::tempfile()?);
    /// log.write("begin; ", 0, |done| drop(done.result))?;
    /// log.write("commit", 7, |done| drop(done.result))?;
    /// log.sync(SyncKind::Data).wait()?; // or .await: both are on the disk now
    /// # Ok(())
    /// # }
    /// ```
    pub fn sync(&self, kind: SyncKind) -> PendingSync<F> {
        let slot = Slot::new(Some(()));
        self.barrier_with_handle(kind, Arc::clone(&slot) as Arc<dyn Arrive>);
        PendingSync::new(&self.0, slot)
    }

    /// Writes all of `buf` at `offset`, and makes a barrier after it: the handle's outcome is the buffer,
    /// when the write and all writes that were begun before are durable ([`SyncKind::Data`]). Commits of
    /// several threads share syncs. Blocks where [`submit`](Iocb::submit) does.
    ///
    /// ```
    /// use kiocb::{Aio, SyncGroup};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let log = SyncGroup::new(&Aio::global()?, tempfile::tempfile()?);
    /// let record = log.commit(b"record".to_vec(), 0).wait()?; // or .await
    /// assert_eq!(record, b"record"); // the buffer, for the next one
    ///
    /// let (first, second) = (log.commit("first; ", 6), log.commit("second", 13));
    /// first.wait()?;
    /// second.wait()?; // likely by the same sync
    /// # Ok(())
    /// # }
    /// ```
    pub fn commit<B>(&self, buf: B, offset: u64) -> PendingCommit<F, B>
    where
        B: IoBuf + Send + 'static,
    {
        let slot = Slot::new(None);
        let request = self.request(buf, offset, RwFlags::empty());
        let written = Arc::clone(&slot);
        let callback = move |done: Completion<Arc<F>, B>| written.give_back(done.buf);
        match write::submit(request, callback, self.track()) {
            Ok(()) => {
                self.barrier_with_handle(SyncKind::Data, Arc::clone(&slot) as Arc<dyn Arrive>)
            }
            Err(refused) => {
                let (error, write) = refused.into_parts();
                let (buf, _, write) = write.into_parts();
                slot.give_back(buf);
                slot.arrive(Err(again(&error)));
                write.end::<()>(&Err(error));
            }
        }
        PendingCommit::new(&self.0, slot)
    }

    fn barrier_with_handle(&self, kind: SyncKind, slot: Arc<dyn Arrive>) {
        if let Err((waiter, cause)) = self.0.barrier(kind, Waiter::of_handle(slot)) {
            waiter.tell(Err(again(&cause)));
        }
    }

    /// Takes the error that [stays](SyncGroup#errors-stay), if there is one. Barriers made from here on are
    /// carried out again. Whether what was written before is in the file is unknown. Barriers that wait
    /// already fail all the same. Does not block.
    pub fn take_error(&self) -> Option<io::Error> {
        let cause = self.0.scheduler.lock()?.take_failure()?;
        Some(again(&cause))
    }
}

impl<F> Clone for SyncGroup<F> {
    fn clone(&self) -> Self {
        SyncGroup(Arc::clone(&self.0))
    }
}

impl<F> fmt::Debug for SyncGroup<F> {
    /// Does not wait for the lock, and does not hold it while it writes: what it writes to may use the group.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self
            .0
            .scheduler
            .try_lock()
            .map(|scheduler| scheduler.snapshot());
        let mut fields = f.debug_struct("SyncGroup");
        match snapshot {
            Some(seen) => show(&mut fields, &seen),
            None if self.0.scheduler.is_here() => fields.field("state", &format_args!("busy")),
            None => fields.field("state", &format_args!("forked")),
        };
        fields.finish_non_exhaustive()
    }
}

fn show<'a, 'b, 'f>(
    fields: &'a mut fmt::DebugStruct<'b, 'f>,
    seen: &Snapshot<Cause>,
) -> &'a mut fmt::DebugStruct<'b, 'f> {
    fields
        .field("writes", &seen.writes)
        .field("barriers", &seen.barriers)
        .field("syncing", &seen.syncing)
        .field("error", &seen.failure)
}
