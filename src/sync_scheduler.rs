//! When a barrier is due: the rule behind [`SyncGroup`](crate::SyncGroup), without any I/O.
//!
//! What a change costs does not depend on how many barriers wait: each barrier is put in once, doomed at most
//! once, and taken out once.

use std::collections::VecDeque;

/// What a [barrier](crate::SyncGroup::barrier) flushes. The names are those of `std::fs::File`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SyncKind {
    /// Data, and what is needed to read them back: `fdatasync(2)`.
    Data,
    /// All metadata too, times for example: `fsync(2)`.
    All,
}

/// The rule. `W` stands for what waits at a barrier, `E` for why something failed.
///
/// Barriers divide the writes into epochs: a write belongs to the epoch in which it began, a barrier ends one
/// and opens the next. A barrier is *clear* when no write of its own or an earlier epoch is under way. Clear
/// barriers fail if they are doomed, and are synced otherwise, together, one sync at a time.
pub(crate) struct SyncScheduler<W, E> {
    /// The epochs that a barrier has ended, oldest first. The first has writes under way.
    ended: VecDeque<Epoch<W, E>>,
    /// The number of the first of them, or of the open epoch where there is none.
    oldest: u64,
    /// How many writes are under way in the open epoch.
    open_writes: usize,
    /// How many writes are under way in all epochs.
    writes: usize,
    /// Which of the ended epochs have a barrier that is not doomed: their numbers, in ascending order.
    undoomed: VecDeque<u64>,
    /// Clear barriers that are not doomed: they wait for the sync that is under way to end.
    ready: Group<W>,
    /// The barriers that the sync that is under way is for.
    syncing: Option<Vec<W>>,
    /// The first error, until it is taken.
    failure: Option<E>,
    /// How often a loop went round.
    #[cfg(test)]
    steps: u64,
}

/// An epoch that a barrier has ended, and that barrier.
struct Epoch<W, E> {
    /// How many of its writes are under way.
    writes: usize,
    kind: SyncKind,
    waiter: W,
    /// A write before the barrier failed, or a sync that may have lost one.
    doom: Option<E>,
}

/// Barriers that one sync will be for.
struct Group<W> {
    waiters: Vec<W>,
    /// The strongest of their kinds; `None` if there are no barriers.
    kind: Option<SyncKind>,
}

/// What follows from a change.
pub(crate) struct Next<W, E> {
    /// Barriers at their end.
    pub(crate) failed: Vec<(W, E)>,
    /// A sync to be submitted, whose outcome is to be told.
    pub(crate) sync: Option<SyncKind>,
}

/// What there is to see of a scheduler.
pub(crate) struct Snapshot<E> {
    /// Writes under way.
    pub(crate) writes: usize,
    /// Barriers that are not being synced.
    pub(crate) barriers: usize,
    pub(crate) syncing: bool,
    pub(crate) failure: Option<E>,
}

impl<W> Group<W> {
    const fn new() -> Self {
        Group {
            waiters: Vec::new(),
            kind: None,
        }
    }

    fn add(&mut self, kind: SyncKind, waiter: W) {
        self.kind = self.kind.max(Some(kind));
        self.waiters.push(waiter);
    }
}

impl<W, E: Clone> SyncScheduler<W, E> {
    pub(crate) fn new() -> Self {
        SyncScheduler {
            ended: VecDeque::new(),
            oldest: 0,
            open_writes: 0,
            writes: 0,
            undoomed: VecDeque::new(),
            ready: Group::new(),
            syncing: None,
            failure: None,
            #[cfg(test)]
            steps: 0,
        }
    }

    fn open_epoch(&self) -> u64 {
        self.oldest + self.ended.len() as u64
    }

    /// A write begins; returns its epoch.
    pub(crate) fn begin(&mut self) -> u64 {
        self.writes += 1;
        self.open_writes += 1;
        self.open_epoch()
    }

    /// The ended epoch with this number; `None` if it is the open one.
    fn ended(&mut self, epoch: u64) -> Option<&mut Epoch<W, E>> {
        debug_assert!((self.oldest..=self.open_epoch()).contains(&epoch));
        self.ended
            .get_mut(usize::try_from(epoch - self.oldest).ok()?)
    }

