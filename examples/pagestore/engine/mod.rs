//! The engine: transactions go in, requests for I/O come out, their results go in, answers come out.
//!
//! It has one thread at a time, which a driver sees to. A transaction's body runs until a page is missing, waits
//! for it, and begins again; when nothing is missing it is carried out at once, so transactions are serial, and
//! atomic in memory. Its record goes into the log's next batch. The answer is given when what the transaction
//! wrote, and what it read, is durable.

mod steps;

use crate::checkpoint::Checkpoint;
use crate::files::Config;
use crate::io::{Done, Io};
use crate::log::Log;
use crate::meta::Meta;
use crate::page::{self, Page, PageId};
use crate::pool::{Miss, Pool};
use crate::record::Record;
use crate::tree;
use crate::tx::{Answer, Body, Reply, Stop, Tx, Write};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem;
use std::sync::Arc;

/// A client, by its number.
pub(crate) type Client = usize;

struct Job {
    client: Client,
    body: Body,
    /// The page that it waited for, which is pinned.
    pinned: Option<PageId>,
}

/// An answer that waits until a transaction is durable.
struct Waiting {
    version: u64,
    client: Client,
    answer: Answer,
}

pub(crate) struct Engine {
    config: Config,
    meta: Meta,
    pool: Pool,
    log: Log,
    checkpoint: Checkpoint,
    /// How many bytes the data file has room for.
    reserved: u64,
    /// Which transactions wait for which page.
    reading: HashMap<PageId, Vec<Job>>,
    /// Reads to be submitted.
    reads: VecDeque<Io>,
    /// Transactions that wait for a buffer, or for room in the log or among the clean pages.
    held_up: VecDeque<Job>,
    waiting: VecDeque<Waiting>,
    replies: Vec<(Client, Reply)>,
    closing: bool,
    /// The first write or sync that failed: from then on nothing is done.
    failure: Option<String>,
    /// Requests that are on their way.
    outstanding: usize,
    page_reads: u64,
}

impl Engine {
    /// On a store that is recovered and says `meta` of itself.
    pub(crate) fn new(config: Config, meta: Meta, reserved: u64) -> io::Result<Engine> {
        Ok(Engine {
            pool: Pool::new(meta.pages, meta.page_size, config.frames, config.depth)?,
            log: Log::new(meta.ring, meta.redo, meta.last),
            checkpoint: Checkpoint::new(config.depth),
            config,
            meta,
            reserved,
            reading: HashMap::new(),
            reads: VecDeque::new(),
            held_up: VecDeque::new(),
            waiting: VecDeque::new(),
            replies: Vec::new(),
            closing: false,
            failure: None,
            outstanding: 0,
            page_reads: 0,
        })
    }

    // ---- transactions

    /// The answer comes by [`take_replies`](Self::take_replies).
    pub(crate) fn begin(&mut self, client: Client, body: Body) {
        self.run(Job {
            client,
            body,
            pinned: None,
        });
        while let Some(page) = self.pool.next_wanted() {
            self.read_ahead(page);
        }
    }

    fn run(&mut self, mut job: Job) {
        if let Some(page) = job.pinned.take() {
            self.pool.unpin(page);
        }
        if let Some(failure) = &self.failure {
            return self.replies.push((job.client, Err(failure.clone())));
        }
        let max_cell = page::max_cell(self.meta.page_size);
        let mut tx = Tx::new(&mut self.pool, max_cell);
        let result = (job.body)(&mut tx);
        let (writes, seen) = (mem::take(&mut tx.writes), tx.seen);
        match result {
            Ok(answer) if writes.is_empty() => self.answer(job.client, seen, answer),
            Ok(answer) => self.change(job, &writes, answer),
            Err(Stop::Miss(Miss(page))) => self.wait_for(page, job),
            Err(Stop::Refused(why)) => self.replies.push((job.client, Err(why))),
        }
    }

    /// Every page that the transaction needs is here.
    fn change(&mut self, job: Job, writes: &[Write], answer: Answer) {
        let levels = tree::most_changed(&mut self.pool).expect("the root is here");
        if writes.len() * levels > self.pool.capacity() / 8 {
            let why = format!(
                "{} writes in one transaction are too many for this pool",
                writes.len()
            );
            return self.replies.push((job.client, Err(why)));
        }
        if self.log.is_full() || self.pool.dirty() > self.pool.capacity() / 4 * 3 {
            return self.held_up.push_back(job);
        }
        let (number, memory) = self.log.begin();
        let mut record = Record::new(memory, number, self.config.images);
        for Write { key, value, leaf } in writes {
            match value {
                Some(value) => tree::put(&mut self.pool, &mut record, *leaf, key, value),
                None => tree::remove(&mut self.pool, &mut record, key),
            }
        }
        record.end(&mut self.pool);
        self.answer(job.client, number, answer);
    }

    fn answer(&mut self, client: Client, version: u64, answer: Answer) {
        if version <= self.log.durable() {
            return self.replies.push((client, Ok(answer)));
        }
        self.waiting.push_back(Waiting {
            version,
            client,
            answer,
        });
    }

    /// The transaction runs again when the page is here; whoever else wants the page shares the read.
    fn wait_for(&mut self, page: PageId, job: Job) {
        if let Some(jobs) = self.reading.get_mut(&page) {
            return jobs.push(job);
        }
        match self.pool.begin_read() {
            Some(buffer) => self.read(page, buffer, vec![job]),
            None => self.held_up.push_back(job),
        }
    }

