//! All of the simulated kernel: its contexts, memory that it may use, and what it remembers.

use super::context::Context;
use super::known::{Known, Synced};
use super::memory::Memory;
use super::mood::Mood;
use crate::random::Random;
use std::cell::RefCell;
use std::collections::BTreeMap;

#[derive(Debug)]
pub(crate) struct Machine {
    pub(super) dice: Random,
    pub(crate) mood: Mood,
    pub(super) contexts: Vec<Context>,
    pub(super) memory: Memory,
    pub(super) known: BTreeMap<u64, Known>,
    pub(super) syncs: Vec<Synced>,
    /// Of each eventfd, how often it was raised.
    pub(super) eventfds: BTreeMap<u32, u64>,
    violations: Vec<String>,
    order: u64,
    pub(super) events: u32,
}

std::thread_local! {
    static MACHINE: RefCell<Machine> = RefCell::new(Machine::new(0, Mood::default()));
}

/// Not across a point: another thread would find it borrowed.
pub(crate) fn machine<R>(what: impl FnOnce(&mut Machine) -> R) -> R {
    MACHINE.with_borrow_mut(what)
}

/// Something happened that must not, perhaps while the machine is in use.
pub(crate) fn violated(what: String) {
    let noted = MACHINE.try_with(|machine| {
        if let Ok(mut machine) = machine.try_borrow_mut() {
            machine.violations.push(what.clone());
        } else {
            eprintln!("{what}");
        }
    });
    if noted.is_err() {
        eprintln!("{what}");
    }
}

/// What the simulation asks and does.
impl Machine {
    pub(crate) fn new(seed: u64, mood: Mood) -> Machine {
        Machine {
            dice: Random(seed),
            mood,
            contexts: Vec::new(),
            memory: Memory::default(),
            known: BTreeMap::new(),
            syncs: Vec::new(),
            eventfds: BTreeMap::new(),
            violations: Vec::new(),
            order: 0,
            events: 0,
        }
    }

    /// Something happened that must not.
    pub(crate) fn violate(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(crate) fn known(&self, name: u64) -> Known {
        self.known.get(&name).cloned().unwrap_or_default()
    }

    pub(crate) fn all_known(&self) -> &BTreeMap<u64, Known> {
        &self.known
    }

    pub(crate) fn syncs(&self) -> &[Synced] {
        &self.syncs
    }

    pub(crate) fn raised(&self, eventfd: u32) -> u64 {
        self.eventfds.get(&eventfd).copied().unwrap_or(0)
    }

    pub(crate) fn add_eventfd(&mut self, eventfd: u32) {
        self.eventfds.insert(eventfd, 0);
    }

    /// Whether a context died of itself.
    pub(crate) fn has_deaths(&self) -> bool {
        self.contexts.iter().any(|context| context.is_dead)
    }

    /// Contexts that were made and not destroyed.
    pub(crate) fn living(&self) -> usize {
        let living = self.contexts.iter().filter(|context| context.is_alive());
        living.count()
    }

    /// Memory that requests may name begins to exist.
    pub(crate) fn add_memory(&mut self, address: usize, len: usize) {
        self.memory.add(address, len);
    }

    pub(crate) fn remove_memory(&mut self, address: usize) {
        if !self.memory.remove(address) {
            self.violate("memory was given back twice");
        }
    }

    pub(crate) fn memory_left(&self) -> usize {
        self.memory.count()
    }
}

/// What the kernel's own parts ask.
impl Machine {
    /// Whether it happens now, which it does once in so many.
    pub(super) fn dice(&mut self, once_in: u64) -> bool {
        once_in > 0 && self.dice.roll(once_in) == 0
    }

    /// The next place in the order of all arrivals, events and syncs.
    pub(super) fn tick(&mut self) -> u64 {
        self.order += 1;
        self.order
    }
}
