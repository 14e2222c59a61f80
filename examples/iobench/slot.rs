//! One request in flight, again and again: where it goes, whether what came back is right, and how long it
//! took.
//!
//! Every engine calls [`Slot::begin`] just before it asks for the I/O and [`Slot::end`] when it holds the
//! answer, so all are timed, checked and counted alike.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crate::block::{self, Wrong};
use crate::job::{Checking, Job, Lane, Meter, Phase};
use crate::rng::{self, Rng};

/// One request in this many is timed, chosen at random: two clock readings for each would cost as much as a
/// system call's entry.
pub(crate) const SAMPLE_EVERY: u64 = 16;

pub(crate) struct Slot {
    job: Arc<Job>,
    lane: Arc<Lane>,
    meter: Arc<Meter>,
    rng: Rng,
    offset: u64,
    /// The random word that chose the offset.
    random: u64,
    started: Option<Instant>,
}

impl Slot {
    pub(crate) fn new(job: &Arc<Job>, lane: &Arc<Lane>, seed: u64) -> Slot {
        Slot {
            job: Arc::clone(job),
            lane: Arc::clone(lane),
            meter: job.meter(),
            rng: Rng::new(seed),
            offset: 0,
            random: 0,
            started: None,
        }
    }

    /// Chooses the next offset, makes the buffer ready for it, and starts the clock.
    pub(crate) fn begin(&mut self, buffer: &mut [u8]) -> u64 {
        let random = self.rng.next();
        self.random = random;
        self.offset = self.next_unit(random) * self.job.bs as u64;
        if self.job.rw.writes() && self.job.checking != Checking::Nothing {
            block::stamp(buffer, self.offset, self.job.mark);
        }
        self.started = random.is_multiple_of(SAMPLE_EVERY).then(Instant::now);
        self.offset
    }

    /// Takes the answer: stops the clock, checks the data, counts.
    pub(crate) fn end(&mut self, result: io::Result<usize>, buffer: &[u8]) {
        if let Some(started) = self.started.take() {
            self.record(started);
        }
        self.meter.done();
        if let Err(text) = self.check(result, buffer) {
            self.fail(text);
        }
    }

    /// Whether to go on with the next request.
    pub(crate) fn goes_on(&self) -> bool {
        !self.job.is(Phase::Stop)
    }

    /// For engines that make one system call per request.
    pub(crate) fn count_syscall(&self) {
        self.meter.syscall();
    }

    fn next_unit(&self, random: u64) -> u64 {
        if self.job.rw.random() {
            rng::below(random, self.job.units)
        } else {
            self.lane.cursor.fetch_add(1, Relaxed) % self.job.units
        }
    }

    fn record(&self, started: Instant) {
        let took = started.elapsed();
        if self.job.is(Phase::Measure) {
            self.lane
                .latency
                .lock()
                .expect("no panic while locked")
                .record(took);
        }
    }

    fn check(&self, result: io::Result<usize>, buffer: &[u8]) -> Result<(), String> {
        let wanted = self.job.bs;
        match result {
            Ok(got) if got != wanted => Err(format!("{got} of {wanted} bytes")),
            Ok(_) if self.job.rw.writes() => Ok(()),
            Ok(_) => self
                .check_data(buffer)
                .map_err(|(at, wrong)| format!("the block at {at} {wrong}")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn check_data(&self, buffer: &[u8]) -> Result<(), (u64, Wrong)> {
        match self.job.checking {
            Checking::Nothing => Ok(()),
            Checking::OneIn(count) if (self.random / SAMPLE_EVERY).is_multiple_of(count) => {
                block::check(buffer, self.offset)
            }
            Checking::OneIn(_) => block::check_place(buffer, self.offset),
        }
    }

    #[cold]
    fn fail(&self, text: String) {
        self.meter.error();
        self.job
            .note_error(|| format!("{} at offset {}: {text}", self.job.rw.verb(), self.offset));
    }
}
