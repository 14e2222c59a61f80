//! The rule beside a reference model that remembers everything, and how many steps it takes.

use super::*;

/// The same by definition: remembers everything that ever happened, and works out each answer from that.
#[derive(Default)]
struct Reference {
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

impl Reference {
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

/// The rule and the reference model, to which the same happens.
struct Pair {
    dice: Dice,
    scheduler: SyncScheduler<u32, u32>,
    reference: Reference,
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
                .push((self.scheduler.begin(), self.reference.begin())),
            2..=4 if !self.writes.is_empty() => return self.end_a_write(why),
            5 | 6 => return self.barrier(step),
            7 if self.scheduler.syncing.is_some() => return self.end_the_sync(why),
            _ if self.dice.roll(4) == 0 => {
                assert_eq!(self.scheduler.take_failure(), self.reference.failure.take());
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
            self.reference.end(write, why),
        )
    }

    fn barrier(&mut self, step: u32) -> (Vec<Seen>, Vec<Seen>) {
        let kind = [SyncKind::Data, SyncKind::All][usize::from(self.dice.roll(4) == 0)];
        let ours = match self.scheduler.barrier(kind, step) {
            Ok(next) => seen(next),
            Err((number, why)) => vec![Seen::Refused(number, why)],
        };
        (ours, self.reference.barrier(step, kind))
    }

    fn end_the_sync(&mut self, why: Option<u32>) -> (Vec<Seen>, Vec<Seen>) {
        if self.dice.roll(3) == 0 {
            let ours = seen_after_sync(self.scheduler.sync_refused());
            return (ours, self.reference.synced(None));
        }
        let ours = seen_after_sync(self.scheduler.synced(why.map_or(Ok(()), Err)));
        (ours, self.reference.synced(why))
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
        reference: Reference::default(),
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
fn the_rule_agrees_with_a_reference_that_remembers_everything() {
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

/// Ways to make many barriers wait, and to end them: behind a write, behind a sync, doomed by many writes,
/// doomed after errors that were taken.
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
