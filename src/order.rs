//! Order and durability: writes that are tracked, and barriers that tell when they are safe.
//!
//! [`Order`] is the rule, without any I/O: what follows when a write begins or ends, a barrier is made, a sync ends. [`Journal`]
//! carries it out. No lock is held while a callback runs or a request is submitted.

use crate::aio::Aio;
use crate::buffer::IoBuf;
use crate::completion::Completion;
use crate::error::{SubmitError, Unavailable};
use crate::exact::Exact;
use crate::flags::RwFlags;
use crate::iocb::Iocb;
use crate::operation::{Callback, Write};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// What a [barrier](Journal::barrier) flushes. The names are those of `std::fs::File`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SyncKind {
    /// Data, and what is needed to read them back: `fdatasync(2)`.
    Data,
    /// All metadata too, times for example: `fsync(2)`.
    All,
}

/// What a barrier calls: given back, boxed, where the barrier was refused.
pub type BarrierCallback = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A file whose writes are tracked, so that a [barrier](Journal::barrier) can tell when they are durable. For write-ahead logs,
/// and for page files that are checkpointed. Clones are the same journal.
///
/// The kernel orders nothing: a sync does not wait for writes in flight. A barrier does: it is "sync this file after every write
/// that was submitted before has completed, then call me". Syncs of one journal never overlap: barriers that come while one runs
/// share the next, whoever made them. That is what databases call group commit.
///
/// ```
/// use kiocb::{Aio, Journal, SyncKind};
/// use std::sync::mpsc;
///
/// # fn main() -> std::io::Result<()> {
/// # let dir = tempfile::tempdir()?;
/// let aio = Aio::global()?;
/// let log = Journal::new(&aio, std::fs::File::create(dir.path().join("log"))?);
/// log.write("begin; ", 0, |done| drop(done.result))?; // errors need not be looked at here: the barrier reports them
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
/// A write that fails makes every barrier after it fail. So does a sync that fails, because nobody knows what it has lost: the
/// kernel reports such an error once, may have marked the pages clean, and a second sync then succeeds although data are gone
/// ("fsyncgate"). The first error stays: each later barrier is refused with it, whichever thread makes it, until somebody who
/// has seen to it takes it by [`take_error`](Journal::take_error). To see to it means to write again all that no barrier has
/// confirmed, from memory of one's own and not from the file; or to stop, and recover at the next start.
///
/// # Which writes
/// Those by [`write`](Journal::write) and [`write_durable`](Journal::write_durable); others, [waited for](Iocb::wait), awaited,
/// vectored or in a batch, are tracked by hand, with [`track`](Journal::track). What is not tracked is not waited for; what has
/// completed is synced, however it was written.
///
/// # The end
/// What is under way keeps the [`Aio`] alive. [`Aio::drain`] waits for barriers too; [`Aio::shutdown`] makes those fail whose
/// sync has not been submitted ([`Unavailable::ShutDown`]), so drain before.
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
/// Dropped without that, the write counts as failed (ECANCELED): so it is where its request was refused and is not submitted
/// again. Forgotten (`mem::forget`), later barriers are never called.
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

    /// Writes all of `buf` at `offset` (as [`write_all`](Iocb::write_all)), calls `callback`, and then counts as ended. Blocks
    /// where [`submit`](Iocb::submit) does.
    ///
    /// # Errors
    /// As `submit`. The write is inside the error, still tracked: submit it again, or drop it, which counts as a failed write.
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

    /// As [`write`](Journal::write), and when `callback` is called without an error, this write is durable by itself
    /// ([`DSYNC`](RwFlags::DSYNC)): no barrier is needed. Cheaper than a barrier for one small record; many are cheaper with one
    /// barrier. Linux 4.7.
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
    /// use kiocb::{Aio, Iocb, Journal, WriteV};
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

    /// Calls `callback` once, when every write that was begun before has ended and a sync after that is complete: with `Ok` if
    /// all of that went well, else with the first error.
    ///
    /// It is called where the context's callbacks run; it may write, make barriers, panic. Where no sync is to be, because a
    /// write failed or the context takes none any more, it is called by whoever finds that out: the last write's callback or
    /// [`Tracked::end`], or, if the context is shut down at this very moment, another thread's `barrier`.
    ///
    /// # Errors
    /// The barrier was refused, and `callback` is inside the error: [an earlier error stays](Journal#errors-stay), or what
    /// [`submit`](Iocb::submit) says of the sync (EINVAL: this file has none).
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

    /// The error that stays, if there is one. It is the caller's now: barriers made from here on are carried out again, and what
    /// was written before must be taken for lost. Barriers that wait already fail all the same.
    pub fn take_error(&self) -> Option<io::Error> {
        let cause = self.0.order.lock().take_failure()?;
        Some(again(&cause))
    }
}

