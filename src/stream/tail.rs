//! The end of what was written so far: bytes that do not fill a block yet.

use super::block::Block;
use super::options::Plan;

/// Bytes on their way to a block. Direct I/O writes whole blocks of the file, so the last one is filled up
/// with zeroes; what it has of the stream is kept here, and written again with what follows.
pub(super) struct Tail {
    /// Where the bytes are; without it they are in `carry`.
    block: Option<Block>,
    /// Where they begin in the file: where one of its blocks does.
    start: u64,
    len: usize,
    /// So many of them are submitted already.
    clean: usize,
    /// The beginning of a block of the file.
    carry: Box<[u8]>,
}

impl Tail {
    /// A stream that begins at `plan.start`, with the bytes that the file's block has before that.
    pub(super) fn new(plan: &Plan, head: Box<[u8]>) -> Tail {
        let start = plan.round_down(plan.start);
        let len = place(plan.start - start);
        debug_assert!(head.len() as u64 == plan.align && len < head.len().max(1));
        Tail {
            block: None,
            start,
            len,
            clean: len,
            carry: head,
        }
    }

    /// Where in the file the first byte goes.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Where in the file the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.start + self.len as u64
    }

    /// Whether there are bytes that were not submitted.
    pub(super) fn is_dirty(&self) -> bool {
        self.len > self.clean
    }

    pub(super) fn has_block(&self) -> bool {
        self.block.is_some()
    }

    pub(super) fn is_full(&self, plan: &Plan) -> bool {
        self.has_block() && self.len == plan.block
    }

    pub(super) fn put_into(&mut self, mut block: Block) {
        debug_assert!(!self.has_block());
        block.bytes_mut()[..self.len].copy_from_slice(&self.carry[..self.len]);
        self.block = Some(block);
    }

    /// Takes as many bytes as there is room for.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let Some(block) = &mut self.block else {
            return 0;
        };
        let room = &mut block.bytes_mut()[self.len..];
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.len += count;
        count
    }

    /// The block to be written, where and how long, up to the end of a block of the file.
    pub(super) fn take(&mut self, plan: &Plan) -> Option<(Block, u64, usize)> {
        let mut block = self.block.take()?;
        let (start, whole) = (self.start, plan.round_up(self.len as u64));
        let rest = place(self.len as u64 % plan.align);
        let bytes = block.bytes_mut();
        bytes[self.len..whole].fill(0);
        self.carry[..rest].copy_from_slice(&bytes[self.len - rest..self.len]);
        block.offer(whole);
        self.start += (self.len - rest) as u64;
        (self.len, self.clean) = (rest, rest);
        Some((block, start, whole))
    }

    /// Goes on at `position`, which is not before this one. What lies between is zeroes. Nothing is dirty.
    pub(super) fn skip_to(&mut self, position: u64, plan: &Plan) {
        debug_assert!(!self.is_dirty() && !self.has_block());
        let start = plan.round_down(position);
        if start != self.start {
            (self.start, self.len) = (start, 0);
        }
        let len = place(position - start);
        self.carry[self.len..len].fill(0);
        (self.len, self.clean) = (len, len);
    }
}

/// A place inside a block of the file.
fn place(bytes: u64) -> usize {
    usize::try_from(bytes).expect("less than a block, which is in memory")
}
