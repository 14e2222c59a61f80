//! What a store says of itself: the first two pages of the data file are two copies, written by turns.
//!
//! Each checkpoint ends with one, so there is always a whole one, and the log goes on from it. The fields lie in
//! one sector, which a power cut leaves old or new.

use crate::Result;
use crate::bytes::{index, put_u64, u64_at};
use crate::log::{Place, Ring};
use xxhash_rust::xxh3::xxh3_64;

const MARK: u64 = u64::from_le_bytes(*b"pagestor");
const FIELDS: usize = 10;
const BYTES: usize = 8 * (FIELDS + 1);
/// As much is read to find a copy; they are at offset 0 and one page further.
pub(crate) const READ: usize = 4096;
pub(crate) const PAGE_SIZES: [usize; 3] = [4096, 8192, 16_384];

#[derive(Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) page_size: usize,
    pub(crate) ring: Ring,
    /// The copies' number: the higher one counts.
    pub(crate) sequence: u64,
    /// Where recovery begins in the log.
    pub(crate) redo: Place,
    /// The last transaction that all pages have.
    pub(crate) last: u64,
    /// How many pages there are.
    pub(crate) pages: u64,
}

impl Meta {
    /// Which page this copy is.
    pub(crate) fn page(&self) -> u64 {
        self.sequence % 2
    }

    pub(crate) fn write_to(&self, page: &mut [u8]) {
        let fields: [u64; FIELDS] = [
            MARK,
            self.page_size as u64,
            self.ring.store,
            self.ring.segment,
            self.ring.segments,
            self.sequence,
            self.redo.position,
            self.redo.chain,
            self.last,
            self.pages,
        ];
        page.fill(0);
        for (at, field) in (8..).step_by(8).zip(fields) {
            put_u64(page, at, field);
        }
        let sum = xxh3_64(&page[8..BYTES]);
        put_u64(page, 0, sum);
    }

    /// `None`: there is none, or it is not whole.
    fn read(bytes: &[u8]) -> Option<Meta> {
        let field = |number: usize| u64_at(bytes, 8 * (number + 1));
        if xxh3_64(&bytes[8..BYTES]) != u64_at(bytes, 0) || field(0) != MARK {
            return None;
        }
        Some(Meta {
            page_size: index(field(1)),
            ring: Ring {
                store: field(2),
                segment: field(3),
                segments: field(4),
            },
            sequence: field(5),
            redo: Place {
                position: field(6),
                chain: field(7),
            },
            last: field(8),
            pages: field(9),
        })
    }

    /// The newer of the copies. `read` fills a buffer from an offset, and says false beyond the file's end.
    pub(crate) fn find(mut read: impl FnMut(&mut [u8], u64) -> Result<bool>) -> Result<Meta> {
        let mut found: Vec<Meta> = Vec::new();
        let mut bytes = kiocb::AlignedBuf::zeroed(READ);
        for place in [0].into_iter().chain(PAGE_SIZES) {
            let whole = read(&mut bytes, place as u64)?;
            found.extend(
                Meta::read(&bytes)
                    .filter(|meta| whole && meta.page() * meta.page_size as u64 == place as u64),
            );
        }
        let newest = found.into_iter().max_by_key(|meta| meta.sequence);
        newest.ok_or_else(|| {
            "the data file is no store, or both of its first pages are damaged: nothing in it can be found".into()
        })
    }
}
