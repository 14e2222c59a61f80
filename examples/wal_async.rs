//! A write-ahead log with group commit, in async code.
//!
//! `cargo run --release --example wal_async [DIRECTORY]`. Each task leaves its record and asks for the log. The
//! one that gets it writes what all have left, as one write, and awaits `SyncGroup::commit`; those that get the
//! log afterwards find that their record is durable. The page cache goes from task to task in the same way. All
//! tasks run on one thread, as most of them wait for the same sync.
//!
//! The program prints how many transactions a second it commits beside the same with threads, `pwrite` and
//! `fdatasync` (`wal/kit.rs`), and reads both logs back.

#[path = "wal/kit.rs"]
#[allow(dead_code, reason = "no log needs all of it")]
mod kit;

use kiocb::buf::IoBuf;
use kiocb::op::{Read, Write};
use kiocb::{Aio, AlignedBuf, DirectFile, SyncGroup};
use kit::{BLOCK, CLIENTS, Cache, Change, EACH, Files, Frame};
use std::io;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;

struct Wal {
    aio: Aio,
    pages: Arc<DirectFile>,
    /// The number of the next transaction, and what no task has taken to the log yet.
    left: std::sync::Mutex<(u64, Vec<Change>)>,
    log: Mutex<Log>,
    cache: Mutex<Cache>,
}

struct Log {
    group: SyncGroup<DirectFile>,
    /// Room for a record of each client.
    records: AlignedBuf,
    /// Transactions below this number are durable.
    durable: u64,
}

impl Wal {
    /// One client: a transaction after the other.
    async fn client(&self) -> io::Result<()> {
        for _ in 0..EACH {
            let change = self.leave_record();
            let mut log = self.log.lock().await;
            if log.durable <= change.number {
                let changes = std::mem::take(&mut self.left.lock().unwrap().1);
                log.commit(&changes).await?;
            }
            drop(log);
            let mut cache = self.cache.lock().await;
            self.add(cache.frame(change.page), change).await?;
        }
        Ok(())
    }

    fn leave_record(&self) -> Change {
        let (number, changes) = &mut *self.left.lock().unwrap();
        let change = Change::new(*number);
        *number += 1;
        changes.push(change);
        change
    }

    async fn add(&self, frame: &mut Frame, change: Change) -> io::Result<()> {
        if frame.page != Some(change.page) {
            if frame.dirty {
                self.write(frame).await?; // the page that has to go
            }
            frame.page = Some(change.page);
            let (bytes, offset) = (std::mem::take(&mut frame.bytes), frame.offset());
            let (request, file) = (self.aio.alloc(), self.pages.clone());
            let read = request.init_rw(file, Read, bytes, offset);
            frame.bytes = read.read_exact().await?.ok()?.1;
        }
        frame.add(change.amount);
        Ok(())
    }

    async fn write(&self, frame: &mut Frame) -> io::Result<()> {
        let (bytes, offset) = (std::mem::take(&mut frame.bytes), frame.offset());
        let (request, file) = (self.aio.alloc(), self.pages.clone());
        let write = request.init_rw(file, Write, bytes, offset);
        frame.bytes = write.write_all().await?.ok()?.1;
        frame.dirty = false;
        Ok(())
    }

    async fn checkpoint(&self) -> io::Result<()> {
        for frame in self.cache.lock().await.dirty() {
            self.write(frame).await?;
        }
        let sync = self.aio.alloc().init_fdsync(self.pages.clone());
        sync.await?.result.map(drop)
    }
}

impl Log {
    /// Writes records that follow each other, and makes them durable.
    async fn commit(&mut self, changes: &[Change]) -> io::Result<()> {
        if changes.first().map(|change| change.number) != Some(self.durable) {
            return Err(io::Error::other("an earlier commit failed"));
        }
        for (change, block) in changes.iter().zip(self.records.chunks_exact_mut(BLOCK)) {
            change.write_to(block);
        }
        let records = std::mem::take(&mut self.records).buf_slice(..changes.len() * BLOCK);
        let offset = changes[0].offset();
        self.records = self.group.commit(records, offset).await?.into_inner();
        self.durable += changes.len() as u64;
        Ok(())
    }
}

fn open(files: &Files) -> io::Result<(Runtime, Arc<Wal>)> {
    let aio = Aio::builder().build()?;
    let log = Log {
        group: SyncGroup::from_arc(&aio, files.log.clone()),
        records: AlignedBuf::zeroed(usize::try_from(CLIENTS).expect("few") * BLOCK),
        durable: 0,
    };
    let wal = Wal {
        aio,
        pages: files.pages.clone(),
        left: std::sync::Mutex::default(),
        log: Mutex::new(log),
        cache: Mutex::new(Cache::new()),
    };
    Ok((Builder::new_current_thread().build()?, Arc::new(wal)))
}

fn run((runtime, wal): &mut (Runtime, Arc<Wal>)) -> io::Result<()> {
    runtime.block_on(async {
        let client = |_| {
            let wal = wal.clone();
            tokio::spawn(async move { wal.client().await })
        };
        let tasks: Vec<_> = (0..CLIENTS).map(client).collect();
        for task in tasks {
            task.await.expect("no panic")?;
        }
        wal.checkpoint().await
    })
}

fn main() -> io::Result<()> {
    kit::compare("async", 1, open, run)
}
