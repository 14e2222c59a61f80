//! A B+tree over the pages of the pool: keys in order, values in the leaves, each leaf linked to the next.
//!
//! Looking at a page that is not in the pool is a [`Miss`]: the caller has it read and begins again. A change is
//! made only when its leaf is here, and then at once. A page without room is split on the way down, so its
//! parent always has room for one more child. The root stays where it is. Pages are not merged: the room of what
//! was deleted is used again by keys that belong there.

use crate::page::{self, MAX_INNER, Page, PageId};
use crate::pool::{Miss, Pool};
use crate::record::Record;
use std::ops::Deref;

/// Pages before it hold what the store says of itself (`meta.rs`).
pub(crate) const ROOT: PageId = 2;
/// Leaves that a scan has read ahead.
const AHEAD: usize = 8;

pub(crate) type Row = (Vec<u8>, Vec<u8>);

/// The leaf that has the key, or would have it.
pub(crate) fn leaf(pool: &mut Pool, key: &[u8]) -> Result<PageId, Miss> {
    let mut id = ROOT;
    loop {
        let page = pool.page(id)?;
        if page.level() == 0 {
            return Ok(id);
        }
        id = page.child_of(key);
    }
}

/// The value of a key, and the version of its leaf.
pub(crate) fn get(pool: &mut Pool, key: &[u8]) -> Result<(Option<Vec<u8>>, u64), Miss> {
    let leaf = leaf(pool, key)?;
    let page = pool.here(leaf);
    let slot = page.find(key).ok();
    Ok((slot.map(|slot| page.value(slot).to_vec()), page.version()))
}

/// Up to `limit` rows from the key on, and the highest version of their leaves.
pub(crate) fn scan(pool: &mut Pool, from: &[u8], limit: usize) -> Result<(Vec<Row>, u64), Miss> {
    let (mut rows, mut version) = (Vec::new(), 0);
    read_ahead(pool, from)?;
    let mut id = leaf(pool, from)?;
    while id != 0 && rows.len() < limit {
        let page = pool.page(id)?;
        let first = page.find(from).unwrap_or_else(|place| place);
        let slots = (first..page.count()).take(limit - rows.len());
        rows.extend(slots.map(|slot| (page.key(slot).to_vec(), page.value(slot).to_vec())));
        version = version.max(page.version());
        id = page.link();
    }
    Ok((rows, version))
}

/// Has the leaves read that follow the key's, as far as their parent knows them.
fn read_ahead(pool: &mut Pool, key: &[u8]) -> Result<(), Miss> {
    let mut id = ROOT;
    while pool.page(id)?.level() > 1 {
        id = pool.here(id).child_of(key);
    }
    let page = pool.here(id);
    if page.level() == 1 {
        let places = page.child_place(key) + 1..=page.count();
        let next: Vec<_> = places.take(AHEAD).map(|place| page.child(place)).collect();
        next.into_iter().for_each(|child| pool.want(child));
    }
    Ok(())
}

/// How many pages a put may change at most: on each level one and its new neighbour, and a new root's child.
pub(crate) fn most_changed(pool: &mut Pool) -> Result<usize, Miss> {
    Ok(2 * pool.page(ROOT)?.level() + 3)
}

/// The key's leaf is here, and was `leaf` before the transaction changed anything.
pub(crate) fn put(
    pool: &mut Pool,
    record: &mut Record<'_>,
    mut leaf: PageId,
    key: &[u8],
    value: &[u8],
) {
    if record.has_split() || !pool.change(leaf).put(key, value) {
        leaf = leaf_with_room(pool, record, key, page::cell_size(key, value));
        let fits = pool.change(leaf).put(key, value);
        assert!(fits, "the leaf has room");
    }
    record.put(pool, leaf, key, value);
}

/// The key's leaf is here.
pub(crate) fn remove(pool: &mut Pool, record: &mut Record<'_>, key: &[u8]) {
    let leaf = leaf(pool, key).expect("the leaf is here");
    if let Ok(slot) = pool.here(leaf).find(key) {
        pool.change(leaf).remove(slot);
        record.remove(pool, leaf, key);
    }
}

fn leaf_with_room(pool: &mut Pool, record: &mut Record<'_>, key: &[u8], size: usize) -> PageId {
    if !has_room(&pool.here(ROOT), key, size) {
        grow(pool, record);
    }
    let mut id = ROOT;
    loop {
        let page = pool.here(id);
        if page.level() == 0 {
            return id;
        }
        let child = page.child_of(key);
        if has_room(&pool.here(child), key, size) {
            id = child;
        } else {
            split(pool, record, id, child, key); // and looks again which half has the key
        }
    }
}

fn has_room(page: &Page<&[u8]>, key: &[u8], size: usize) -> bool {
    match page.level() {
        0 => page.fits(key, size),
        _ => page.has_room(MAX_INNER),
    }
}

/// Puts a level below the root, which has then one child.
fn grow(pool: &mut Pool, record: &mut Record<'_>) {
    let old = copy(pool, ROOT);
    let child = pool.allocate(old.level(), old.link());
    pool.change(child).fill(&old, 0..old.count());
    pool.change(ROOT).format(ROOT, old.level() + 1, child);
    record.split(pool, &[child, ROOT]);
}

/// Moves half of the cells to a new page on the right.
fn split(pool: &mut Pool, record: &mut Record<'_>, parent: PageId, left: PageId, key: &[u8]) {
    let old = copy(pool, left);
    let middle = middle(&old, key);
    let (separator, first, link) = match old.level() {
        0 if middle == old.count() => (key, middle, old.link()),
        0 => (old.key(middle), middle, old.link()),
        _ => (old.key(middle), middle + 1, old.child(middle + 1)),
    };
    let right = pool.allocate(old.level(), link);
    pool.change(right).fill(&old, first..old.count());
    let link = if old.level() == 0 { right } else { old.link() };
    let mut page = pool.change(left);
    page.format(left, old.level(), link);
    page.fill(&old, 0..middle);
    let fits = pool.change(parent).put(separator, &right.to_le_bytes());
    assert!(fits, "a page on the way down has room for one more child");
    record.split(pool, &[left, right, parent]);
}

/// Where to cut: half of the bytes on each side. Where keys come in order, the last leaf stays full.
fn middle<B: Deref<Target = [u8]>>(page: &Page<B>, key: &[u8]) -> usize {
    let count = page.count();
    if page.level() == 0 && page.link() == 0 && page.find(key) == Err(count) {
        return count;
    }
    let size = |slot| page::cell_size(page.key(slot), page.value(slot));
    let half = (0..count).map(size).sum::<usize>() / 2;
    let sums = (0..count).scan(0, |sum, slot| {
        *sum += size(slot);
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= half)
        .count()
        .clamp(1, count - 1)
}

fn copy(pool: &mut Pool, page: PageId) -> Page<Vec<u8>> {
    Page(pool.here(page).0.to_vec())
}
