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

    /// The rule and its twin, to which the same happens.
    struct Pair {
        dice: Dice,
        scheduler: SyncScheduler<u32, u32>,
        twin: Twin,
        /// Writes under way, as each of the two knows them.
        writes: Vec<(u64, usize)>,
    }

    impl Pair {
        /// Something happens to both. What each of them shows then.
        fn step(&mut self, step: u32) -> (Vec<Seen>, Vec<Seen>) {
            let why = (self.dice.roll(12) == 0).then_some(step);
            match self.dice.roll(8) {
                0 | 1 => self
                    .writes
                    .push((self.scheduler.begin(), self.twin.begin())),
                2..=4 if !self.writes.is_empty() => return self.end_a_write(why),
                5 | 6 => return self.barrier(step),
                7 if self.scheduler.syncing.is_some() => return self.end_the_sync(why),
                _ if self.dice.roll(4) == 0 => {
                    assert_eq!(self.scheduler.take_failure(), self.twin.failure.take());
                }
                _ => {}
            }
            (vec![], vec![])
        }

        fn end_a_write(&mut self, why: Option<u32>) -> (Vec<Seen>, Vec<Seen>) {
            let place = self.dice.roll(self.writes.len() as u64);
            let (epoch, write) = self.writes.swap_remove(usize::try_from(place).unwrap());
            (
                seen(self.scheduler.end(epoch, why)),
                self.twin.end(write, why),
            )
        }

        fn barrier(&mut self, step: u32) -> (Vec<Seen>, Vec<Seen>) {
            let kind = [SyncKind::Data, SyncKind::All][usize::from(self.dice.roll(4) == 0)];
            let ours = match self.scheduler.barrier(kind, step) {
                Ok(next) => seen(next),
                Err((number, why)) => vec![Seen::Refused(number, why)],
            };
            (ours, self.twin.barrier(step, kind))
        }

        fn end_the_sync(&mut self, why: Option<u32>) -> (Vec<Seen>, Vec<Seen>) {
            if self.dice.roll(3) == 0 {
                let ours = seen_after_sync(self.scheduler.sync_refused());
                return (ours, self.twin.synced(None));
            }
            let ours = seen_after_sync(self.scheduler.synced(why.map_or(Ok(()), Err)));
            (ours, self.twin.synced(why))
        }
    }

    impl Seen {
        /// Barriers at their end.
        fn over(&self) -> usize {
            match self {
                Seen::Synced(group) => group.len(),
                Seen::SyncBegun(_) => 0,
                Seen::Refused(..) | Seen::Failed(..) => 1,
            }
        }
    }

    /// Both get the same random story, and must tell the same at every step. Says how many barriers there
    /// were at their end.
    fn compare(seed: u64, steps: u32) -> usize {
        let mut pair = Pair {
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            scheduler: SyncScheduler::new(),
            twin: Twin::default(),
            writes: Vec::new(),
        };
        let mut over = 0;
        for step in 0..steps {
            let (ours, theirs) = pair.step(step);
            assert_eq!(ours, theirs, "seed {seed}, step {step}");
            over += ours.iter().map(Seen::over).sum::<usize>();
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
        let mut scheduler = SyncScheduler::<u32, u32>::new();
        for number in 0..1000 {
            let write = scheduler.begin();
            assert_eq!(seen(scheduler.end(write, None)), []);
            let next = scheduler.barrier(SyncKind::Data, number);
            assert_eq!(
                seen(next.unwrap_or_else(|_| unreachable!())),
                [Seen::SyncBegun(SyncKind::Data)]
            );
            assert_eq!(
                seen_after_sync(scheduler.synced(Ok(()))),
                [Seen::Synced(vec![number])]
            );
        }
        assert_eq!((scheduler.ended.len(), scheduler.undoomed.len()), (0, 0));
        assert_eq!(scheduler.snapshot().barriers, 0);
    }
    type Story = fn(&mut SyncScheduler<u32, u32>, u32);

    /// Ways to make many barriers wait, and to end them: behind a write, behind a sync, doomed by many writes, doomed
    /// after errors that were taken.
    const LONG: [Story; 4] = [
        |scheduler, count| {
            let write = scheduler.begin();
            (0..count).for_each(|number| drop(scheduler.barrier(SyncKind::Data, number)));
            scheduler.end(write, Some(1));
        },
        |scheduler, count| {
            (0..count).for_each(|number| drop(scheduler.barrier(SyncKind::Data, number)));
            scheduler.synced(Ok(()));
            scheduler.synced(Err(1));
        },
        |scheduler, count| {
            let begin = |number| {
                let write = scheduler.begin();
                drop(scheduler.barrier(SyncKind::Data, number));
                write
            };
            let writes: Vec<_> = (0..count).map(begin).collect();
            for write in writes.into_iter().rev() {
                scheduler.end(write, Some(1));
            }
        },
        |scheduler, count| {
            let first = scheduler.begin();
            for number in 0..count {
                let write = scheduler.begin();
                drop(scheduler.barrier(SyncKind::Data, number));
                scheduler.end(write, Some(1));
                scheduler.take_failure();
            }
            scheduler.end(first, None);
        },
    ];

    #[test]
    fn each_barrier_costs_the_same_however_many_wait() {
        for (at, story) in LONG.iter().enumerate() {
            for count in [1000, 4000] {
                let mut scheduler = SyncScheduler::new();
                story(&mut scheduler, count);
                assert_eq!(scheduler.snapshot().barriers, 0, "story {at}");
                // Doomed once, and taken out once.
                assert!(scheduler.steps <= 2 * u64::from(count), "story {at}");
            }
        }
    }
}
