//! What was begun, what ended, and what went wrong: the sums that must be equal when nothing is under way.

use crate::options::Options;
use crate::process::Process;
use crate::units::grouped;
use kiocb::Stats;
use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Default)]
pub(crate) struct Ledger {
    /// Pages lent to a request, and given back by its end.
    pub(crate) lent: AtomicU64,
    pub(crate) back: AtomicU64,
    /// Requests that transfer nothing: waits for readiness.
    pub(crate) polls: AtomicU64,
    /// Of all contexts that have ended.
    total: Mutex<Stats>,
    errors: Mutex<BTreeMap<String, u64>>,
    faults: Mutex<Vec<String>>,
}

/// So many are printed; one tells as much as a thousand.
const MOST_FAULTS: usize = 20;

impl Ledger {
    /// Something that must not be.
    pub(crate) fn fault(&self, what: String) {
        let mut faults = self.faults.lock().expect("no panic inside");
        if faults.len() < MOST_FAULTS {
            faults.push(what);
        }
    }

    pub(crate) fn is_well(&self) -> bool {
        self.faults.lock().expect("no panic inside").is_empty()
    }

    /// An error that the medium may have made.
    pub(crate) fn error(&self, error: &io::Error, allowed: bool) {
        let mut errors = self.errors.lock().expect("no panic inside");
        *errors.entry(error.to_string()).or_default() += 1;
        drop(errors);
        if !allowed {
            self.fault(format!("an error on a sound medium: {error}"));
        }
    }

    /// The counters of a context that has nothing to do any more.
    pub(crate) fn add(&self, stats: Stats) {
        if (stats.completed, stats.in_flight, stats.queued) != (stats.accepted, 0, 0)
            || (stats.refused_late, stats.panics, stats.excesses) != (0, 0, 0)
        {
            self.fault(format!("the counters do not balance: {stats:?}"));
        }
        let mut total = self.total.lock().expect("no panic inside");
        *total = *total + stats;
    }

    /// How many requests have completed in contexts that have ended.
    pub(crate) fn completed(&self) -> u64 {
        self.total.lock().expect("no panic inside").completed
    }

    /// Each request has given its page back.
    pub(crate) fn balance(&self) {
        let (lent, back) = (self.lent.load(Relaxed), self.back.load(Relaxed));
        if lent != back {
            self.fault(format!(
                "{lent} pages were lent to requests, and {back} came back"
            ));
        }
    }

    pub(crate) fn report(&self, options: &Options, rounds: u64, process: &Process) -> String {
        let polls = self.polls.load(Relaxed);
        let transfers = self.completed().saturating_sub(polls);
        let errors = self.errors.lock().expect("no panic inside");
        let errors: Vec<_> = errors
            .iter()
            .map(|(error, n)| format!("{n} × {error}"))
            .collect();
        let faults = self.faults.lock().expect("no panic inside").join("\n  ");
        let verdict = match faults.is_empty() {
            true => "0 lost, 0 twice, 0 corrupt".to_owned(),
            false => format!("WRONG:\n  {faults}"),
        };
        format!(
            "soak: {} reads, writes and syncs, and {} waits for readiness, in {rounds} rounds, seed {}: {verdict}\n\
             soak: {process}; errors of the medium: {}",
            grouped(transfers as f64),
            grouped(polls as f64),
            options.seed,
            if errors.is_empty() {
                "none".to_owned()
            } else {
                errors.join(", ")
            }
        )
    }
}
