//! Files whose every byte is known: each page has a version, and one operation at a time.

use super::kit::Random;
use kiocb_faults::raw::BLOCK;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many pages a file has.
pub(super) const PAGES: usize = 64;

/// What must be in a page of that version.
pub(super) fn content(page: usize, version: u64) -> Vec<u8> {
    let mut dice = Random(version ^ ((page as u64) << 48));
    (0..BLOCK / 8)
        .flat_map(|_| dice.next().to_le_bytes())
        .collect()
}

/// A file whose pages are known.
pub(super) struct Store {
    pub(super) file: Arc<File>,
    pub(super) pages: Vec<Page>,
}

pub(super) struct Page {
    pub(super) busy: AtomicBool,
    pub(super) version: AtomicU64,
}

impl Store {
    pub(super) fn new(file: File) -> Store {
        let page = || Page {
            busy: AtomicBool::new(false),
            version: AtomicU64::new(0),
        };
        Store {
            file: Arc::new(file),
            pages: (0..PAGES).map(|_| page()).collect(),
        }
    }
}

/// The right to one page, until the last that has to do with it is dropped.
pub(super) struct Lease {
    pub(super) store: Arc<Store>,
    pub(super) page: usize,
    /// What is in it afterwards.
    pub(super) after: u64,
}

impl Lease {
    pub(super) fn take(store: &Arc<Store>, dice: &mut Random, write: bool) -> Option<Lease> {
        let page = dice.below(PAGES);
        if store.pages[page].busy.swap(true, Ordering::SeqCst) {
            return None;
        }
        let version = store.pages[page].version.load(Ordering::SeqCst);
        let after = if write { dice.next() } else { version };
        Some(Lease {
            store: Arc::clone(store),
            page,
            after,
        })
    }

    pub(super) fn offset(&self) -> u64 {
        (self.page * BLOCK) as u64
    }

    /// The bytes for a write, or those that a read must find.
    pub(super) fn bytes(&self) -> Vec<u8> {
        content(self.page, self.after)
    }

    #[track_caller]
    pub(super) fn check(&self, result: &io::Result<usize>, bytes: &[u8], what: &str) {
        assert_eq!(
            result.as_ref().ok(),
            Some(&BLOCK),
            "{what} of page {}: {result:?}",
            self.page
        );
        assert!(
            bytes == self.bytes(),
            "{what}: page {} has other bytes",
            self.page
        );
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let page = &self.store.pages[self.page];
        page.version.store(self.after, Ordering::SeqCst);
        page.busy.store(false, Ordering::SeqCst);
    }
}
