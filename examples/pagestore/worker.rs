//! Clients of `bench`: those that load, and those that run a mix until they are told to stop.

use crate::driver::Client;
use crate::latency::Latency;
use crate::mix::{self, Mix, Operation, Records};
use crate::rng::Rng;
use crate::tx::{Answer, Body, Reply};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Records that one transaction loads.
const AT_ONCE: u64 = 8;

/// What one client has done; it alone writes it.
pub(crate) struct Meter {
    pub(crate) operations: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) latency: Mutex<Latency>,
    pub(crate) error: Mutex<Option<String>>,
}

impl Meter {
    pub(crate) fn new() -> Arc<Meter> {
        Arc::new(Meter {
            operations: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            latency: Mutex::new(Latency::new()),
            error: Mutex::new(None),
        })
    }

    /// Not `fetch_add`: there is one writer.
    fn count(counter: &AtomicU64, more: u64) {
        counter.store(counter.load(Relaxed) + more, Relaxed);
    }

    fn fail(&self, error: String) {
        self.error.lock().unwrap().get_or_insert(error);
    }
}

/// What the clients of one run have in common.
pub(crate) struct Load {
    pub(crate) mix: Mix,
    pub(crate) records: Records,
    pub(crate) stop: AtomicBool,
}

/// Runs a mix.
pub(crate) struct Worker {
    load: Arc<Load>,
    meter: Arc<Meter>,
    rng: Rng,
    began: Instant,
    writes: bool,
    then: Option<u64>,
}

impl Worker {
    pub(crate) fn new(load: &Arc<Load>, meter: &Arc<Meter>, seed: u64) -> Worker {
        Worker {
            load: Arc::clone(load),
            meter: Arc::clone(meter),
            rng: Rng::new(seed),
            began: Instant::now(),
            writes: false,
            then: None,
        }
    }

    /// The answer to the transaction before; false: it is an error, which ends the client.
    fn note(&mut self, answer: Reply) -> Option<Operation> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.meter.fail(error);
                return None;
            }
        };
        Meter::count(&self.meter.commits, u64::from(self.writes));
        if let Some(rest) = Operation::rest(&mut self.then, &answer, &mut self.rng) {
            return Some(rest);
        }
        let now = Instant::now();
        self.meter.latency.lock().unwrap().record(now - self.began);
        self.began = now;
        Meter::count(&self.meter.operations, 1);
        self.choose()
    }

    fn choose(&mut self) -> Option<Operation> {
        let goes_on = !self.load.stop.load(Relaxed);
        goes_on.then(|| Operation::new(self.load.mix, &self.load.records, &mut self.rng))
    }
}

impl Client for Worker {
    fn next(&mut self, answer: Option<Reply>) -> Option<Body> {
        let next = match answer {
            Some(answer) => self.note(answer),
            None => {
                self.began = Instant::now();
                self.choose()
            }
        };
        let (body, writes, then) = next?.split();
        (self.writes, self.then) = (writes, then);
        Some(body)
    }
}

/// Puts records in, in the order of their keys.
pub(crate) struct Loader {
    pub(crate) meter: Arc<Meter>,
    /// The first record that no client has taken.
    pub(crate) next: Arc<AtomicU64>,
    pub(crate) end: u64,
}

impl Client for Loader {
    fn next(&mut self, answer: Option<Reply>) -> Option<Body> {
        match answer {
            Some(Err(error)) => {
                self.meter.fail(error);
                return None;
            }
            Some(Ok(_)) => Meter::count(&self.meter.operations, AT_ONCE),
            None => {}
        }
        let first = self.next.fetch_add(AT_ONCE, Relaxed);
        let records = first..(first + AT_ONCE).min(self.end);
        (first < self.end).then(|| {
            let body: Body = Box::new(move |tx| {
                for record in records.clone() {
                    let value = mix::value(&mut Rng::new(record));
                    tx.put(&mix::key(record), &value)?;
                }
                Ok(Answer::Done)
            });
            body
        })
    }
}