    fn read_ahead(&mut self, page: PageId) {
        if !self.reading.contains_key(&page)
            && let Some(buffer) = self.pool.begin_read()
        {
            self.read(page, buffer, Vec::new());
        }
    }

    fn read(&mut self, page: PageId, buffer: kiocb::buf::PoolBuf, jobs: Vec<Job>) {
        self.page_reads += 1;
        self.reading.insert(page, jobs);
        self.reads.push_back(Io::Read(page, buffer));
    }

    /// Until one is held up again.
    fn go_on_with_held_up(&mut self) {
        let before = self.held_up.len();
        for left in (0..before).rev() {
            if let Some(job) = self.held_up.pop_front() {
                self.run(job);
            }
            if self.held_up.len() > left {
                break;
            }
        }
    }

    // ---- what a driver asks

    pub(crate) fn take_replies(&mut self) -> Vec<(Client, Reply)> {
        mem::take(&mut self.replies)
    }

    /// The next request, if there is one now. Ask again after each [`completed`](Self::completed).
    pub(crate) fn next_io(&mut self) -> Option<Io> {
        let io = self.choose_io();
        self.outstanding += usize::from(io.is_some());
        io
    }

    /// After a failure only reads, for which transactions wait.
    fn choose_io(&mut self) -> Option<Io> {
        if self.failure.is_some() {
            return self.reads.pop_front();
        }
        if let Some(read) = self.reads.pop_front() {
            return Some(read);
        }
        let batch = self.log.begin_batch();
        if self.log.is_sealed() && self.checkpoint.is_idle() && self.wants_checkpoint() {
            self.begin_checkpoint();
        }
        if let Some((offset, buffer)) = batch {
            return Some(Io::Log(offset, buffer));
        }
        let step = self.checkpoint.next_step().map(|step| self.step(step));
        step.or_else(|| self.next_page())
    }

    /// Whether [`next_io`](Self::next_io) may have one.
    pub(crate) fn has_io(&self) -> bool {
        !self.reads.is_empty() || self.log.has_batch() || self.checkpoint.has_request()
    }

    pub(crate) fn completed(&mut self, done: Done) {
        self.outstanding -= 1;
        let result = match done {
            Done::Read(page, result) => return self.end_read(page, result),
            Done::Page(page, result) if page < tree::ROOT => result.map(|_| self.end_step()),
            Done::Page(page, result) => result.map(|bytes| self.end_page(page, bytes)),
            Done::Log(result) => result.map(|buffer| self.end_batch(buffer)),
            Done::Sync(result) | Done::Reserve(result) => result.map(|()| self.end_step()),
        };
        if let Err(error) = result {
            self.fail(&format!(
                "{error}; what was not acknowledged may be lost, and nothing goes on"
            ));
        }
        self.go_on_with_held_up();
    }

    /// From here on a last checkpoint is made; when the engine is idle after it, the log has nothing to recover.
    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    /// Nothing is under way, and nothing will be without a further transaction.
    pub(crate) fn is_idle(&self) -> bool {
        let has_work = !self.log.is_idle() || !self.checkpoint.is_idle() || self.wants_checkpoint();
        let goes_on = self.failure.is_none() && has_work;
        self.outstanding == 0 && self.reads.is_empty() && !goes_on
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Pages read, batches written.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.page_reads, self.log.batches())
    }

    // ---- what follows from a result

    fn end_read(&mut self, page: PageId, result: io::Result<kiocb::buf::PoolBuf>) {
        let jobs = self.reading.remove(&page).expect("the page was asked for");
        let checked = result.map_err(|error| format!("page {page} can't be read: {error}"));
        let checked = checked.and_then(|bytes| Page(&bytes[..]).check(page).map(|()| bytes));
        let pins = u32::try_from(jobs.len()).expect("few clients");
        match checked {
            Ok(bytes) => {
                self.pool.end_read(page, Some(bytes), pins);
                for mut job in jobs {
                    job.pinned = Some(page);
                    self.run(job);
                }
            }
            Err(why) => {
                self.pool.end_read(page, None, 0);
                let refused = jobs.into_iter().map(|job| (job.client, Err(why.clone())));
                self.replies.extend(refused);
            }
        }
        self.go_on_with_held_up();
    }

    fn end_batch(&mut self, buffer: kiocb::AlignedBuf) {
        self.log.end_batch(buffer);
        let durable = self.log.durable();
        let is_durable = |waiting: &Waiting| waiting.version <= durable;
        while self.waiting.front().is_some_and(is_durable) {
            let first = self.waiting.pop_front().expect("looked at");
            self.replies.push((first.client, Ok(first.answer)));
        }
    }

    fn end_page(&mut self, page: PageId, bytes: Arc<kiocb::buf::PoolBuf>) {
        self.pool.end_write(page, bytes);
        self.checkpoint.end_page();
    }

    fn fail(&mut self, why: &str) {
        self.failure.get_or_insert_with(|| why.to_owned());
        let waiting = mem::take(&mut self.waiting).into_iter();
        let refused = waiting.map(|waiting| (waiting.client, Err(why.to_owned())));
        self.replies.extend(refused);
    }
}
