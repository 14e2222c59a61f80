//! What the seed decides before anything runs.

use crate::dispatch::Dispatch;
use crate::random::Random;
use crate::sys::seeded::Mood;

/// How often user code does what, at each call-out: once in so many; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hostility {
    pub(super) acts: u64,
    pub(super) panics: bool,
    pub(super) sleeps: bool,
    /// Not where a context may die: who waits for what it has waits for ever.
    pub(super) waits: bool,
}

/// The contexts of a program are made like this.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) dispatch: Dispatch,
    pub(super) depth: u32,
    pub(super) shards: usize,
    pub(super) syscalls: bool,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Character {
    pub(super) mood: Mood,
    pub(super) hostility: Hostility,
    pub(super) shapes: Vec<Shape>,
    pub(super) threads: usize,
    pub(super) lines: usize,
    /// One of so many threads of the crate can't be started.
    pub(super) refused_threads: u32,
    /// The world goes on once in so many steps, while threads can run.
    pub(super) haste: u64,
    pub(super) schedule: Schedule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    Random,
    /// Few changes between threads, at chosen steps.
    Pct(usize),
}

impl Character {
    pub(super) fn of(dice: &mut Random) -> Character {
        let contexts = 1 + dice.below(2);
        let mood = mood(dice);
        Character {
            mood,
            hostility: hostility(dice, mood.dies == 0),
            shapes: (0..contexts).map(|_| shape(dice)).collect(),
            threads: 1 + dice.below(3),
            lines: 2 + dice.below(10),
            refused_threads: if dice.roll(20) == 0 { 2 } else { 0 },
            haste: [4, 16, 64, 1_000_000][dice.below(4)],
            schedule: schedule(dice),
        }
    }

    /// Whether time stands still but for what the program waits for.
    pub(super) fn is_punctual(&self) -> bool {
        let sleeps = self.hostility.sleeps || self.hostility.acts > 0;
        // After EAGAIN with nothing in flight the submitting thread sleeps.
        self.mood.blocks == 0 && self.mood.hoards == 0 && !sleeps
    }
}

fn mood(dice: &mut Random) -> Mood {
    let mut often = |most: u64| {
        if dice.roll(2) == 0 {
            0
        } else {
            2 + dice.roll(most)
        }
    };
    let mood = Mood {
        at_once: often(3),
        refuses: often(12),
        partly: often(4),
        hoards: often(8),
        blocks: often(8),
        short: often(6),
        fails: often(8),
        exaggerates: 0,
        would_block: often(3),
        interrupts: often(6),
        dies: 0,
        scarce: 0,
        latency: often(50),
    };
    Mood {
        exaggerates: rarely(dice, 10),
        dies: rarely(dice, 30),
        scarce: rarely(dice, 4),
        ..mood
    }
}

/// In one of 16 programs.
fn rarely(dice: &mut Random, once_in: u64) -> u64 {
    if dice.roll(16) == 0 { once_in } else { 0 }
}

fn hostility(dice: &mut Random, waits: bool) -> Hostility {
    Hostility {
        waits,
        acts: [0, 0, 12, 4][dice.below(4)],
        panics: dice.roll(2) == 0,
        sleeps: dice.roll(3) == 0,
    }
}

fn shape(dice: &mut Random) -> Shape {
    Shape {
        dispatch: [Dispatch::Thread, Dispatch::Manual, Dispatch::Anywhere][dice.below(3)],
        depth: [1, 1, 2, 3, 8][dice.below(5)],
        shards: [1, 1, 1, 2][dice.below(4)],
        syscalls: dice.roll(3) == 0,
    }
}

fn schedule(dice: &mut Random) -> Schedule {
    match dice.roll(3) {
        0 => Schedule::Pct(1 + dice.below(4)),
        _ => Schedule::Random,
    }
}
