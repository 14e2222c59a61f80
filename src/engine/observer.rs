//! The requests that are observed: where each of them is and since when, and how long the stays of others took.
//!
//! While nothing is observed, a request costs a look at one number here, and the clock is not read. A request
//! that is observed says so in its cell; only for such a one the lock is taken. No user code runs under it,
//! and no other lock is taken.

use super::request::OwnedCell;
use crate::observe::{Latencies, Place, RequestState};
use crate::sync::{Mutex, now};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

#[derive(Debug)]
pub(super) struct Observer {
    /// One of so many new requests is observed; 0: none.
    every: AtomicU32,
    /// New requests while some are observed.
    seen: AtomicU32,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    /// By the request's tag; while its callback runs, when the tag may be that of another, by an odd number,
    /// which no tag is.
    records: HashMap<u64, Record>,
    /// How many callbacks of observed requests were called.
    calls: u64,
    /// Made with the first record.
    latencies: Option<Latencies>,
}

#[derive(Clone, Debug)]
struct Record {
    accepted: Instant,
    sent: Option<Instant>,
    place: Place,
    since: Instant,
    has_callback: bool,
    abandoned: bool,
    fd: i32,
    opcode: u16,
    offset: u64,
    length: u64,
}

/// An observed request whose callback runs.
#[derive(Debug)]
#[must_use = "the callback ends"]
pub(super) struct Running(u64);

impl Record {
    fn of(request: &OwnedCell) -> Record {
        let (iocb, now) = (request.iocb(), now());
        Record {
            accepted: now,
            sent: None,
            place: Place::Gathered,
            since: now,
            has_callback: request.is_callback(),
            abandoned: request.is_abandoned(),
            fd: iocb.aio_fildes.cast_signed(),
            opcode: iocb.aio_lio_opcode,
            offset: iocb.aio_offset.cast_unsigned(),
            length: iocb.aio_nbytes,
        }
    }

    fn go(&mut self, place: Place, now: Instant) {
        (self.place, self.since) = (place, now);
    }

    fn state(&self, is_queued: bool, now: Instant, shard: usize) -> RequestState {
        let place = match self.place {
            Place::Gathered if is_queued => Place::Queued,
            place => place,
        };
        RequestState {
            age: now.saturating_duration_since(self.accepted),
            place,
            there: now.saturating_duration_since(self.since),
            abandoned: self.abandoned,
            fd: self.fd,
            opcode: self.opcode,
            offset: self.offset,
            length: self.length,
            shard,
        }
    }
}

impl Inside {
    fn latencies(&mut self) -> &mut Latencies {
        self.latencies.get_or_insert_default()
    }

    fn send(&mut self, tag: u64, now: Instant) {
        let Some(record) = self.records.get_mut(&tag) else {
            return;
        };
        record.go(Place::Kernel, now);
        if record.sent.replace(record.sent.unwrap_or(now)).is_none() {
            let queued = now.saturating_duration_since(record.accepted);
            self.latencies().queued.record(queued);
        }
    }

    fn come_back(&mut self, tag: u64, now: Instant) {
        if let Some(record) = self.records.get_mut(&tag) {
            record.go(Place::Gathered, now);
        }
    }

    /// Its last event was taken, or it ends without one. `stays`: user code is due for it.
    fn complete(&mut self, tag: u64, stays: bool, now: Instant) {
        let Some(record) = self.records.get_mut(&tag) else {
            return;
        };
        // Where the kernel has refused it, it has come back.
        let sent = record.sent.filter(|_| record.place == Place::Kernel);
        record.go(Place::Deferred, now);
        if !stays {
            self.records.remove(&tag);
        }
        if let Some(sent) = sent {
            let kernel = now.saturating_duration_since(sent);
            self.latencies().kernel.record(kernel);
        }
    }

    fn run(&mut self, tag: u64, now: Instant) -> Running {
        self.calls += 1;
        let number = self.calls * 2 + 1;
        if let Some(mut record) = self.records.remove(&tag) {
            let due = now.saturating_duration_since(record.since);
            let has_callback = record.has_callback;
            record.go(Place::Callback, now);
            self.records.insert(number, record);
            if has_callback {
                self.latencies().delivery.record(due);
            }
        }
        Running(number)
    }

    fn end(&mut self, running: &Running, now: Instant) {
        if let Some(record) = self.records.remove(&running.0)
            && record.has_callback
        {
            let took = now.saturating_duration_since(record.since);
            self.latencies().callback.record(took);
        }
    }
}

