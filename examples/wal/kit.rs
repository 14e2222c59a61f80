//! What the three write-ahead logs share: records, pages, the check that reads both back, and the yardstick: the
//! same log with threads, `pwrite` and `fdatasync`.
//!
//! A transaction adds to a page. Its record is made durable first, then the page is changed in the cache: so a
//! page never has what the log has not. A record is one block, which direct I/O writes as it is.

use kiocb::{AlignedBuf, DirectFile};
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const BLOCK: usize = 4096;
/// Clients of one log, each with one transaction at a time.
pub(crate) const CLIENTS: u64 = 16;
/// Transactions of one client.
pub(crate) const EACH: u64 = 200;
pub(crate) const PAGES: u64 = 64;
const FRAMES: u64 = 56;
const ROUNDS: usize = 3;

/// What a transaction does; its number is its place in the log.
#[derive(Clone, Copy)]
pub(crate) struct Change {
    pub(crate) number: u64,
    pub(crate) page: u64,
    pub(crate) amount: u64,
}

impl Change {
    pub(crate) fn new(number: u64) -> Change {
        let amount = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let page = amount % PAGES;
        Change {
            number,
            page,
            amount,
        }
    }

    pub(crate) fn offset(self) -> u64 {
        self.number * BLOCK as u64
    }

    fn words(self) -> [u64; 4] {
        let sum = self.number ^ self.page ^ self.amount;
        [self.number, self.page, self.amount, !sum]
    }

    pub(crate) fn write_to(self, block: &mut [u8]) {
        let words = self.words().into_iter().zip(block.chunks_exact_mut(8));
        words.for_each(|(word, place)| place.copy_from_slice(&word.to_le_bytes()));
    }
}

fn word(block: &[u8], index: usize) -> u64 {
    let bytes = &block[8 * index..8 * (index + 1)];
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

/// One frame of the page cache.
#[derive(Default)]
pub(crate) struct Frame {
    /// Which page it has, and whether that is to be written.
    pub(crate) page: Option<u64>,
    pub(crate) dirty: bool,
    pub(crate) bytes: AlignedBuf,
}

impl Frame {
    pub(crate) fn offset(&self) -> u64 {
        self.page.unwrap_or(0) * BLOCK as u64
    }

    pub(crate) fn add(&mut self, amount: u64) {
        let sum = word(&self.bytes, 0).wrapping_add(amount);
        self.bytes[..8].copy_from_slice(&sum.to_le_bytes());
        self.dirty = true;
    }
}

/// A page cache smaller than its file: each page has one frame in which it may be.
pub(crate) struct Cache(Vec<Frame>);

impl Cache {
    pub(crate) fn new() -> Cache {
        let frame = |_| Frame {
            bytes: AlignedBuf::zeroed(BLOCK),
            ..Frame::default()
        };
        Cache((0..FRAMES).map(frame).collect())
    }

    pub(crate) fn frame(&mut self, page: u64) -> &mut Frame {
        &mut self.0[usize::try_from(page % FRAMES).expect("few frames")]
    }

    /// Adds to a page, for whoever can read and write blocks and waits for it.
    pub(crate) fn apply(
        &mut self,
        change: Change,
        read: impl FnOnce(&mut [u8], u64) -> io::Result<()>,
        write: impl FnOnce(&[u8], u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let frame = self.frame(change.page);
        if frame.page != Some(change.page) {
            if frame.dirty {
                write(&frame.bytes, frame.offset())?; // the page that has to go
            }
            (frame.page, frame.dirty) = (Some(change.page), false);
            let offset = frame.offset();
            read(&mut frame.bytes, offset)?;
        }
        frame.add(change.amount);
        Ok(())
    }

    /// Pages that are to be written.
    pub(crate) fn dirty(&mut self) -> impl Iterator<Item = &mut Frame> {
        let frames = self.0.iter_mut();
        frames.filter(|frame| frame.dirty)
    }
}

/// A log and its pages.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) log: Arc<DirectFile>,
    pub(crate) pages: Arc<DirectFile>,
    paths: [PathBuf; 2],
}

impl Files {
    fn create(dir: &Path, name: &str) -> io::Result<Files> {
        let paths = ["log", "pages"].map(|kind| dir.join(format!("{name}.{kind}")));
        let mut options = DirectFile::options();
        options.read(true).write(true).create(true).truncate(true);
        let [log, pages] = [&paths[0], &paths[1]].map(|path| options.open_or_buffered(path));
        let (log, pages) = (Arc::new(log?), Arc::new(pages?));
        // Zeroes on the disk, so that no write changes more than its block.
        log.file().write_all_at(
            &AlignedBuf::zeroed(usize::try_from(CLIENTS * EACH).expect("few") * BLOCK),
            0,
        )?;
        pages.file().write_all_at(
            &AlignedBuf::zeroed(usize::try_from(PAGES).expect("few") * BLOCK),
            0,
        )?;
        log.file().sync_all()?;
        Ok(Files { log, pages, paths })
    }

    /// Reads the log back: each record once, in its place; and the pages have what it says.
    fn check(&self) -> io::Result<()> {
        let [log, pages] = [&self.paths[0], &self.paths[1]].map(fs::read);
        let mut sums = vec![0_u64; usize::try_from(PAGES).expect("few")];
        let log = log?;
        assert_eq!(log.len() as u64, CLIENTS * EACH * BLOCK as u64);
        for (number, block) in (0..).zip(log.chunks_exact(BLOCK)) {
            let change = Change::new(number);
            let words = [0, 1, 2, 3].map(|index| word(block, index));
            assert_eq!(words, change.words(), "record {number}");
            let sum = &mut sums[usize::try_from(change.page).expect("few")];
            *sum = sum.wrapping_add(change.amount);
        }
        let pages = pages?;
        let found: Vec<_> = pages
            .chunks_exact(BLOCK)
            .map(|page| word(page, 0))
            .collect();
        assert_eq!(found, sums, "the pages have what the log says");
        Ok(())
    }
}

/// The log with threads: each writes its record, and one of those that wait syncs for all.
struct Plain {
    files: Files,
    state: Mutex<(u64, u64, bool)>, // writes ended, writes durable, whether one syncs
    synced: Condvar,
    cache: Mutex<Cache>,
}

impl Plain {
    fn client(&self, client: u64) -> io::Result<()> {
        let (mut block, pages) = (AlignedBuf::zeroed(BLOCK), self.files.pages.file());
        for number in (client..CLIENTS * EACH).step_by(usize::try_from(CLIENTS).expect("few")) {
            let change = Change::new(number);
            change.write_to(&mut block);
            self.files
                .log
                .file()
                .write_all_at(&block, change.offset())?;
            self.make_durable()?;
            let mut cache = self.cache.lock().unwrap();
            let read = |bytes: &mut [u8], offset| pages.read_exact_at(bytes, offset);
            cache.apply(change, read, |bytes, offset| {
                pages.write_all_at(bytes, offset)
            })?;
        }
        Ok(())
    }

    fn make_durable(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        let mine = state.0;
        while state.1 < mine {
            if state.2 {
                state = self.synced.wait(state).unwrap();
                continue;
            }
            let ended = state.0;
            state.2 = true;
            drop(state);
            let result = self.files.log.file().sync_data();
            state = self.state.lock().unwrap();
            (state.1, state.2) = (ended, false);
            self.synced.notify_all();
            result?;
        }
        Ok(())
    }

    fn open(files: &Files) -> io::Result<Plain> {
        Ok(Plain {
            files: files.clone(),
            state: Mutex::new((0, 0, false)),
            synced: Condvar::new(),
            cache: Mutex::new(Cache::new()),
        })
    }

    fn run(&self) -> io::Result<()> {
        thread::scope(|scope| {
            let client = |client| scope.spawn(move || self.client(client));
            let threads: Vec<_> = (0..CLIENTS).map(client).collect();
            let mut results = threads.into_iter().map(|thread| thread.join());
            results.try_for_each(|result| result.expect("no panic"))
        })?;
        let pages = self.files.pages.file();
        for frame in self.cache.lock().unwrap().dirty() {
            pages.write_all_at(&frame.bytes, frame.offset())?;
        }
        pages.sync_data()
    }
}

/// Meets the others when it is dropped: they would wait for ever for one that panicked.
struct AtEnd<'a>(&'a Barrier);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.wait();
    }
}

