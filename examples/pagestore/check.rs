//! `check`: whether every page of the data file is whole, and all of them are one tree.
//!
//! One pass reads all pages, in their order and ahead; then the tree is followed from its root in what was kept of
//! them. Nothing is repaired.

use crate::Result;
use crate::files::Files;
use crate::meta::Meta;
use crate::page::{self, Page, PageId};
use crate::tree::ROOT;
use kiocb::Aio;
use kiocb::stream::StreamReader;
use std::io::Read;
use std::sync::Arc;

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Checked {
    pub(crate) pages: u64,
    pub(crate) keys: u64,
    pub(crate) levels: usize,
}

/// What is kept of a page.
enum Kept {
    Inner(Page<Vec<u8>>),
    Leaf {
        first: Vec<u8>,
        last: Vec<u8>,
        keys: u64,
        link: PageId,
    },
    /// It was reached: a page has one parent.
    Reached,
}

/// The keys that a page may have, from the first on and before the second.
type Bounds<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

pub(crate) fn check(files: &Files, meta: &Meta) -> Result<Checked> {
    let mut tree = Tree {
        pages: read_all(files, meta)?,
        checked: Checked {
            pages: meta.pages,
            ..Checked::default()
        },
        next_leaf: None,
    };
    let level = tree.level(ROOT)?;
    tree.checked.levels = level + 1;
    tree.follow(ROOT, level, (None, None))?;
    if let Some(leaf) = tree.next_leaf.filter(|leaf| *leaf != 0) {
        return Err(
            format!("the last leaf links to page {leaf}, which is no leaf after it").into(),
        );
    }
    let lost = tree
        .pages
        .iter()
        .position(|page| !matches!(page, Kept::Reached));
    match lost {
        Some(lost) => Err(format!("page {} belongs to nothing", lost as u64 + ROOT).into()),
        None => Ok(tree.checked),
    }
}

fn read_all(files: &Files, meta: &Meta) -> Result<Vec<Kept>> {
    let mut data = StreamReader::new(&Aio::global()?, Arc::clone(&files.data))?;
    let range = [ROOT, meta.pages].map(|page| page::offset(page, meta.page_size));
    data.set_range(range[0]..range[1])?;
    let mut bytes = vec![0; meta.page_size];
    let mut read = |number| {
        data.read_exact(&mut bytes)
            .map_err(|error| format!("page {number} can't be read: {error}"))?;
        keep(number, Page(&bytes[..]), meta)
    };
    (ROOT..meta.pages).map(&mut read).collect()
}

/// A page that is whole and in order by itself.
fn keep(number: PageId, page: Page<&[u8]>, meta: &Meta) -> Result<Kept> {
    page.check(number)?;
    let (version, last) = (page.version(), meta.last);
    if version > last {
        return Err(format!(
            "page {number} was changed by transaction {version}, and the last one is {last}"
        )
        .into());
    }
    let count = page.count();
    if let Some(slot) = (1..count).find(|slot| page.key(slot - 1) >= page.key(*slot)) {
        return Err(format!(
            "page {number}: its keys {} and {slot} are not in order",
            slot - 1
        )
        .into());
    }
    let key = |slot: Option<usize>| slot.map_or(Vec::new(), |slot| page.key(slot).to_vec());
    Ok(match page.level() {
        0 => Kept::Leaf {
            first: key((count > 0).then_some(0)),
            last: key(count.checked_sub(1)),
            keys: count as u64,
            link: page.link(),
        },
        _ => Kept::Inner(Page(page.0.to_vec())),
    })
}

struct Tree {
    /// From the root on.
    pages: Vec<Kept>,
    checked: Checked,
    /// Where the leaf before links to.
    next_leaf: Option<PageId>,
}

impl Tree {
    fn place(&self, page: PageId) -> Result<usize> {
        let place = page
            .checked_sub(ROOT)
            .and_then(|place| usize::try_from(place).ok());
        let place = place.filter(|place| *place < self.pages.len());
        place.ok_or_else(|| format!("a page has the child {page}, which is not there").into())
    }

    fn level(&self, page: PageId) -> Result<usize> {
        Ok(match &self.pages[self.place(page)?] {
            Kept::Inner(page) => page.level(),
            _ => 0,
        })
    }

    fn follow(&mut self, page: PageId, level: usize, bounds: Bounds<'_>) -> Result<()> {
        let place = self.place(page)?;
        if self.level(page)? != level {
            return Err(format!("page {page} is not of level {level}, as its parent says").into());
        }
        match std::mem::replace(&mut self.pages[place], Kept::Reached) {
            Kept::Reached => Err(format!("page {page} has two parents").into()),
            Kept::Leaf {
                first,
                last,
                keys,
                link,
            } => {
                if keys > 0 && !(is_within(&first, bounds) && is_within(&last, bounds)) {
                    return Err(format!("page {page} has keys that belong to another leaf").into());
                }
                self.checked.keys += keys;
                match self.next_leaf.replace(link) {
                    Some(next) if next != page => {
                        Err(format!("the leaf before page {page} links to page {next}").into())
                    }
                    _ => Ok(()),
                }
            }
            Kept::Inner(inner) => (0..=inner.count()).try_for_each(|child| {
                let low = child
                    .checked_sub(1)
                    .map(|slot| inner.key(slot))
                    .or(bounds.0);
                let high = (child < inner.count())
                    .then(|| inner.key(child))
                    .or(bounds.1);
                self.follow(inner.child(child), level - 1, (low, high))
            }),
        }
    }
}

fn is_within(key: &[u8], (low, high): Bounds<'_>) -> bool {
    low.is_none_or(|low| low <= key) && high.is_none_or(|high| key < high)
}
