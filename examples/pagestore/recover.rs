//! Recovery: what the log has since the last checkpoint is made to happen again, and written to the data file.
//!
//! It follows the log's chain from where the meta page says, changes pages in memory, makes the log durable once
//! more (the last batch may be in a cache still, and a page must never have what the log has not), writes the
//! pages, syncs, and writes a new meta page. Cut off at any moment, it can begin again. A page that a power cut has
//! torn comes back by its image in the log; where there is none, its damage is an error.

use crate::Result;
use crate::files::{self, Files};
use crate::log::{self, BLOCK, HEADER, Place};
use crate::meta::Meta;
use crate::page::{self, Page, PageId};
use crate::record::{Change, changes, records};
use kiocb::stream::StreamReader;
use kiocb::{Aio, AlignedBuf};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Read;
use std::sync::Arc;

/// How many pages are written at once.
const AT_ONCE: usize = 64;

/// What was done.
#[derive(Default)]
pub(crate) struct Recovered {
    pub(crate) transactions: u64,
    pub(crate) pages: u64,
}

/// Brings the data file to where the log is.
pub(crate) fn recover(files: &Files, meta: &mut Meta) -> Result<Recovered> {
    let mut redo = Redo {
        files,
        page_size: meta.page_size,
        pages: BTreeMap::new(),
        last: meta.last,
        transactions: 0,
    };
    let aio = Aio::global()?;
    let end = redo.follow(meta, &aio)?;
    let recovered = Recovered {
        transactions: redo.transactions,
        pages: redo.pages.len() as u64,
    };
    if end == meta.redo {
        return Ok(recovered);
    }
    aio.fdatasync(&*files.log)?;
    let highest = redo.pages.last_key_value().map_or(0, |(page, _)| page + 1);
    meta.pages = meta.pages.max(highest);
    (meta.last, meta.redo) = (redo.last, end);
    redo.write_pages(&aio, meta.pages)?;
    meta.sequence += 1;
    let mut page = AlignedBuf::zeroed(meta.page_size);
    meta.write_to(&mut page);
    aio.write_all_at(
        &*files.data,
        &page,
        page::offset(meta.page(), meta.page_size),
    )?;
    aio.fdatasync(&*files.data)?;
    Ok(recovered)
}

struct Redo<'a> {
    files: &'a Files,
    page_size: usize,
    pages: BTreeMap<PageId, AlignedBuf>,
    last: u64,
    transactions: u64,
}

impl Redo<'_> {
    /// Carries out what the chain has; returns where it ends.
    fn follow(&mut self, meta: &Meta, aio: &Aio) -> Result<Place> {
        let mut log = StreamReader::new(aio, Arc::clone(&self.files.log))?;
        let mut place = meta.redo;
        log.set_range(meta.ring.offset(place.position)..meta.ring.bytes())?;
        while let Some((found, batch)) = next_batch(&mut log, meta, place)? {
            for (number, record) in records(&batch[HEADER..]) {
                self.apply(number, record)?;
            }
            place = Place {
                position: found + batch.len().next_multiple_of(BLOCK) as u64,
                chain: log::sum(&batch).expect("it was whole"),
            };
        }
        Ok(place)
    }

    fn apply(&mut self, number: u64, record: &[u8]) -> Result<()> {
        let mut changed = Vec::new();
        for change in changes(record, self.page_size) {
            changed.push(self.carry_out(number, &change)?);
        }
        for page in changed {
            let bytes = self.pages.get_mut(&page).expect("it was changed");
            let mut page = Page(&mut bytes[..]);
            let version = page.version().max(number);
            page.set_version(version);
        }
        self.last = number;
        self.transactions += 1;
        Ok(())
    }

    /// Changes a page, unless it has the change already.
    fn carry_out(&mut self, number: u64, change: &Change<'_>) -> Result<PageId> {
        let (Change::Put(page, ..) | Change::Remove(page, _) | Change::Image(page, _)) = *change;
        if let Change::Image(_, bytes) = *change {
            self.pages.insert(page, AlignedBuf::from(bytes));
            return Ok(page);
        }
        let bytes = self.page(page)?;
        let mut found = Page(&mut bytes[..]);
        if found.version() < number {
            let fits = match *change {
                Change::Put(_, key, value) => found.put(key, value),
                Change::Remove(_, key) => found.find(key).map(|slot| found.remove(slot)).is_ok(),
                Change::Image(..) => true,
            };
            if !fits {
                return Err(format!(
                    "transaction {number} of the log does not fit to page {page}: one of both is damaged"
                )
                .into());
            }
        }
        Ok(page)
    }

    /// The page as it is by now; read from the file if the log has no image of it.
    fn page(&mut self, page: PageId) -> Result<&mut AlignedBuf> {
        match self.pages.entry(page) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let mut bytes = AlignedBuf::zeroed(self.page_size);
                let offset = page::offset(page, self.page_size);
                files::read_at(self.files.data.file(), &mut bytes, offset)?;
                let checked = Page(&bytes[..]).check(page);
                checked.map_err(|why| format!("{why}, and the log has no image of it"))?;
                Ok(entry.insert(bytes))
            }
        }
    }

    /// In their order in the file, many at once; then the sync.
    fn write_pages(&mut self, aio: &Aio, pages: u64) -> Result<()> {
        let size = self.page_size;
        files::reserve(&self.files.data, page::offset(pages, size))?;
        for bytes in self.pages.values_mut() {
            Page(&mut bytes[..]).seal();
        }
        let mut left = self.pages.iter();
        loop {
            let some = left.by_ref().take(AT_ONCE);
            let some: Vec<_> = some
                .map(|(page, bytes)| (&bytes[..], page::offset(*page, size)))
                .collect();
            if some.is_empty() {
                break;
            }
            aio.scope(|scope| {
                let write = |(bytes, at)| scope.write_all_at(&*self.files.data, bytes, at);
                let writes: Vec<_> = some.into_iter().map(write).collect();
                let mut results = writes.into_iter().map(|write| write.wait());
                results.try_for_each(|result| result.map(drop))
            })?;
        }
        Ok(aio.fdatasync(&*self.files.data)?)
    }
}

/// The batch at this place, or at the beginning of the next segment, and its position.
fn next_batch(log: &mut StreamReader, meta: &Meta, place: Place) -> Result<Option<(u64, Vec<u8>)>> {
    if let Some(batch) = batch_at(log, meta, place)? {
        return Ok(Some((place.position, batch)));
    }
    let position = meta.ring.next_segment(place.position);
    let next = Place { position, ..place };
    let batch = batch_at(log, meta, next)?;
    Ok(batch.map(|batch| (position, batch)))
}

fn batch_at(log: &mut StreamReader, meta: &Meta, place: Place) -> Result<Option<Vec<u8>>> {
    let offset = meta.ring.offset(place.position);
    if log.position() != offset {
        log.set_range(offset..meta.ring.bytes())?;
    }
    let mut batch = vec![0; BLOCK];
    log.read_exact(&mut batch)?;
    let Some(length) = log::length(&meta.ring, place, &batch) else {
        return Ok(None);
    };
    batch.resize(length.next_multiple_of(BLOCK), 0);
    log.read_exact(&mut batch[BLOCK..])?;
    batch.truncate(length);
    Ok(log::sum(&batch).map(|_| batch))
}