impl<F: AsFd + Send + Sync + 'static> Tracked<F> {
    /// The write has ended like this. A short one counts as a success, so use [`write_all`](Iocb::write_all), or pass an error.
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
    /// Does what follows from a change, and collects the callbacks that are due. A sync that can't be submitted is a change too.
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

/// Calls them all, also when one panics; then the first panic goes on, unless another one is going on already.
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
        Some(unavailable) => Unavailable::clone(unavailable).into(),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// The rule. `W` stands for who waits at a barrier, `E` for why something failed.
///
/// Barriers divide the writes into epochs: a write belongs to the epoch in which it began, a barrier ends one and opens the
/// next. A barrier is *clear* when no write of its own or an earlier epoch is under way. Clear barriers fail if they are doomed,
/// and are synced otherwise, together, one sync at a time.
struct Order<W, E> {
    /// How many writes are under way in each epoch. The last is the open one; the first, unless it is the last, has some.
    epochs: VecDeque<usize>,
    /// The number of the first.
    oldest: u64,
    /// Barriers that are not being synced, oldest first, so clear ones come first.
    waiting: VecDeque<Barrier<W, E>>,
    /// Whom the sync that is under way is for.
    syncing: Option<Vec<W>>,
    /// The first error, until it is taken.
    failure: Option<E>,
    barriers: u64,
}

struct Barrier<W, E> {
    epoch: u64,
    kind: SyncKind,
    waiter: W,
    /// A write before it failed, or a sync that may have lost one.
    doom: Option<E>,
}

/// What follows from a change.
struct Next<W, E> {
    /// Barriers at their end.
    failed: Vec<(W, E)>,
    /// A sync to be submitted, whose outcome is to be told.
    sync: Option<SyncKind>,
}

impl<W, E: Clone> Order<W, E> {
    fn new() -> Self {
        Order {
            epochs: VecDeque::from([0]),
            oldest: 0,
            waiting: VecDeque::new(),
            syncing: None,
            failure: None,
            barriers: 0,
        }
    }

    /// A number for the next barrier.
    fn count(&mut self) -> u64 {
        self.barriers += 1;
        self.barriers
    }

    fn open_epoch(&self) -> u64 {
        self.oldest + self.epochs.len() as u64 - 1
    }

    /// A write begins; says in which epoch.
    fn begin(&mut self) -> u64 {
        let open = self.open_epoch();
        *self.under_way(open) += 1;
        open
    }

    fn under_way(&mut self, epoch: u64) -> &mut usize {
        let place = usize::try_from(epoch - self.oldest).unwrap_or(usize::MAX);
        &mut self.epochs[place]
    }

    /// A write ends.
    fn end(&mut self, epoch: u64, failure: Option<E>) -> Next<W, E> {
        if let Some(failure) = failure {
            self.fail(epoch, failure);
        }
        *self.under_way(epoch) -= 1;
        self.next()
    }

    /// Dooms the barriers of `epoch` and later ones, also those to come.
    fn fail(&mut self, epoch: u64, failure: E) {
        for barrier in &mut self.waiting {
            if barrier.epoch >= epoch {
                barrier.doom.get_or_insert_with(|| failure.clone());
            }
        }
        self.failure.get_or_insert(failure);
    }

    fn barrier(&mut self, kind: SyncKind, waiter: W) -> Result<Next<W, E>, (W, E)> {
        if let Some(failure) = &self.failure {
            return Err((waiter, failure.clone()));
        }
        let epoch = self.open_epoch();
        self.waiting.push_back(Barrier {
            epoch,
            kind,
            waiter,
            doom: None,
        });
        self.epochs.push_back(0);
        Ok(self.next())
    }

