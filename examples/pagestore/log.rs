//! The write-ahead log: a preallocated file of segments that are written in a ring, batch after batch.
//!
//! A batch is what one write and one sync make durable: all records that came while the one before was on its
//! way. Its header says which store it belongs to, where it is, counted from the log's first byte ever, and the
//! checksum of the batch before. So the chain ends at the first batch that is torn, missing, or left from an
//! earlier turn of the ring: nothing stale is taken for new. A batch lies in one segment; where it does not fit,
//! the chain goes on at the beginning of the next one. A segment is written again when the checkpoint is past.

use crate::bytes::{index, put_u64, u64_at};
use kiocb::AlignedBuf;
use xxhash_rust::xxh3::xxh3_64;

/// What offsets and lengths in the log are multiples of.
pub(crate) const BLOCK: usize = 4096;
/// Checksum, mark, store, position, checksum of the batch before, bytes of records.
pub(crate) const HEADER: usize = 48;
const MARK: u64 = u64::from_le_bytes(*b"kiocblog");

/// Where the chain is to be followed from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Place {
    /// Of the next batch, if it fits into the segment; else the next segment's first.
    pub(crate) position: u64,
    /// The checksum of the batch before.
    pub(crate) chain: u64,
}

/// The size of the ring, and whose it is.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    pub(crate) store: u64,
    pub(crate) segment: u64,
    pub(crate) segments: u64,
}

impl Ring {
    pub(crate) fn bytes(&self) -> u64 {
        self.segment * self.segments
    }

    pub(crate) fn offset(&self, position: u64) -> u64 {
        position % self.bytes()
    }

    /// Where a batch of that length goes.
    fn fit(&self, position: u64, length: u64) -> u64 {
        match position % self.segment + length > self.segment {
            true => self.next_segment(position),
            false => position,
        }
    }

    /// The first position of the segment after.
    pub(crate) fn next_segment(&self, position: u64) -> u64 {
        position - position % self.segment + self.segment
    }
}

/// What a batch says of its own length, if its first block is one of this store's at this place.
pub(crate) fn length(ring: &Ring, place: Place, block: &[u8]) -> Option<usize> {
    let expected = [MARK, ring.store, place.position, place.chain];
    let found = [8, 16, 24, 32].map(|at| u64_at(block, at));
    let length = u64_at(block, 40).saturating_add(HEADER as u64);
    let room = ring.segment - place.position % ring.segment;
    (found == expected && length <= room).then(|| index(length))
}

/// The checksum of a whole batch (`bytes` ends where its records end), if it is whole.
pub(crate) fn sum(bytes: &[u8]) -> Option<u64> {
    let sum = xxh3_64(&bytes[8..]);
    (sum == u64_at(bytes, 0)).then_some(sum)
}

pub(crate) struct Log {
    ring: Ring,
    next: Place,
    /// From here on segments are needed at recovery.
    tail: u64,
    /// A header to be, and the records of the next batch.
    pending: Vec<u8>,
    /// The last transaction of the batch on its way, while there is one.
    under_way: Option<u64>,
    /// The number of the last transaction, and of the last that is durable.
    last: u64,
    durable: u64,
    /// Memory of the batch before.
    spare: AlignedBuf,
    batches: u64,
}

impl Log {
    pub(crate) fn new(ring: Ring, next: Place, last: u64) -> Log {
        Log {
            ring,
            next,
            tail: next.position,
            pending: vec![0; HEADER],
            under_way: None,
            last,
            durable: last,
            spare: AlignedBuf::default(),
            batches: 0,
        }
    }

    pub(crate) fn next(&self) -> Place {
        self.next
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn batches(&self) -> u64 {
        self.batches
    }

    /// Gives out the next number, and the memory that the record is to be added to.
    pub(crate) fn begin(&mut self) -> (u64, &mut Vec<u8>) {
        self.last += 1;
        (self.last, &mut self.pending)
    }

    /// Bytes that recovery would have to read.
    pub(crate) fn in_use(&self) -> u64 {
        self.next.position - self.tail
    }

    /// Whether no further record may come: the batch is large, or the ring is nearly full.
    pub(crate) fn is_full(&self) -> bool {
        let room = self.ring.bytes() - self.in_use();
        self.pending.len() as u64 > self.ring.segment / 4 || room < 2 * self.ring.segment
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_none() && !self.has_batch()
    }

    /// Whether a batch could leave now.
    pub(crate) fn has_batch(&self) -> bool {
        self.under_way.is_none() && !self.is_sealed()
    }

    /// Whether each record is in a batch that has left.
    pub(crate) fn is_sealed(&self) -> bool {
        self.pending.len() == HEADER
    }

    /// What is to be written next, and where in the file, unless one batch is on its way.
    pub(crate) fn begin_batch(&mut self) -> Option<(u64, AlignedBuf)> {
        if !self.has_batch() {
            return None;
        }
        let (used, mut buffer) = (self.pending.len(), std::mem::take(&mut self.spare));
        let length = used.next_multiple_of(BLOCK);
        let position = self.ring.fit(self.next.position, length as u64);
        let sum = self.head(position);
        if buffer.len() != length {
            buffer = AlignedBuf::zeroed(length);
        }
        buffer[..used].copy_from_slice(&self.pending);
        buffer[used..].fill(0);
        self.pending.truncate(HEADER);
        self.under_way = Some(self.last);
        self.batches += 1;
        self.next = Place {
            position: position + length as u64,
            chain: sum,
        };
        Some((self.ring.offset(position), buffer))
    }

    fn head(&mut self, position: u64) -> u64 {
        let records = (self.pending.len() - HEADER) as u64;
        let words = [MARK, self.ring.store, position, self.next.chain, records];
        for (at, word) in (8..).step_by(8).zip(words) {
            put_u64(&mut self.pending, at, word);
        }
        let sum = xxh3_64(&self.pending[8..]);
        put_u64(&mut self.pending, 0, sum);
        sum
    }

    /// The batch on its way is durable.
    pub(crate) fn end_batch(&mut self, buffer: AlignedBuf) {
        self.spare = buffer;
        self.durable = self.under_way.take().expect("a batch was on its way");
    }

    /// Recovery needs nothing before this position any more.
    pub(crate) fn free_before(&mut self, position: u64) {
        self.tail = position;
    }
}