/// How long all transactions take, on so many logs at once, each with an engine on a thread of its own. Neither
/// making an engine nor its end is counted.
fn timed<W>(
    dir: &Path,
    logs: u64,
    open: impl Fn(&Files) -> io::Result<W> + Sync,
    run: impl Fn(&mut W) -> io::Result<()> + Sync,
) -> io::Result<Duration> {
    let files = (0..logs).map(|log| Files::create(dir, &log.to_string()));
    let files: Vec<_> = files.collect::<io::Result<_>>()?;
    let meet = Barrier::new(files.len() + 1);
    let live = |files: &Files| {
        let mut engine = open(files);
        meet.wait();
        let over = AtEnd(&meet);
        let outcome = engine.as_mut().map(&run);
        drop(over);
        outcome.map_err(|error| io::Error::new(error.kind(), error.to_string()))?
    };
    let took = thread::scope(|scope| {
        let threads: Vec<_> = files
            .iter()
            .map(|files| scope.spawn(|| live(files)))
            .collect();
        meet.wait();
        let start = Instant::now();
        meet.wait();
        let took = start.elapsed();
        let mut results = threads.into_iter().map(|thread| thread.join());
        results
            .try_for_each(|result| result.expect("no panic"))
            .map(|()| took)
    })?;
    files.iter().try_for_each(Files::check)?;
    Ok(took)
}

/// Carries out all transactions by what `open` makes and `run` runs, and by the yardstick, in turns, on so many
/// logs at once, and prints the best rate of each.
pub(crate) fn compare<W>(
    name: &str,
    logs: u64,
    open: impl Fn(&Files) -> io::Result<W> + Sync,
    run: impl Fn(&mut W) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let dir = std::env::args_os().nth(1);
    let dir = tempfile::tempdir_in(dir.map_or_else(|| PathBuf::from("."), PathBuf::from))?;
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        best[0] = best[0].min(timed(dir.path(), logs, &open, &run)?);
        best[1] = best[1].min(timed(dir.path(), logs, Plain::open, |plain| plain.run())?);
    }
    let [ours, plain] = best.map(|took| (logs * CLIENTS * EACH) as f64 / took.as_secs_f64());
    let ratio = ours / plain;
    println!("{name}: {ours:.0} commits a second, {ratio:.2} of plain threads' {plain:.0}");
    Ok(())
}
