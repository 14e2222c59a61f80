//! A page: a header, and cells in the order of their keys.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | the checksum of all that follows |
//! | 8..16 | the page's number, so that a page at a wrong place is noticed |
//! | 16..24 | its version: the transaction that changed it last |
//! | 24..26 | its level in the tree: 0 for a leaf |
//! | 26..28 | how many cells it has |
//! | 28..30 | where the cells' bytes begin; they grow from the end of the page |
//! | 30..32 | how many of those bytes belong to removed cells |
//! | 32..40 | its link: a leaf's is the next leaf, another page's is the child before the first key |
//! | 40.. | where each cell is, in the order of the keys |
//!
//! A cell is the length of its key, that of its value, the key and the value. In a page above the leaves the
//! value is the number of a child, which has the keys from this one on.

use crate::bytes::{put_u16, put_u64, u16_at, u64_at};
use std::ops::{Deref, DerefMut};
use xxhash_rust::xxh3::xxh3_64;

/// The number of a page; page N is N pages from the beginning of the data file.
pub(crate) type PageId = u64;

pub(crate) const MAX_KEY: usize = 255;
const HEADER: usize = 40;
const SLOT: usize = 2;
const LENGTHS: usize = 4;
/// The largest cell of a page above the leaves, with its slot.
pub(crate) const MAX_INNER: usize = SLOT + LENGTHS + MAX_KEY + 8;

/// The bytes that a cell takes, with its slot.
pub(crate) fn cell_size(key: &[u8], value: &[u8]) -> usize {
    SLOT + LENGTHS + key.len() + value.len()
}

/// The largest cell of a leaf: a page has at least four, so half a page always has room for one more.
pub(crate) fn max_cell(page_size: usize) -> usize {
    (page_size - HEADER) / 4
}

pub(crate) struct Page<B>(pub(crate) B);

impl<B: Deref<Target = [u8]>> Page<B> {
    pub(crate) fn version(&self) -> u64 {
        u64_at(&self.0, 16)
    }

    pub(crate) fn level(&self) -> usize {
        u16_at(&self.0, 24)
    }

    pub(crate) fn count(&self) -> usize {
        u16_at(&self.0, 26)
    }

    pub(crate) fn link(&self) -> PageId {
        u64_at(&self.0, 32)
    }

    fn heap(&self) -> usize {
        u16_at(&self.0, 28)
    }

    fn removed(&self) -> usize {
        u16_at(&self.0, 30)
    }

    fn cell_at(&self, slot: usize) -> (usize, usize, usize) {
        let at = u16_at(&self.0, HEADER + slot * SLOT);
        (at, u16_at(&self.0, at), u16_at(&self.0, at + 2))
    }

    pub(crate) fn key(&self, slot: usize) -> &[u8] {
        let (at, key, _) = self.cell_at(slot);
        &self.0[at + LENGTHS..at + LENGTHS + key]
    }

    pub(crate) fn value(&self, slot: usize) -> &[u8] {
        let (at, key, value) = self.cell_at(slot);
        &self.0[at + LENGTHS + key..at + LENGTHS + key + value]
    }

    /// The slot of a key, or where it would be.
    pub(crate) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// A child of a page above the leaves; there is one more than there are keys.
    pub(crate) fn child(&self, place: usize) -> PageId {
        match place.checked_sub(1) {
            None => self.link(),
            Some(slot) => u64_at(self.value(slot), 0),
        }
    }

    /// Which of the children has the key.
    pub(crate) fn child_place(&self, key: &[u8]) -> usize {
        self.find(key).map_or_else(|place| place, |slot| slot + 1)
    }

    pub(crate) fn child_of(&self, key: &[u8]) -> PageId {
        self.child(self.child_place(key))
    }

    /// Bytes for further cells and their slots.
    fn free(&self) -> usize {
        self.heap() + self.removed() - HEADER - SLOT * self.count()
    }

    /// Whether a new cell of that size fits in here.
    pub(crate) fn has_room(&self, size: usize) -> bool {
        self.free() >= size
    }

    /// Whether the key's cell, which takes so many bytes, fits in here in place of what the key has now.
    pub(crate) fn fits(&self, key: &[u8], size: usize) -> bool {
        self.has_room(size) || self.fits_at(self.find(key), size)
    }

    /// The same, where the key was looked for already.
    fn fits_at(&self, slot: Result<usize, usize>, size: usize) -> bool {
        let now = slot.map_or(0, |slot| cell_size(self.key(slot), self.value(slot)));
        self.free() + now >= size
    }

    fn sum(&self) -> u64 {
        xxh3_64(&self.0[8..])
    }

    /// Whether this is page `number`, as it was sealed.
    pub(crate) fn check(&self, number: PageId) -> Result<(), String> {
        let at = number * self.0.len() as u64;
        if self.sum() != u64_at(&self.0, 0) {
            return Err(format!(
                "page {number} of the data file (at byte {at}) is damaged: its checksum does not fit"
            ));
        }
        let found = u64_at(&self.0, 8);
        if found != number {
            return Err(format!(
                "page {number} of the data file (at byte {at}) says that it is page {found}"
            ));
        }
        Ok(())
    }
}

