//! A write-ahead log with group commit for each core: a thread, a context and a loop of its own.
//!
//! `cargo run --release --example wal_per_core [DIRECTORY]`. A core shares nothing with the others and locks
//! nothing. Records and syncs go into one queue, and come out of it complete, as values. All records that were
//! written when a sync began are durable when it is over; meanwhile the next ones are written.
//!
//! The program prints how many transactions a second it commits beside the same with threads, `pwrite` and
//! `fdatasync` for each log (`wal/kit.rs`), and reads all logs back.

#[path = "wal/kit.rs"]
#[allow(dead_code, reason = "no log needs all of it")]
mod kit;

use kiocb::op::{Mixed, Write};
use kiocb::{Aio, AlignedBuf, Completion, DirectFile, Iocb, LocalAio, Queue};
use kit::{BLOCK, CLIENTS, Cache, Change, EACH, Files};
use std::io;
use std::sync::Arc;
use std::thread;

type Request = Mixed<Arc<DirectFile>, AlignedBuf>;

enum Step {
    Written(Change),
    Synced,
}

struct Core {
    aio: LocalAio,
    queue: Queue<Step, Request>,
    files: Files,
    cache: Cache,
    /// Of the next transaction.
    number: u64,
    /// Records that are written, and those that the sync under way makes durable, with their buffers.
    written: Vec<(Change, AlignedBuf)>,
    syncing: Vec<(Change, AlignedBuf)>,
    syncs: bool,
}

impl Core {
    fn open(files: &Files) -> io::Result<Core> {
        let aio = Aio::builder().build_local()?;
        Ok(Core {
            queue: aio.queue(),
            aio,
            files: files.clone(),
            cache: Cache::new(),
            number: 0,
            written: Vec::new(),
            syncing: Vec::new(),
            syncs: false,
        })
    }

    /// Begins a transaction, if there is one left.
    fn begin(&mut self, mut record: AlignedBuf) -> io::Result<()> {
        if self.number == CLIENTS * EACH {
            return Ok(());
        }
        let change = Change::new(self.number);
        self.number += 1;
        change.write_to(&mut record);
        let log = Arc::clone(&self.files.log);
        let write = Iocb::alloc().init_rw(log, Write, record, change.offset());
        Ok(self.queue.push(write.mixed(), Step::Written(change))?)
    }

    /// The loop: each client goes on whose transaction is durable.
    fn run(&mut self) -> io::Result<()> {
        (0..CLIENTS).try_for_each(|_| self.begin(AlignedBuf::zeroed(BLOCK)))?;
        let mut round = Vec::new();
        while !self.queue.is_empty() {
            round.extend(self.queue.wait(1, None)?);
            round
                .drain(..)
                .try_for_each(|(step, done)| self.go_on(step, done))?;
            self.sync()?;
        }
        self.write_pages()
    }

    fn go_on(
        &mut self,
        step: Step,
        done: Completion<Arc<DirectFile>, kiocb::op::MixedBuf<AlignedBuf>>,
    ) -> io::Result<()> {
        let count = done.result?;
        let Step::Written(change) = step else {
            self.syncs = false;
            return std::mem::take(&mut self.syncing).into_iter().try_for_each(
                |(change, record)| {
                    self.begin(record)?;
                    self.apply(change)
                },
            );
        };
        assert_eq!(count, BLOCK, "a record is written whole");
        self.written
            .push((change, done.buf.one().expect("a record")));
        Ok(())
    }

    /// Begins a sync for what was written meanwhile, unless one is under way.
    fn sync(&mut self) -> io::Result<()> {
        if self.syncs || self.written.is_empty() {
            return Ok(());
        }
        (self.syncing, self.syncs) = (std::mem::take(&mut self.written), true);
        let sync = Iocb::alloc().init_fdsync(Arc::clone(&self.files.log));
        Ok(self.queue.push(sync.mixed(), Step::Synced)?)
    }

    fn apply(&mut self, change: Change) -> io::Result<()> {
        let (aio, pages) = (self.aio.with(kiocb::IoOptions::new()), &*self.files.pages);
        let read = |page: &mut [u8], offset| aio.read_exact_at(pages, page, offset);
        let write = |page: &[u8], offset| aio.write_all_at(pages, page, offset);
        self.cache.apply(change, read, write)
    }

    fn write_pages(&mut self) -> io::Result<()> {
        let (aio, pages) = (self.aio.with(kiocb::IoOptions::new()), &*self.files.pages);
        for frame in self.cache.dirty() {
            aio.write_all_at(pages, &frame.bytes, frame.offset())?;
        }
        aio.fdatasync(pages)
    }
}

fn main() -> io::Result<()> {
    let cores = thread::available_parallelism()?.get().min(4) as u64;
    kit::compare("thread per core", cores, Core::open, Core::run)
}
