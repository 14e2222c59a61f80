//! What the log has of a transaction: changes of pages, all of which are made at recovery, or none.
//!
//! A record is its length (8 bytes), its number (8), and its changes. A change is a kind, the page's number
//! (8), and for a put the lengths of key and value (2 each) and both, for a removal the length of the key (2)
//! and the key, for an image all bytes of the page. An image has what the whole transaction did to its page.

use crate::bytes::{index, put_u64, u16_at, u64_at};
use crate::page::PageId;
use crate::pool::Pool;

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const IMAGE: u8 = 3;
const HEAD: usize = 16;

/// A record in the making, at the end of the log's memory.
pub(crate) struct Record<'a> {
    log: &'a mut Vec<u8>,
    start: usize,
    number: u64,
    /// Pages that it changes; those that it has the image of.
    changed: Vec<PageId>,
    whole: Vec<PageId>,
    has_split: bool,
    /// The first change of a page since a checkpoint is an image.
    images: bool,
}

impl<'a> Record<'a> {
    pub(crate) fn new(log: &'a mut Vec<u8>, number: u64, images: bool) -> Record<'a> {
        let start = log.len();
        log.extend_from_slice(&[0; HEAD]);
        put_u64(log, start + 8, number);
        Record {
            log,
            start,
            number,
            changed: Vec::new(),
            whole: Vec::new(),
            has_split: false,
            images,
        }
    }

    pub(crate) fn put(&mut self, pool: &mut Pool, page: PageId, key: &[u8], value: &[u8]) {
        if self.begin(pool, page, PUT) {
            self.length(key);
            self.length(value);
            self.log.extend_from_slice(key);
            self.log.extend_from_slice(value);
        }
    }

    pub(crate) fn remove(&mut self, pool: &mut Pool, page: PageId, key: &[u8]) {
        if self.begin(pool, page, REMOVE) {
            self.length(key);
            self.log.extend_from_slice(key);
        }
    }

    /// Pages were split, and keys may be in others than before.
    pub(crate) fn split(&mut self, pool: &mut Pool, pages: &[PageId]) {
        self.has_split = true;
        pages.iter().for_each(|page| self.image(pool, *page));
    }

    pub(crate) fn has_split(&self) -> bool {
        self.has_split
    }

    fn image(&mut self, pool: &mut Pool, page: PageId) {
        pool.takes_image(page);
        add(&mut self.changed, page);
        add(&mut self.whole, page);
    }

    fn length(&mut self, bytes: &[u8]) {
        let length = u16::try_from(bytes.len()).expect("less than a page");
        self.log.extend_from_slice(&length.to_le_bytes());
    }

    /// False: an image will have it.
    fn begin(&mut self, pool: &mut Pool, page: PageId, kind: u8) -> bool {
        if self.images && pool.takes_image(page) {
            self.image(pool, page);
        }
        if self.whole.contains(&page) {
            return false;
        }
        add(&mut self.changed, page);
        self.head(kind, page);
        true
    }

    fn head(&mut self, kind: u8, page: PageId) {
        self.log.push(kind);
        self.log.extend_from_slice(&page.to_le_bytes());
    }

    /// All changes are made: writes the images, and how long all of it is.
    pub(crate) fn end(mut self, pool: &mut Pool) {
        for page in &self.changed {
            pool.change(*page).set_version(self.number);
        }
        for page in std::mem::take(&mut self.whole) {
            self.head(IMAGE, page);
            self.log.extend_from_slice(pool.here(page).0);
        }
        let length = self.log.len() - self.start;
        put_u64(self.log, self.start, length as u64);
    }
}

fn add(pages: &mut Vec<PageId>, page: PageId) {
    if !pages.contains(&page) {
        pages.push(page);
    }
}

/// A change that was read back.
pub(crate) enum Change<'a> {
    Put(PageId, &'a [u8], &'a [u8]),
    Remove(PageId, &'a [u8]),
    Image(PageId, &'a [u8]),
}

/// The records of a batch, each with its number and its changes.
pub(crate) fn records(mut bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        let length = (!bytes.is_empty()).then(|| index(u64_at(bytes, 0)))?;
        let (record, rest) = bytes.split_at(length);
        bytes = rest;
        Some((u64_at(record, 8), &record[HEAD..]))
    })
}

/// The changes of a record. The log's checksum has shown that they are what was written.
pub(crate) fn changes(mut bytes: &[u8], page_size: usize) -> impl Iterator<Item = Change<'_>> {
    let mut take = move |count: usize| {
        let (taken, rest) = bytes.split_at(count.min(bytes.len()));
        bytes = rest;
        taken
    };
    std::iter::from_fn(move || {
        let kind = *take(1).first()?;
        let page = u64_at(take(8), 0);
        Some(match kind {
            PUT => {
                let lengths = take(4);
                let key = take(u16_at(lengths, 0));
                Change::Put(page, key, take(u16_at(lengths, 2)))
            }
            REMOVE => {
                let length = u16_at(take(2), 0);
                Change::Remove(page, take(length))
            }
            _ => Change::Image(page, take(page_size)),
        })
    })
}