impl<B: DerefMut<Target = [u8]>> Page<B> {
    /// Makes it an empty page.
    pub(crate) fn format(&mut self, number: PageId, level: usize, link: PageId) {
        self.0[..HEADER].fill(0);
        put_u64(&mut self.0, 8, number);
        put_u16(&mut self.0, 24, level);
        let end = self.0.len();
        put_u16(&mut self.0, 28, end);
        put_u64(&mut self.0, 32, link);
    }

    pub(crate) fn set_version(&mut self, version: u64) {
        put_u64(&mut self.0, 16, version);
    }

    /// Makes the checksum fit: what is written to the file is sealed.
    pub(crate) fn seal(&mut self) {
        let sum = self.sum();
        put_u64(&mut self.0, 0, sum);
    }

    /// Puts a cell in, in place of what its key had. False: it [does not fit](Self::fits).
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> bool {
        let (size, slot) = (cell_size(key, value), self.find(key));
        if !self.fits_at(slot, size) {
            return false;
        }
        if let Ok(slot) = slot
            && self.value(slot).len() == value.len()
        {
            let (at, ..) = self.cell_at(slot);
            self.0[at + size - SLOT - value.len()..at + size - SLOT].copy_from_slice(value);
            return true;
        }
        if let Ok(slot) = slot {
            self.remove(slot);
        }
        self.insert(slot.unwrap_or_else(|place| place), key, value);
        true
    }

    /// There is room for it.
    fn insert(&mut self, slot: usize, key: &[u8], value: &[u8]) {
        let (slots, size) = (HEADER + SLOT * self.count(), cell_size(key, value));
        if self.heap() < slots + size {
            self.compact();
        }
        let at = self.heap() - (size - SLOT);
        put_u16(&mut self.0, at, key.len());
        put_u16(&mut self.0, at + 2, value.len());
        self.0[at + LENGTHS..][..key.len()].copy_from_slice(key);
        self.0[at + LENGTHS + key.len()..][..value.len()].copy_from_slice(value);
        let place = HEADER + SLOT * slot;
        self.0.copy_within(place..slots, place + SLOT);
        put_u16(&mut self.0, place, at);
        put_u16(&mut self.0, 28, at);
        let count = self.count() + 1;
        put_u16(&mut self.0, 26, count);
    }

    pub(crate) fn remove(&mut self, slot: usize) {
        let size = cell_size(self.key(slot), self.value(slot)) - SLOT;
        let (place, count) = (HEADER + SLOT * slot, self.count());
        self.0
            .copy_within(place + SLOT..HEADER + SLOT * count, place);
        put_u16(&mut self.0, 26, count - 1);
        let removed = self.removed() + size;
        put_u16(&mut self.0, 30, removed);
    }

    /// Moves the cells together.
    fn compact(&mut self) {
        let old = self.0.to_vec();
        let old = Page(&old[..]);
        let mut at = self.0.len();
        for slot in 0..old.count() {
            let (from, key, value) = old.cell_at(slot);
            let size = LENGTHS + key + value;
            at -= size;
            self.0[at..at + size].copy_from_slice(&old.0[from..from + size]);
            put_u16(&mut self.0, HEADER + SLOT * slot, at);
        }
        put_u16(&mut self.0, 28, at);
        put_u16(&mut self.0, 30, 0);
    }

    /// Takes over cells of another page.
    pub(crate) fn fill<C: Deref<Target = [u8]>>(
        &mut self,
        from: &Page<C>,
        slots: std::ops::Range<usize>,
    ) {
        for slot in slots {
            self.insert(self.count(), from.key(slot), from.value(slot));
        }
    }
}

/// Bytes of the file before a page.
pub(crate) fn offset(number: PageId, page_size: usize) -> u64 {
    number * page_size as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_removed_cells_has_all_its_room_again() {
        let mut page = Page(vec![0; 4096]);
        page.format(7, 0, 0);
        let room = page.free();
        for round in 0..50_u8 {
            for key in 0..30_u8 {
                assert!(page.put(
                    &[key],
                    &vec![round; usize::from(key) * 3 + usize::from(round)]
                ));
            }
            let mut values = (1..30).map(|slot| page.value(slot)[0]);
            assert!(values.all(|value| value == round));
            for _ in 0..30 {
                page.remove(0);
            }
            assert_eq!(page.free(), room);
        }
    }

    #[test]
    fn a_sealed_page_is_no_other_page_and_no_changed_one() {
        let mut page = Page(vec![0; 4096]);
        page.format(7, 0, 0);
        assert!(page.put(b"key", b"value"));
        page.seal();
        assert_eq!(page.check(7), Ok(()));
        assert!(
            page.check(8)
                .unwrap_err()
                .contains("says that it is page 7")
        );
        page.0[4000] ^= 1;
        assert!(
            page.check(7)
                .unwrap_err()
                .contains("page 7 of the data file (at byte 28672) is damaged")
        );
    }

    #[test]
    fn a_full_page_takes_nothing_more_and_stays_as_it_is() {
        let mut page = Page(vec![0; 4096]);
        page.format(7, 0, 0);
        let count = (0..=255_u8)
            .take_while(|key| page.put(&[*key], &[0; 100]))
            .count();
        assert_eq!((count, page.count()), (37, 37));
        assert!(page.put(&[3], &[9; 100]), "a value of the same length");
    }
}
