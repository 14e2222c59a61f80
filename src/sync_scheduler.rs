//! When a barrier is due: the rule behind [`SyncGroup`](crate::SyncGroup), without any I/O.

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

/// The rule. `W` stands for who waits at a barrier, `E` for why something failed.
///
/// Barriers divide the writes into epochs: a write belongs to the epoch in which it began, a barrier ends one
/// and opens the next. A barrier is *clear* when no write of its own or an earlier epoch is under way. Clear
/// barriers fail if they are doomed, and are synced otherwise, together, one sync at a time.
pub(crate) struct SyncScheduler<W, E> {
    /// How many writes are under way in each epoch. The last is the open one; the first, unless it is the
    /// last, has some.
    pub(crate) epochs: VecDeque<usize>,
    /// The number of the first.
    oldest: u64,
    /// Barriers that are not being synced, oldest first, so clear ones come first.
    pub(crate) waiting: VecDeque<Barrier<W, E>>,
    /// Whom the sync that is under way is for.
    pub(crate) syncing: Option<Vec<W>>,
    /// The first error, until it is taken.
    pub(crate) failure: Option<E>,
    barriers: u64,
}

pub(crate) struct Barrier<W, E> {
    epoch: u64,
    kind: SyncKind,
    waiter: W,
    /// A write before it failed, or a sync that may have lost one.
    doom: Option<E>,
}

/// What follows from a change.
pub(crate) struct Next<W, E> {
    /// Barriers at their end.
    pub(crate) failed: Vec<(W, E)>,
    /// A sync to be submitted, whose outcome is to be told.
    pub(crate) sync: Option<SyncKind>,
}

impl<W, E: Clone> SyncScheduler<W, E> {
    pub(crate) fn new() -> Self {
        SyncScheduler {
            epochs: VecDeque::from([0]),
            oldest: 0,
            waiting: VecDeque::new(),
            syncing: None,
            failure: None,
            barriers: 0,
        }
    }

    /// A number for the next barrier.
    pub(crate) fn count(&mut self) -> u64 {
        self.barriers += 1;
        self.barriers
    }

    fn open_epoch(&self) -> u64 {
        self.oldest + self.epochs.len() as u64 - 1
    }

    /// A write begins; says in which epoch.
    pub(crate) fn begin(&mut self) -> u64 {
        let open = self.open_epoch();
        *self.under_way(open) += 1;
        open
    }

    fn under_way(&mut self, epoch: u64) -> &mut usize {
        let place = usize::try_from(epoch - self.oldest).unwrap_or(usize::MAX);
        &mut self.epochs[place]
    }

    /// A write ends.
    pub(crate) fn end(&mut self, epoch: u64, failure: Option<E>) -> Next<W, E> {
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

    pub(crate) fn barrier(&mut self, kind: SyncKind, waiter: W) -> Result<Next<W, E>, (W, E)> {
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
    pub(crate) fn synced(&mut self, result: Result<(), E>) -> (Vec<W>, Next<W, E>) {
        if let Err(failure) = result {
            self.fail(0, failure); // what it has lost, nobody knows
        }
        self.sync_refused()
    }

    /// The sync was not submitted; says for whom it was. Nothing is lost: the next one may do better.
    pub(crate) fn sync_refused(&mut self) -> (Vec<W>, Next<W, E>) {
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

    pub(crate) fn take_failure(&mut self) -> Option<E> {
        self.failure.take()
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
        assert_eq!((scheduler.epochs.len(), scheduler.waiting.len()), (1, 0));
    }
}