    /// A write ends.
    pub(crate) fn end(&mut self, epoch: u64, failure: Option<E>) -> Next<W, E> {
        if let Some(failure) = failure {
            self.doom(epoch, &failure);
            self.failure.get_or_insert(failure);
        }
        self.writes -= 1;
        match self.ended(epoch) {
            Some(ended) => ended.writes -= 1,
            None => self.open_writes -= 1,
        }
        self.next()
    }

    /// Dooms the barriers of `epoch` and of the later ones. One that is doomed already keeps its first error.
    fn doom(&mut self, epoch: u64, failure: &E) {
        while self.undoomed.back().is_some_and(|last| *last >= epoch) {
            self.step();
            let last = self.undoomed.pop_back();
            if let Some(ended) = last.and_then(|last| self.ended(last)) {
                ended.doom = Some(failure.clone());
            }
        }
    }

    /// Ends the open epoch, unless an error stays: then the barrier is refused with it.
    pub(crate) fn barrier(&mut self, kind: SyncKind, waiter: W) -> Result<Next<W, E>, (W, E)> {
        if let Some(failure) = &self.failure {
            return Err((waiter, failure.clone()));
        }
        self.undoomed.push_back(self.open_epoch());
        self.ended.push_back(Epoch {
            writes: std::mem::take(&mut self.open_writes),
            kind,
            waiter,
            doom: None,
        });
        Ok(self.next())
    }

    /// The sync has ended; returns the barriers that it was for.
    pub(crate) fn synced(&mut self, result: Result<(), E>) -> (Vec<W>, Next<W, E>) {
        let Err(failure) = result else {
            return self.sync_refused();
        };
        // Which data it has lost is unknown: every barrier may have waited for them.
        self.doom(0, &failure);
        let ready = std::mem::replace(&mut self.ready, Group::new());
        let group = self.syncing.take().unwrap_or_default();
        let mut next = self.next();
        let doomed = ready.waiters.into_iter();
        let mut failed: Vec<_> = doomed.map(|waiter| (waiter, failure.clone())).collect();
        failed.append(&mut next.failed);
        self.failure.get_or_insert(failure);
        (group, Next { failed, ..next })
    }

    /// The sync was not submitted; returns the barriers that it was for. Nothing is lost: the next sync may
    /// succeed.
    pub(crate) fn sync_refused(&mut self) -> (Vec<W>, Next<W, E>) {
        let group = self.syncing.take().unwrap_or_default();
        (group, self.next())
    }

    /// Takes out the barriers that are clear: those that are doomed fail, the others are ready. Begins a sync
    /// for what is ready, if none is under way.
    fn next(&mut self) -> Next<W, E> {
        let mut failed = Vec::new();
        while let Some(clear) = self.pop_clear() {
            match clear.doom {
                Some(why) => failed.push((clear.waiter, why)),
                None => self.ready.add(clear.kind, clear.waiter),
            }
        }
        let sync = self.begin_sync();
        Next { failed, sync }
    }

    /// Takes out the oldest epoch, if its barrier is clear.
    fn pop_clear(&mut self) -> Option<Epoch<W, E>> {
        if self.ended.front()?.writes > 0 {
            return None;
        }
        self.step();
        if self.undoomed.front() == Some(&self.oldest) {
            self.undoomed.pop_front();
        }
        self.oldest += 1;
        self.ended.pop_front()
    }

    fn begin_sync(&mut self) -> Option<SyncKind> {
        if self.syncing.is_some() || self.ready.kind.is_none() {
            return None;
        }
        let ready = std::mem::replace(&mut self.ready, Group::new());
        self.syncing = Some(ready.waiters);
        ready.kind
    }

    pub(crate) fn take_failure(&mut self) -> Option<E> {
        self.failure.take()
    }

    pub(crate) fn snapshot(&self) -> Snapshot<E> {
        Snapshot {
            writes: self.writes,
            barriers: self.ended.len() + self.ready.waiters.len(),
            syncing: self.syncing.is_some(),
            failure: self.failure.clone(),
        }
    }

    /// Counts what a test bounds.
    #[inline]
    fn step(&mut self) {
        #[cfg(test)]
        {
            self.steps += 1;
        }
    }
}

#[cfg(test)]
mod tests;