    /// The sync has ended; says for whom it was.
    fn synced(&mut self, result: Result<(), E>) -> (Vec<W>, Next<W, E>) {
        if let Err(failure) = result {
            self.fail(0, failure); // what it has lost, nobody knows
        }
        self.sync_refused()
    }

    /// The sync was not submitted; says for whom it was. Nothing is lost: the next one may do better.
    fn sync_refused(&mut self) -> (Vec<W>, Next<W, E>) {
        let group = self.syncing.take().unwrap_or_default();
        (group, self.next())
    }

    fn next(&mut self) -> Next<W, E> {
        while self.epochs.len() > 1 && self.epochs[0] == 0 {
            self.epochs.pop_front();
            self.oldest += 1;
        }
        let mut failed = Vec::new();
        let mut group = Vec::new();
        let mut sync = None;
        for barrier in self.take_ripe() {
            match barrier.doom {
                Some(why) => failed.push((barrier.waiter, why)),
                None => {
                    sync = sync.max(Some(barrier.kind));
                    group.push(barrier.waiter);
                }
            }
        }
        if sync.is_some() {
            self.syncing = Some(group);
        }
        Next { failed, sync }
    }

    /// The barriers that are clear, and wait for no sync either.
    fn take_ripe(&mut self) -> Vec<Barrier<W, E>> {
        let clear = |barrier: &Barrier<W, E>| barrier.epoch < self.oldest;
        let count = self.waiting.iter().take_while(|b| clear(b)).count();
        if self.syncing.is_none() {
            return self.waiting.drain(..count).collect();
        }
        let mut ripe = Vec::new();
        for place in (0..count).rev() {
            if self.waiting[place].doom.is_some() {
                ripe.extend(self.waiting.remove(place));
            }
        }
        ripe.reverse();
        ripe
    }

