//! Files whose every byte is known: each page has a version, and one request at a time.

use crate::Result;
use crate::ledger::Ledger;
use crate::options::Options;
use crate::rng::{Rng, below};
use kiocb::{AlignedBuf, DirectFile};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A file's length: small, so that each page is used many thousand times.
const LENGTH: usize = 4 << 20;
const SECTOR: u64 = 512;
/// Pages that are read at once to be looked at.
const PIECE: usize = 128;

/// The files in all directories; removed when this is dropped.
pub(crate) struct Stores {
    pub(crate) all: Vec<Arc<Store>>,
    paths: Vec<PathBuf>,
    /// Where each thread's stream goes.
    pub(crate) streams: Vec<PathBuf>,
}

impl Stores {
    pub(crate) fn open(options: &Options) -> Result<Stores> {
        let mut stores = Stores {
            all: Vec::new(),
            paths: Vec::new(),
            streams: Vec::new(),
        };
        for dir in &options.dirs {
            let path = dir.join("kiocb-soak-pages");
            stores.paths.push(path.clone());
            stores
                .all
                .push(Arc::new(Store::make(&path, options.faults)?));
        }
        for thread in 0..options.threads {
            let dir = &options.dirs[thread % options.dirs.len()];
            stores
                .streams
                .push(dir.join(format!("kiocb-soak-stream-{thread}")));
        }
        stores.paths.extend(stores.streams.iter().cloned());
        Ok(stores)
    }

    /// Each page has the bytes that were written last.
    pub(crate) fn verify(&self, ledger: &Ledger) {
        self.all.iter().for_each(|store| store.verify(ledger));
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = std::fs::remove_file(path); // a file server need not know that
        }
    }
}

pub(crate) struct Store {
    pub(crate) file: DirectFile,
    pub(crate) page: usize,
    pages: Vec<Page>,
    faults: bool,
}

/// A version twice, and in its lowest bit whether a request has the page.
#[derive(Default)]
struct Page {
    state: AtomicU64,
    /// What may be there instead, after a write whose result is not known; 0: nothing.
    doubt: AtomicU64,
}

pub(crate) fn open(path: &Path) -> io::Result<DirectFile> {
    let mut options = DirectFile::options();
    options.read(true).write(true).create(true);
    options.open_or_buffered(path)
}

/// What must be at this place in that version. The first word of a version that was never written is 0.
pub(crate) fn fill(bytes: &mut [u8], place: usize, version: u64) {
    for (number, word) in bytes.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&word_of(place, version, number).to_le_bytes());
    }
}

pub(crate) fn holds(bytes: &[u8], place: usize, version: u64) -> bool {
    let mut words = bytes.chunks_exact(8).enumerate();
    words.all(|(number, word)| word == word_of(place, version, number).to_le_bytes())
}

