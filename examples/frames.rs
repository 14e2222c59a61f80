//! A page cache that is smaller than its file: pages are read into frames, shared, changed, written, evicted.
//!
//! `cargo run --release --example frames`. A frame is an `Arc<PoolBuf>`: its readers, and the write that
//! carries it to the file, share one piece of memory. A change is a copy that takes the frame's place, so no
//! reader sees half of it. Where no frame is free, the page that was used longest ago goes, if no reader has
//! it: a clean one at once, a dirty one when it is written. (One lock guards the table, also while a page is
//! read; a cache for many threads would have one for each page.)
//!
//! Here threads count visits in pages; at the end the file has every visit once.

use kiocb::buf::PoolBuf;
use kiocb::{Aio, BufPool, DirectFile};
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

const PAGE: usize = 4096;
const PAGES: u64 = 1024;
const FRAMES: usize = 64;
const VISITS: u64 = 5_000;

struct Cache {
    aio: Aio,
    file: DirectFile,
    pool: BufPool,
    frames: HashMap<u64, Arc<PoolBuf>>,
    dirty: HashSet<u64>,
    /// The cached pages, in the order in which they are given up.
    used: VecDeque<u64>,
    evicted: u64,
}

impl Cache {
    fn new(file: DirectFile) -> io::Result<Cache> {
        Ok(Cache {
            aio: Aio::builder().build()?,
            pool: BufPool::new(FRAMES, PAGE)?, // aligned to 4096: enough for any device
            file,
            frames: HashMap::new(),
            dirty: HashSet::new(),
            used: VecDeque::new(),
            evicted: 0,
        })
    }

    /// The page, to be read for as long as the caller likes.
    fn read(&mut self, page: u64) -> io::Result<Arc<PoolBuf>> {
        if let Some(frame) = self.frames.get(&page) {
            let frame = Arc::clone(frame);
            self.touch(page);
            return Ok(frame);
        }
        let (mut buf, offset) = (self.free_frame()?, page * PAGE as u64);
        self.aio.read_exact_at(&self.file, &mut buf, offset)?;
        Ok(self.put(page, buf))
    }

    /// Changes the page by a copy: readers go on with what they have.
    fn change(&mut self, page: u64, change: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let before = self.read(page)?;
        let mut after = self.free_frame()?;
        after.copy_from_slice(&before);
        change(&mut after);
        self.put(page, after);
        self.dirty.insert(page);
        Ok(())
    }

    fn put(&mut self, page: u64, buf: PoolBuf) -> Arc<PoolBuf> {
        let frame = Arc::new(buf);
        self.frames.insert(page, Arc::clone(&frame));
        self.touch(page);
        frame
    }

    /// The page is used now, so it is the last to go.
    fn touch(&mut self, page: u64) {
        self.used.retain(|&other| other != page);
        self.used.push_back(page);
    }

    /// A free frame, or else that of the page that was used longest ago and that no reader has.
    fn free_frame(&mut self) -> io::Result<PoolBuf> {
        if let Some(buf) = self.pool.try_take() {
            return Ok(buf);
        }
        let is_free = |page: &u64| Arc::strong_count(&self.frames[page]) == 1;
        let place = self.used.iter().position(is_free);
        let place = place.expect("readers have fewer pages than there are frames");
        let page = self.used[place];
        if self.dirty.contains(&page) {
            let offset = page * PAGE as u64;
            self.aio
                .write_all_at(&self.file, &self.frames[&page], offset)?;
            self.dirty.remove(&page); // not before: a page whose write fails is still dirty
        }
        self.used.remove(place);
        let frame = self.frames.remove(&page).expect("it is cached");
        self.evicted += 1;
        Ok(Arc::into_inner(frame).expect("it was the last one"))
    }

    /// Writes all dirty pages at once, while readers go on, and syncs the file.
    fn checkpoint(&mut self) -> io::Result<()> {
        let dirty: Vec<_> = self.dirty.iter().copied().collect();
        self.aio.scope(|s| {
            let frame = |page| (&self.frames[page][..], page * PAGE as u64);
            let write = |(frame, offset)| s.write_all_at(&self.file, frame, offset);
            let writes: Vec<_> = dirty.iter().map(frame).map(write).collect();
            let mut results = writes.into_iter().map(|write| write.wait());
            results.try_for_each(|result| result.map(drop))
        })?;
        self.aio.fdatasync(&self.file)?;
        self.dirty.clear(); // not before: what failed is written again
        Ok(())
    }
}

fn visits(page: &[u8]) -> u64 {
    u64::from_le_bytes(page[..8].try_into().expect("eight bytes"))
}

/// Visits pages, some more often than others, and looks at each afterwards, without the lock.
fn visit_pages(cache: &Mutex<Cache>, seed: u64) -> io::Result<()> {
    for page in (0..VISITS).map(|visit| (visit * visit * 31 + seed) % PAGES) {
        let add = |bytes: &mut [u8]| {
            let count = visits(bytes) + 1;
            bytes[..8].copy_from_slice(&count.to_le_bytes());
        };
        cache.lock().unwrap().change(page, add)?;
        let bytes = cache.lock().unwrap().read(page)?;
        assert!(visits(&bytes) > 0 && bytes[8..].iter().all(|&byte| byte == 0));
    }
    cache.lock().unwrap().checkpoint()
}

fn main() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("pages");
    File::create_new(&path)?.set_len(PAGES * PAGE as u64)?;
    let mut options = DirectFile::options();
    let file = options.read(true).write(true).open_or_buffered(&path)?;
    let cache = &Mutex::new(Cache::new(file)?);
    std::thread::scope(|scope| {
        let threads = [1, 2, 3, 4].map(|seed| scope.spawn(move || visit_pages(cache, seed)));
        let mut results = threads.into_iter().map(|thread| thread.join());
        results.try_for_each(|result| result.expect("no panic"))
    })?;
    let (mut cache, mut found) = (cache.lock().unwrap(), 0);
    for page in 0..PAGES {
        found += visits(&cache.read(page)?);
    }
    let evicted = cache.evicted;
    println!("{found} visits of {PAGES} pages in {FRAMES} frames; {evicted} evictions");
    assert_eq!(found, 4 * VISITS, "each visit is in the file");
    Ok(())
}
