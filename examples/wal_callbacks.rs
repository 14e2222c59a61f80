//! A write-ahead log with group commit, with callbacks and two threads.
//!
//! `cargo run --release --example wal_callbacks [DIRECTORY]`. The clients are no threads: on the completion
//! thread, the callback of one transaction's barrier begins the next. What the callbacks of one round submit
//! leaves together, and barriers that come while a sync runs share the next one: that is the group commit. The
//! other thread takes the changes that are durable and puts them into the page cache, because a callback
//! should not wait for pages.
//!
//! The program prints how many transactions a second it commits beside the same with threads, `pwrite` and
//! `fdatasync` (`wal/kit.rs`), and reads both logs back.

#[path = "wal/kit.rs"]
#[allow(dead_code, reason = "no log needs all of it")]
mod kit;

use kiocb::{Aio, BufPool, DirectFile, SyncGroup, SyncKind};
use kit::{BLOCK, CLIENTS, Cache, Change, EACH, Files};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// The side of the callbacks.
struct Log {
    group: SyncGroup<DirectFile>,
    records: BufPool,
    /// Of the next transaction.
    number: AtomicU64,
    durable: Sender<io::Result<Change>>,
}

impl Log {
    /// Begins a transaction, if there is one left.
    fn begin(self: &Arc<Self>) -> io::Result<()> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        if number >= CLIENTS * EACH {
            return Ok(());
        }
        let (change, log) = (Change::new(number), Arc::clone(self));
        let mut record = self.records.take(); // there is one for each client
        change.write_to(&mut record);
        // What goes wrong with the write is the barrier's error, too.
        self.group
            .write(record, change.offset(), |done| drop(done.result))?;
        let committed = move |result| log.committed(change, result);
        Ok(self.group.barrier(SyncKind::Data, committed)?)
    }

    fn committed(self: &Arc<Self>, change: Change, result: io::Result<()>) {
        let next = match &result {
            Ok(()) => self.begin(),
            Err(_) => Ok(()),
        };
        // Nothing is lost where the other side has gone: it goes after an error.
        let _ = self.durable.send(result.map(|()| change));
        if let Err(error) = next {
            let _ = self.durable.send(Err(error));
        }
    }
}

/// The side of the pages.
struct Pages {
    aio: Aio,
    file: Arc<DirectFile>,
    durable: Receiver<io::Result<Change>>,
    cache: Cache,
}

impl Pages {
    fn apply(&mut self, change: Change) -> io::Result<()> {
        let read = |page: &mut [u8], offset| self.aio.read_exact_at(&self.file, page, offset);
        let write = |page: &[u8], offset| self.aio.write_all_at(&self.file, page, offset);
        self.cache.apply(change, read, write)
    }

    /// Writes the pages that were changed, all at once.
    fn checkpoint(&mut self) -> io::Result<()> {
        let pages = self
            .cache
            .dirty()
            .map(|frame| (&frame.bytes[..], frame.offset()));
        for count in self.aio.write_many(&self.file, pages) {
            assert_eq!(count?, BLOCK);
        }
        self.aio.fdatasync(&self.file)
    }
}

fn open(files: &Files) -> io::Result<(Arc<Log>, Pages)> {
    let (aio, (durable, receiver)) = (Aio::builder().build()?, channel());
    let log = Log {
        group: SyncGroup::from_arc(&aio, files.log.clone()),
        records: BufPool::new(usize::try_from(CLIENTS).expect("few"), BLOCK)?,
        number: AtomicU64::new(0),
        durable,
    };
    let pages = Pages {
        aio,
        file: files.pages.clone(),
        durable: receiver,
        cache: Cache::new(),
    };
    Ok((Arc::new(log), pages))
}

fn run((log, pages): &mut (Arc<Log>, Pages)) -> io::Result<()> {
    (0..CLIENTS).try_for_each(|_| log.begin())?;
    for _ in 0..CLIENTS * EACH {
        let change = pages.durable.recv().expect("the log is there")?;
        pages.apply(change)?;
    }
    pages.checkpoint()
}

fn main() -> io::Result<()> {
    kit::compare("callbacks", 1, open, run)
}