fn word_of(place: usize, version: u64, number: usize) -> u64 {
    let seed = version ^ (place as u64) << 40;
    seed.wrapping_add(number as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Store {
    fn make(path: &Path, faults: bool) -> Result<Store> {
        let file = open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let page = 2 * usize::try_from(file.offset_alignment().max(SECTOR))?; // in two pieces
        let mut pages = Vec::new();
        let mut all = file.buffer(LENGTH);
        for (place, bytes) in all.chunks_exact_mut(page).enumerate() {
            fill(bytes, place, 2);
            pages.push(Page {
                state: AtomicU64::new(2),
                doubt: AtomicU64::new(0),
            });
        }
        let store = Store {
            file,
            page,
            pages,
            faults,
        };
        store.write_first(&all)?;
        Ok(store)
    }

    /// A medium that fails at random takes it some time.
    fn write_first(&self, all: &[u8]) -> io::Result<()> {
        let mut tries = 0;
        loop {
            match self.file.file().write_all_at(all, 0) {
                Err(_) if self.faults && tries < 1000 => tries += 1,
                done => return done,
            }
        }
    }

    /// The right to a page that no request has, for a read or a write; after some tries none is found. A page in
    /// doubt is read.
    pub(crate) fn lend(
        self: &Arc<Self>,
        ledger: &Arc<Ledger>,
        dice: &mut Rng,
        write: bool,
    ) -> Option<Lease> {
        for _ in 0..8 {
            let place = below(dice.next(), self.pages.len() as u64) as usize;
            let page = &self.pages[place];
            let before = page.state.load(Ordering::Relaxed);
            let taken = before & 1 == 0
                && page
                    .state
                    .compare_exchange(before, before | 1, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok();
            if !taken {
                continue;
            }
            ledger.lent.fetch_add(1, Ordering::Relaxed);
            let doubt = page.doubt.load(Ordering::Relaxed);
            return Some(Lease {
                store: Arc::clone(self),
                ledger: Arc::clone(ledger),
                place,
                before,
                doubt,
                after: (write && doubt == 0).then(|| (dice.next() | 2) & !1),
            });
        }
        None
    }

    fn verify(&self, ledger: &Ledger) {
        let mut bytes = self.file.buffer(self.page * PIECE);
        for (number, pages) in self.pages.chunks(PIECE).enumerate() {
            let first = number * PIECE;
            let bytes = &mut bytes[..pages.len() * self.page];
            if let Err(error) = self.read(bytes, (first * self.page) as u64) {
                return ledger.error(&error, self.faults);
            }
            for (offset, (page, bytes)) in pages.iter().zip(bytes.chunks(self.page)).enumerate() {
                if !page.holds(bytes, first + offset) {
                    let place = first + offset;
                    ledger.fault(format!(
                        "page {place} has other bytes at the end of a round"
                    ));
                }
            }
        }
    }

    /// A medium that fails at random takes it some time.
    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let mut tries = 0;
        loop {
            match self.file.file().read_exact_at(bytes, offset) {
                Err(_) if self.faults && tries < 1000 => tries += 1,
                done => return done,
            }
        }
    }
}

impl Page {
    fn holds(&self, bytes: &[u8], place: usize) -> bool {
        let doubt = self.doubt.load(Ordering::Relaxed);
        holds(bytes, place, self.state.load(Ordering::Acquire))
            || (doubt != 0 && holds(bytes, place, doubt))
    }
}

/// The right to one page, and its file: the request owns it, and its end gives it back.
pub(crate) struct Lease {
    store: Arc<Store>,
    ledger: Arc<Ledger>,
    place: usize,
    before: u64,
    doubt: u64,
    /// The version that a write makes.
    after: Option<u64>,
}

impl Lease {
    pub(crate) fn offset(&self) -> u64 {
        (self.place * self.store.page) as u64
    }

    pub(crate) fn writes(&self) -> bool {
        self.after.is_some()
    }

    /// Nothing was written.
    pub(crate) fn unused(mut self) -> Lease {
        self.after = None;
        self
    }

    pub(crate) fn file(&self) -> &DirectFile {
        &self.store.file
    }

    /// The bytes for a write, or room for those of a read.
    pub(crate) fn buffer(&self) -> AlignedBuf {
        let mut bytes = self.store.file.buffer(self.store.page);
        self.fill(&mut bytes);
        bytes
    }

    pub(crate) fn fill(&self, bytes: &mut [u8]) {
        if let Some(after) = self.after {
            fill(bytes, self.place, after);
        }
    }

    /// The request has ended.
    pub(crate) fn end(mut self, result: io::Result<usize>, bytes: &[u8]) {
        match (result, self.after) {
            (Ok(count), Some(after)) if count == self.store.page => {
                (self.before, self.doubt, self.after) = (after, 0, None);
            }
            (Ok(count), None) if count == self.store.page => self.compare(bytes),
            (Ok(count), _) if self.store.faults => {
                self.ledger.error(
                    &io::Error::other(format!("{} bytes short", self.store.page - count)),
                    true,
                );
            }
            (Ok(count), _) => self
                .ledger
                .fault(format!("{count} bytes of page {}", self.place)),
            (Err(error), _) => self.ledger.error(&error, self.store.faults),
        }
    }

    fn compare(&mut self, bytes: &[u8]) {
        if self.doubt != 0 && holds(bytes, self.place, self.doubt) {
            (self.before, self.doubt) = (self.doubt, 0);
        } else if holds(bytes, self.place, self.before) {
            self.doubt = 0;
        } else {
            self.ledger
                .fault(format!("a read of page {} has other bytes", self.place));
        }
    }
}

impl AsFd for Store {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsFd for Lease {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.store.file.as_fd()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let page = &self.store.pages[self.place];
        // A write whose result nobody saw has been done all the same, unless the medium fails.
        let (state, doubt) = match self.after {
            Some(after) if !self.store.faults => (after, 0),
            after => (self.before, after.unwrap_or(self.doubt)),
        };
        page.doubt.store(doubt, Ordering::Relaxed);
        let was = page.state.swap(state, Ordering::Release);
        if was & 1 == 0 {
            self.ledger
                .fault(format!("page {} came back twice", self.place));
        }
        self.ledger.back.fetch_add(1, Ordering::Relaxed);
    }
}