    fn take_failure(&mut self) -> Option<E> {
        self.failure.take()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by definition: remembers everything that ever happened, and works out each answer from that.
    #[derive(Default)]
    struct Twin {
        events: Vec<Event>,
        sync_under_way: bool,
        failure: Option<u32>,
    }

    enum Event {
        Write {
            under_way: bool,
        },
        Barrier {
            number: u32,
            kind: SyncKind,
            doom: Option<u32>,
            stage: Stage,
        },
    }

    #[derive(PartialEq)]
    enum Stage {
        Waiting,
        Syncing,
        Over,
    }

    /// What was to be seen from outside.
    #[derive(Debug, PartialEq)]
    enum Seen {
        Refused(u32, u32),
        Failed(u32, u32),
        SyncBegun(SyncKind),
        Synced(Vec<u32>),
    }

    impl Twin {
        fn begin(&mut self) -> usize {
            self.events.push(Event::Write { under_way: true });
            self.events.len() - 1
        }

        fn end(&mut self, write: usize, failure: Option<u32>) -> Vec<Seen> {
            self.events[write] = Event::Write { under_way: false };
            if let Some(why) = failure {
                self.fail_after(write, why);
            }
            self.settle()
        }

        fn fail_after(&mut self, place: usize, why: u32) {
            self.failure = self.failure.or(Some(why));
            for event in &mut self.events[place..] {
                if let Event::Barrier {
                    doom,
                    stage: Stage::Waiting,
                    ..
                } = event
                {
                    *doom = doom.or(Some(why));
                }
            }
        }

        fn barrier(&mut self, number: u32, kind: SyncKind) -> Vec<Seen> {
            if let Some(why) = self.failure {
                return vec![Seen::Refused(number, why)];
            }
            self.events.push(Event::Barrier {
                number,
                kind,
                doom: None,
                stage: Stage::Waiting,
            });
            self.settle()
        }

        fn synced(&mut self, failure: Option<u32>) -> Vec<Seen> {
            let mut group = Vec::new();
            for event in &mut self.events {
                if let Event::Barrier { number, stage, .. } = event
                    && *stage == Stage::Syncing
                {
                    *stage = Stage::Over;
                    group.push(*number);
                }
            }
            self.sync_under_way = false;
            if let Some(why) = failure {
                self.fail_after(0, why);
            }
            let mut seen = vec![Seen::Synced(group)];
            seen.extend(self.settle());
            seen
        }

        fn settle(&mut self) -> Vec<Seen> {
            let mut seen = Vec::new();
            let mut sync = None;
            for event in &mut self.events {
                match event {
                    Event::Write { under_way: true } => break,
                    Event::Write { under_way: false } => {}
                    Event::Barrier { stage, .. } if *stage != Stage::Waiting => {}
                    Event::Barrier {
                        number,
                        doom: Some(why),
                        stage,
                        ..
                    } => {
                        *stage = Stage::Over;
                        seen.push(Seen::Failed(*number, *why));
                    }
                    Event::Barrier { kind, stage, .. } if !self.sync_under_way => {
                        *stage = Stage::Syncing;
                        sync = sync.max(Some(*kind));
                    }
                    Event::Barrier { .. } => {}
                }
            }
            self.sync_under_way |= sync.is_some();
            seen.extend(sync.map(Seen::SyncBegun));
            seen
        }
    }

    fn seen(next: Next<u32, u32>) -> Vec<Seen> {
        let failed = next.failed.into_iter();
        let failed = failed.map(|(number, why)| Seen::Failed(number, why));
        failed.chain(next.sync.map(Seen::SyncBegun)).collect()
    }

    fn seen_after_sync((group, next): (Vec<u32>, Next<u32, u32>)) -> Vec<Seen> {
        let mut all = vec![Seen::Synced(group)];
        all.extend(seen(next));
        all
    }

    /// xorshift64.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) % sides
        }
    }

    /// Both get the same random story, and must tell the same at every step. Says how many barriers there were at their end.
    fn compare(seed: u64, steps: u32) -> usize {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (mut order, mut twin) = (Order::<u32, u32>::new(), Twin::default());
        let mut writes: Vec<(u64, usize)> = Vec::new();
        let mut over = 0;
        for step in 0..steps {
            let why = (dice.roll(12) == 0).then_some(step);
            let kind = [SyncKind::Data, SyncKind::All][usize::from(dice.roll(4) == 0)];
            let (ours, theirs) = match dice.roll(8) {
                0 | 1 => {
                    writes.push((order.begin(), twin.begin()));
                    (vec![], vec![])
                }
                2..=4 if !writes.is_empty() => {
                    let place = usize::try_from(dice.roll(writes.len() as u64)).unwrap();
                    let (epoch, write) = writes.swap_remove(place);
                    (seen(order.end(epoch, why)), twin.end(write, why))
                }
                5 | 6 => {
                    let ours = match order.barrier(kind, step) {
                        Ok(next) => seen(next),
                        Err((number, why)) => vec![Seen::Refused(number, why)],
                    };
                    (ours, twin.barrier(step, kind))
                }
                7 if order.syncing.is_some() && dice.roll(3) == 0 => {
                    (seen_after_sync(order.sync_refused()), twin.synced(None))
                }
                7 if order.syncing.is_some() => (
                    seen_after_sync(order.synced(why.map_or(Ok(()), Err))),
                    twin.synced(why),
                ),
                _ if dice.roll(4) == 0 => {
                    assert_eq!(order.take_failure(), twin.failure.take());
                    (vec![], vec![])
                }
                _ => (vec![], vec![]),
            };
            assert_eq!(ours, theirs, "seed {seed}, step {step}");
            over += ours
                .iter()
                .map(|seen| match seen {
                    Seen::Synced(group) => group.len(),
                    Seen::SyncBegun(_) => 0,
                    _ => 1,
                })
                .sum::<usize>();
        }
        over
    }

    #[test]
    fn the_rule_agrees_with_a_twin_that_remembers_everything() {
        let over: usize = (0..3000).map(|seed| compare(seed, 60)).sum();
        assert!(over > 10_000, "only {over} barriers came to their end");
        assert!(compare(77, 5000) > 100);
    }

    #[test]
    fn nothing_is_remembered_of_what_is_over() {
        let mut order = Order::<u32, u32>::new();
        for number in 0..1000 {
            let write = order.begin();
            assert_eq!(seen(order.end(write, None)), []);
            let next = order.barrier(SyncKind::Data, number);
            assert_eq!(
                seen(next.unwrap_or_else(|_| unreachable!())),
                [Seen::SyncBegun(SyncKind::Data)]
            );
            assert_eq!(
                seen_after_sync(order.synced(Ok(()))),
                [Seen::Synced(vec![number])]
            );
        }
        assert_eq!((order.epochs.len(), order.waiting.len()), (1, 0));
    }
}
