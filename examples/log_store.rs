//! A store that is a log: `put` appends a record and returns when it is durable, `get` reads one back.

use kiocb::{Aio, AlignedBuf, DirectFile, SyncGroup};
use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Error, ErrorKind};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// The log's length: it is reserved once, and does not grow.
const CAPACITY: u64 = 64 << 20;
/// A record occupies whole blocks, whatever the device's own are.
const BLOCK: usize = 4096;
/// Five words: checksum, checksum of the record before, salt, key, length of the value.
const HEAD: usize = 40;

struct Store {
    aio: Aio,
    log: SyncGroup<DirectFile>,
    /// Tells the records of this run from those of all others.
    salt: u64,
    tail: Mutex<Tail>,
    places: Mutex<HashMap<u64, Place>>,
}

/// Where the next record goes, and the checksum of the one before.
#[derive(Clone, Copy, Default)]
struct Tail {
    offset: u64,
    last: u64,
}

/// Where a record is. The later of two has the larger offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    offset: u64,
    len: usize,
}

fn word(record: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(record[8 * index..][..8].try_into().expect("eight bytes"))
}

fn set_word(record: &mut [u8], index: usize, word: u64) {
    record[8 * index..][..8].copy_from_slice(&word.to_le_bytes());
}

/// The file, with its space reserved.
fn open_log(dir: &Path) -> io::Result<DirectFile> {
    fs::create_dir_all(dir)?;
    let mut options = DirectFile::options();
    options.read(true).write(true).create(true);
    let file = options.open_or_buffered(dir.join("log"))?;
    if !file.is_direct() {
        eprintln!("no direct I/O here: each write blocks its thread");
    }
    if !(BLOCK as u64).is_multiple_of(file.offset_alignment()) {
        return Err(Error::other("the device has larger blocks"));
    }
    file.preallocate(CAPACITY)?;
    file.file().sync_all()?; // its length,
    File::open(dir)?.sync_all()?; // and its name
    Ok(file)
}

impl Store {
    fn open(dir: &Path) -> io::Result<Store> {
        let aio = Aio::builder().thread_name("log").build()?;
        let mut store = Store {
            log: SyncGroup::new(&aio, open_log(dir)?),
            aio,
            salt: RandomState::new().hash_one(0),
            tail: Mutex::default(),
            places: Mutex::default(),
        };
        store.recover()?;
        Ok(store)
    }

    /// A buffer for a record with a value of so many bytes.
    fn buffer(&self, len: usize) -> AlignedBuf {
        let blocks = (HEAD + len).next_multiple_of(BLOCK);
        self.log.file().buffer(blocks)
    }

    // ---- recovery ---------------------------------------------------------------------------------

    /// Follows the chain of records from the first on, to the first that does not belong to it.
    fn recover(&mut self) -> io::Result<()> {
        let mut tail = Tail::default();
        while let Some((place, record)) = self.next(tail)? {
            let key = word(&record, 3);
            self.places.get_mut().unwrap().insert(key, place);
            tail.offset += record.len() as u64;
            tail.last = word(&record, 0);
        }
        *self.tail.get_mut().unwrap() = tail;
        Ok(())
    }

    fn next(&self, tail: Tail) -> io::Result<Option<(Place, AlignedBuf)>> {
        let left = CAPACITY - tail.offset;
        if left == 0 {
            return Ok(None);
        }
        let mut head = self.buffer(0);
        let file = self.log.file();
        self.aio.read_exact_at(file, &mut head, tail.offset)?;
        let (last, len) = (word(&head, 1), word(&head, 4));
        if last != tail.last || len > left - HEAD as u64 {
            return Ok(None);
        }
        let place = Place {
            offset: tail.offset,
            len: usize::try_from(len).expect("less than CAPACITY"),
        };
        Ok(self.read(place)?.map(|record| (place, record)))
    }

    /// The record, unless it is torn or damaged.
    fn read(&self, place: Place) -> io::Result<Option<AlignedBuf>> {
        let mut record = self.buffer(place.len);
        let file = self.log.file();
        self.aio.read_exact_at(file, &mut record, place.offset)?;
        let is_whole = word(&record, 0) == xxh3_64(&record[8..HEAD + place.len]);
        Ok(is_whole.then_some(record))
    }

    // ---- the write path ---------------------------------------------------------------------------

    /// Durable when it returns. Threads that put at the same time share a sync.
    fn put(&self, key: u64, value: &[u8]) -> io::Result<()> {
        let mut tail = self.tail.lock().unwrap();
        let record = self.record(tail.last, key, value);
        let place = Place {
            offset: tail.offset,
            len: value.len(),
        };
        let end = place.offset + record.len() as u64;
        if end > CAPACITY {
            return Err(Error::new(ErrorKind::StorageFull, "the log is full"));
        }
        (tail.offset, tail.last) = (end, word(&record, 0));
        let commit = self.log.commit(record, place.offset); // in the log's order, so under the lock
        drop(tail);

        commit.wait()?;
        let mut places = self.places.lock().unwrap();
        let newest = places.entry(key).or_insert(place);
        *newest = place.max(*newest);
        Ok(())
    }

    fn record(&self, last: u64, key: u64, value: &[u8]) -> AlignedBuf {
        let mut record = self.buffer(value.len());
        let words = [last, self.salt, key, value.len() as u64];
        for (index, content) in (1..).zip(words) {
            set_word(&mut record, index, content);
        }
        let end = HEAD + value.len();
        record[HEAD..end].copy_from_slice(value);
        let checksum = xxh3_64(&record[8..end]);
        set_word(&mut record, 0, checksum);
        record
    }

    // ---- the read path ----------------------------------------------------------------------------

    fn get(&self, key: u64) -> io::Result<Option<Vec<u8>>> {
        let place = self.places.lock().unwrap().get(&key).copied();
        let Some(place) = place else { return Ok(None) };
        let damaged = || Error::new(ErrorKind::InvalidData, "a damaged record");
        let record = self.read(place)?.ok_or_else(damaged)?;
        Ok(Some(record[HEAD..HEAD + place.len].to_vec()))
    }
}

/// Eight clients, each with one record at a time.
fn put_many(store: &Store, first: u64) -> io::Result<()> {
    let client = |client| (0..100).try_for_each(|n| store.put(first + client + 8 * n, b"a value"));
    std::thread::scope(|scope| {
        let clients = (0..8).map(|number| scope.spawn(move || client(number)));
        let clients: Vec<_> = clients.collect();
        let mut results = clients.into_iter().map(|client| client.join());
        results.try_for_each(|result| result.expect("no panic"))
    })
}

fn main() -> io::Result<()> {
    let dir = std::env::args_os().nth(1);
    let dir = dir.ok_or_else(|| Error::other("in which directory?"))?;
    let store = Store::open(dir.as_ref())?;
    let keys: Vec<u64> = store.places.lock().unwrap().keys().copied().collect();
    println!("{} records are there", keys.len());

    let first = keys.iter().max().map_or(0, |key| key + 1);
    let before = store.aio.stats();
    put_many(&store, first)?;
    let requests = (store.aio.stats() - before).accepted;
    println!("800 more, made durable by {} syncs", requests - 800);

    let value = store.get(first)?;
    assert_eq!(value.as_deref(), Some(&b"a value"[..]));
    store.aio.shutdown(Duration::from_secs(10))
}
