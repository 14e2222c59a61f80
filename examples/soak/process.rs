//! What the process has: memory, descriptors, threads, kernel contexts. All of it is flat from round to round.

use crate::ledger::Ledger;
use std::fmt;
use std::fs;

/// Rounds until the allocator's memory has its size.
const WARM: usize = 8;
/// What memory may grow by afterwards, in MiB.
const SLACK: u64 = 64;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Holdings {
    memory: u64,
    descriptors: usize,
    threads: usize,
    contexts: usize,
}

impl Holdings {
    fn now() -> Holdings {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        Holdings {
            memory: field("VmRSS:") >> 10,
            descriptors: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            threads: field("Threads:") as usize,
            contexts: maps.lines().filter(|line| line.contains("[aio]")).count(),
        }
    }
}

pub(crate) struct Process {
    first: Holdings,
    /// After each round.
    later: Vec<Holdings>,
}

impl Process {
    pub(crate) fn new() -> Process {
        Process {
            first: Holdings::now(),
            later: Vec::new(),
        }
    }

    /// After a round: nothing of it is left.
    pub(crate) fn check(&mut self, ledger: &Ledger) {
        let mut now = Holdings::now();
        // Threads that end a context come to their own end a moment later.
        for _ in 0..1000 {
            if now.threads <= self.first.threads && now.contexts == 0 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
            now = Holdings::now();
        }
        self.later.push(now);
        if now.contexts != 0 {
            ledger.fault(format!(
                "{} contexts are left, and their share of fs.aio-nr",
                now.contexts
            ));
        }
        if (now.descriptors, now.threads) != (self.first.descriptors, self.first.threads) {
            ledger.fault(format!(
                "at first {:?}, and after a round {now:?}",
                self.first
            ));
        }
        if self.later.len() > WARM && now.memory > self.later[WARM - 1].memory + SLACK {
            ledger.fault(format!(
                "memory grows: {} MiB after {WARM} rounds, {} now",
                self.later[WARM - 1].memory,
                now.memory
            ));
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warm = self
            .later
            .get(WARM - 1)
            .or(self.later.last())
            .unwrap_or(&self.first);
        let last = self.later.last().unwrap_or(&self.first);
        let most = self.later.iter().map(|held| held.memory).max().unwrap_or(0);
        write!(
            f,
            "memory {} MiB after {} rounds, {most} at most, {} at the end; {} descriptors, {} threads, {} contexts left",
            warm.memory,
            WARM.min(self.later.len()),
            last.memory,
            last.descriptors,
            last.threads,
            last.contexts
        )
    }
}
