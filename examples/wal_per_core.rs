//! A write-ahead log with group commit for each core: a thread, a context and a loop of its own.
//!
//! `cargo run --release --example wal_per_core [DIRECTORY]`. A core shares nothing with the others. Its clients
//! are no threads: the callback of one transaction's barrier begins the next, inside `poll`. Barriers that come
//! while a sync runs share the next one.
//!
//! The program prints how many transactions a second it commits beside the same with threads, `pwrite` and
//! `fdatasync` for each log (`wal/kit.rs`), and reads all logs back.

#[path = "wal/kit.rs"]
#[allow(dead_code, reason = "no log needs all of it")]
mod kit;

use kiocb::{Aio, BufPool, DirectFile, Dispatch, SyncGroup, SyncKind};
use kit::{BLOCK, CLIENTS, Cache, Change, EACH, Files};
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;

struct Core {
    aio: Aio,
    log: SyncGroup<DirectFile>,
    records: BufPool,
    pages: Arc<DirectFile>,
    // Only this core's thread takes it, so it is never waited for.
    state: Mutex<State>,
}

struct State {
    /// Of the next transaction.
    number: u64,
    /// What callbacks have left for the loop.
    durable: Vec<io::Result<Change>>,
}

impl Core {
    /// Begins a transaction, if there is one left.
    fn begin(self: &Arc<Self>) -> io::Result<()> {
        let change = Change::new(self.state.lock().unwrap().number);
        if change.number == CLIENTS * EACH {
            return Ok(());
        }
        self.state.lock().unwrap().number += 1;
        let mut record = self.records.take(); // there is one for each client
        change.write_to(&mut record);
        // What goes wrong with the write is the barrier's error, too.
        self.log
            .write(record, change.offset(), |done| drop(done.result))?;
        let core = Arc::clone(self);
        let committed = move |result| core.committed(change, result);
        Ok(self.log.barrier(SyncKind::Data, committed)?)
    }

    fn committed(self: &Arc<Self>, change: Change, result: io::Result<()>) {
        let next = match &result {
            Ok(()) => self.begin(),
            Err(_) => Ok(()),
        };
        let mut state = self.state.lock().unwrap();
        state.durable.push(result.map(|()| change));
        state.durable.extend(next.err().map(Err));
    }

    /// The loop of the core: each client goes on whose transaction is durable, and while the next records are
    /// being written the changes go to the page cache.
    fn run(self: &Arc<Self>) -> io::Result<()> {
        let mut cache = Cache::new();
        (0..CLIENTS).try_for_each(|_| self.begin())?;
        while self.aio.run_once(None)? > 0 {
            let durable = std::mem::take(&mut self.state.lock().unwrap().durable);
            for change in durable {
                self.apply(&mut cache, change?)?;
            }
        }
        let pages = cache
            .dirty()
            .map(|frame| (&frame.bytes[..], frame.offset()));
        for count in self.aio.write_many(&self.pages, pages) {
            assert_eq!(count?, BLOCK);
        }
        self.aio.fdatasync(&self.pages)
    }

    fn apply(&self, cache: &mut Cache, change: Change) -> io::Result<()> {
        let read = |page: &mut [u8], offset| self.aio.read_exact_at(&self.pages, page, offset);
        let write = |page: &[u8], offset| self.aio.write_all_at(&self.pages, page, offset);
        cache.apply(change, read, write)
    }
}

fn open(files: &Files) -> io::Result<Arc<Core>> {
    let aio = Aio::builder().dispatch(Dispatch::Manual).build()?;
    Ok(Arc::new(Core {
        log: SyncGroup::from_arc(&aio, files.log.clone()),
        records: BufPool::new(usize::try_from(CLIENTS).expect("few"), BLOCK)?,
        pages: files.pages.clone(),
        state: Mutex::new(State {
            number: 0,
            durable: Vec::new(),
        }),
        aio,
    }))
}

fn main() -> io::Result<()> {
    let cores = thread::available_parallelism()?.get().min(4) as u64;
    kit::compare("thread per core", cores, open, Core::run)
}