impl Observer {
    pub(super) fn new() -> Observer {
        Observer {
            every: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            inside: Mutex::new(Inside::default()),
        }
    }

    /// From now on one of so many new requests is observed.
    pub(super) fn set_every(&self, every: u32) {
        // Relaxed, here and in `every`: which request is the first does not matter, and nothing is read by it.
        self.every.store(every, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn every(&self) -> u32 {
        self.every.load(Ordering::Relaxed)
    }

    /// Looks at a request that is about to be accepted: from now on it may be one that is observed.
    #[inline]
    pub(super) fn meet(&self, request: &OwnedCell) {
        let every = self.every();
        if every != 0 {
            self.observe_one_of(every, request);
        }
    }

    #[cold]
    #[inline(never)]
    fn observe_one_of(&self, every: u32, request: &OwnedCell) {
        // Relaxed: each takes another number, and nothing else is read by it.
        let number = self.seen.fetch_add(1, Ordering::Relaxed);
        if number.is_multiple_of(every) {
            request.set_observed();
            let record = Record::of(request);
            self.inside.lock().records.insert(request.tag(), record);
        }
    }

    /// They are passed to the kernel. To be called before the kernel may have them: their events may come
    /// before the call returns (I3).
    pub(super) fn send(&self, observed: impl Iterator<Item = u64>) {
        self.note_each(observed, Inside::send);
    }

    /// The kernel did not take these: they are the caller's.
    pub(super) fn come_back(&self, observed: impl Iterator<Item = u64>) {
        self.note_each(observed, Inside::come_back);
    }

    fn note_each(&self, observed: impl Iterator<Item = u64>, note: fn(&mut Inside, u64, Instant)) {
        let mut tags = observed.peekable();
        if tags.peek().is_some() {
            let (mut inside, now) = (self.inside.lock(), now());
            tags.for_each(|tag| note(&mut inside, tag, now));
        }
    }

    /// An event of the request was taken, and it goes on.
    #[inline]
    pub(super) fn resume(&self, request: &OwnedCell) {
        if request.is_observed() {
            self.note_resume(request.tag());
        }
    }

    #[cold]
    #[inline(never)]
    fn note_resume(&self, tag: u64) {
        let (mut inside, now) = (self.inside.lock(), now());
        if let Some(record) = inside.records.get_mut(&tag) {
            record.go(Place::Resuming, now);
        }
    }

    /// The request is at its end. If it is watched, it is forgotten before its watcher hears of it, because
    /// then its tag may become another's.
    #[inline]
    pub(super) fn complete(&self, request: &OwnedCell) {
        if request.is_observed() {
            self.note_complete(request);
        }
    }

    #[cold]
    #[inline(never)]
    fn note_complete(&self, request: &OwnedCell) {
        let is_user_code_due = request.is_callback() || request.is_abandoned();
        let (mut inside, now) = (self.inside.lock(), now());
        inside.complete(request.tag(), is_user_code_due, now);
    }

    /// The callback of a request is called, or what it owns is dropped.
    pub(super) fn run(&self, request: &OwnedCell) -> Running {
        let (mut inside, now) = (self.inside.lock(), now());
        inside.run(request.tag(), now)
    }

    /// That has returned.
    pub(super) fn end(&self, running: &Running) {
        let (mut inside, now) = (self.inside.lock(), now());
        inside.end(running, now);
    }

    /// The request's watcher goes.
    pub(super) fn abandon(&self, tag: u64) {
        if let Some(record) = self.inside.lock().records.get_mut(&tag) {
            record.abandoned = true;
        }
    }

    /// The request goes back to its owner.
    pub(super) fn forget(&self, request: &OwnedCell) {
        if request.is_observed() {
            self.remove(request.tag());
        }
    }

    #[cold]
    #[inline(never)]
    fn remove(&self, tag: u64) {
        self.inside.lock().records.remove(&tag);
    }

    pub(super) fn latencies(&self) -> Latencies {
        self.inside.lock().latencies.clone().unwrap_or_default()
    }

    /// Whether an observed request is outstanding.
    pub(super) fn has_records(&self) -> bool {
        !self.inside.lock().records.is_empty()
    }

    /// What is outstanding; `queued` are the tags of what is in the backlog.
    pub(super) fn states(&self, queued: &HashSet<u64>, shard: usize) -> Vec<RequestState> {
        let (inside, now) = (self.inside.lock(), now());
        let state = |(tag, record): (&u64, &Record)| record.state(queued.contains(tag), now, shard);
        inside.records.iter().map(state).collect()
    }
}
