//! Who goes on: one of shuttle's schedulers chooses among the program's threads. The world (the first task) goes
//! on when no thread can, and once in a while before.

use super::character::{Character, Schedule};
use crate::random::Random;
use shuttle::scheduler::{
    PctScheduler, RandomScheduler, Schedule as Steps, Scheduler, Task, TaskId,
};
use std::cell::Cell;

std::thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
    static IS_ALONE: Cell<bool> = const { Cell::new(false) };
    static IS_OVER: Cell<bool> = const { Cell::new(false) };
}

/// Steps of this process so far.
pub(super) fn steps() -> u64 {
    STEPS.get()
}

/// Whether the world goes on because no thread can.
pub(super) fn is_alone() -> bool {
    IS_ALONE.get()
}

/// Something was violated: the rest of the run tells nothing.
pub(super) fn stop() {
    IS_OVER.set(true);
}

pub(super) struct Turns {
    inner: Box<dyn Scheduler>,
    dice: Random,
    haste: u64,
    is_random: bool,
    had_choice: bool,
    /// Of this execution, and the one at which to say where the program is.
    step: u64,
    shown: u64,
}

impl Turns {
    pub(super) fn new(seed: u64, character: &Character) -> Turns {
        let inner: Box<dyn Scheduler> = match character.schedule {
            Schedule::Random => Box::new(RandomScheduler::new_from_seed(seed, 1)),
            Schedule::Pct(depth) => Box::new(PctScheduler::new_from_seed(seed, depth, 2)),
        };
        IS_OVER.set(false);
        Turns {
            inner,
            dice: Random(seed ^ 0x5c4e_d01e),
            haste: character.haste,
            is_random: character.schedule == Schedule::Random,
            had_choice: false,
            step: 0,
            shown: number("KIOCB_STEP", u64::MAX),
        }
    }
}

const WORLD: usize = 0;

impl Turns {
    fn count(&mut self) {
        STEPS.set(STEPS.get() + 1);
        self.step += 1;
        if self.step >= self.shown && self.step < self.shown + 20 {
            let place = std::backtrace::Backtrace::force_capture();
            eprintln!("step {}:\n{place}", self.step);
        }
    }
}

/// A number from the environment.
pub(super) fn number(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(otherwise, |text| text.parse().expect("a number"))
}

impl Scheduler for Turns {
    fn new_execution(&mut self) -> Option<Steps> {
        // Once more only where there was something to choose: PCT has counted the steps by then.
        let again = self.step == 0 || (self.had_choice && !self.is_random);
        self.step = 0;
        if IS_OVER.get() || !again {
            return None;
        }
        self.inner.new_execution()
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        if IS_OVER.get() {
            return None;
        }
        self.count();
        let first = runnable[0].id();
        let has_world = usize::from(first) == WORLD;
        IS_ALONE.set(has_world && runnable.len() == 1);
        if has_world && (IS_ALONE.get() || self.dice.roll(self.haste) == 0) {
            return Some(first);
        }
        let threads = &runnable[usize::from(has_world)..];
        self.had_choice |= threads.len() > 1;
        let was_thread = current.is_some_and(|task| usize::from(task) != WORLD);
        let current = current.filter(|_| was_thread).or(Some(threads[0].id()));
        self.inner
            .next_task(threads, current, is_yielding && was_thread)
    }

    fn next_u64(&mut self) -> u64 {
        self.inner.next_u64()
    }
}

impl Drop for Turns {
    /// The scheduler inside would say that it failed, and how to repeat it, which is not how.
    fn drop(&mut self) {
        if self.is_random {
            while self.inner.new_execution().is_some() {}
        }
    }
}
