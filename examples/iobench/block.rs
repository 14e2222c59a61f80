//! The 4 KiB block that says where it belongs.
//!
//! ```text
//!    0  magic          8  checksum of bytes 16..4096      16  length of the finished file (see below)      24  payload
//!  504  position of this 512-byte sector in the file; the same at the end of each following sector
//! ```
//!
//! A block read from the wrong place carries the wrong position; a block put together from sectors of two
//! others, or damaged, has the wrong checksum. Two writes of one block are equal byte for byte, so it does
//! not matter in which order the device takes them.
//!
//! The length word makes block 0 the file's mark of ownership: a block with the magic and a true checksum at
//! offset 0 says "iobench made this file", and the length says how much of it was filled before the mark was
//! set (0: not finished).

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::rng::Rng;

/// The unit of checking; a request may span several.
pub(crate) const BLOCK: usize = 4096;

const SECTOR: usize = 512;
const MAGIC: u64 = u64::from_le_bytes(*b"iobench1");
const MAGIC_AT: usize = 0;
const CHECKSUM_AT: usize = 8;
const LENGTH_AT: usize = 16;
const POSITION_AT: usize = SECTOR - 8;
/// The same for every block of every run, so that equal offsets mean equal blocks.
const PAYLOAD_SEED: u64 = 0x6b69_6f63_6221;

/// Why a block is not the one that was asked for.
#[derive(Debug, PartialEq)]
pub(crate) enum Wrong {
    Magic,
    Position(u64),
    Checksum,
}

impl fmt::Display for Wrong {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Magic => out.write_str("is not one of iobench's blocks"),
            Wrong::Position(found) => write!(out, "is the block of offset {found}"),
            Wrong::Checksum => out.write_str("is damaged (wrong checksum)"),
        }
    }
}

/// Fills whole blocks with the payload (incompressible); to be done once per buffer, before [`stamp`]. It
/// also touches every page.
pub(crate) fn fill_payload(blocks: &mut [u8]) {
    for block in blocks.chunks_mut(BLOCK) {
        let mut rng = Rng::new(PAYLOAD_SEED);
        for word in block.chunks_mut(8) {
            word.copy_from_slice(&rng.next().to_le_bytes()[..word.len()]);
        }
    }
}

/// Makes `blocks` the blocks that belong at `offset` of a file filled up to `length`.
pub(crate) fn stamp(blocks: &mut [u8], offset: u64, length: u64) {
    for (block, offset) in blocks.chunks_exact_mut(BLOCK).zip(offsets(offset, BLOCK)) {
        for (sector, position) in block.chunks_exact_mut(SECTOR).zip(offsets(offset, SECTOR)) {
            put(sector, POSITION_AT, position);
        }
        put(block, MAGIC_AT, MAGIC);
        put(block, LENGTH_AT, length);
        put(block, CHECKSUM_AT, checksum(block));
    }
}

/// Whether `blocks` are what belongs at `offset`; else the offset of the first that is not, and what is wrong
/// with it.
pub(crate) fn check(blocks: &[u8], offset: u64) -> Result<(), (u64, Wrong)> {
    for (block, offset) in blocks.chunks_exact(BLOCK).zip(offsets(offset, BLOCK)) {
        check_one(block, offset).map_err(|wrong| (offset, wrong))?;
    }
    Ok(())
}

fn check_one(block: &[u8], offset: u64) -> Result<(), Wrong> {
    let position = get(block, POSITION_AT);
    if get(block, MAGIC_AT) != MAGIC {
        Err(Wrong::Magic)
    } else if position != offset {
        Err(Wrong::Position(position))
    } else if get(block, CHECKSUM_AT) != checksum(block) {
        Err(Wrong::Checksum)
    } else {
        Ok(())
    }
}

/// What block 0 says of its file: `None` when iobench did not write it, else how many bytes are filled.
pub(crate) fn ownership(first: &[u8]) -> Option<u64> {
    let genuine = first.len() >= BLOCK
        && get(first, MAGIC_AT) == MAGIC
        && get(first, CHECKSUM_AT) == checksum(&first[..BLOCK]);
    genuine.then(|| {
        if get(first, POSITION_AT) == 0 {
            get(first, LENGTH_AT)
        } else {
            0
        }
    })
}

fn offsets(start: u64, step: usize) -> impl Iterator<Item = u64> {
    (start..).step_by(step)
}

fn checksum(block: &[u8]) -> u64 {
    xxh3_64(&block[LENGTH_AT..])
}

fn get(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn put(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two blocks, as they belong at `offset`.
    fn blocks_at(offset: u64) -> Vec<u8> {
        let mut blocks = vec![0; 2 * BLOCK];
        fill_payload(&mut blocks);
        stamp(&mut blocks, offset, 1 << 20);
        blocks
    }

    #[test]
    fn blocks_are_right_where_they_were_stamped() {
        assert_eq!(check(&blocks_at(8192), 8192), Ok(()));
    }

    #[test]
    fn blocks_read_from_elsewhere_tell_where_they_belong() {
        assert_eq!(check(&blocks_at(8192), 0), Err((0, Wrong::Position(8192))));
    }

    #[test]
    fn each_changed_byte_is_noticed() {
        let blocks = blocks_at(0);
        for at in 0..blocks.len() {
            let mut changed = blocks.clone();
            changed[at] ^= 1;
            let (offset, _) = check(&changed, 0).expect_err("a changed byte");
            assert_eq!(offset, (at - at % BLOCK) as u64, "byte {at}");
        }
    }

    #[test]
    fn a_sector_of_another_block_is_noticed() {
        let (mut torn, other) = (blocks_at(0), blocks_at(8192));
        torn[BLOCK + SECTOR..][..SECTOR].copy_from_slice(&other[BLOCK + SECTOR..][..SECTOR]);
        assert_eq!(check(&torn, 0), Err((4096, Wrong::Checksum)));
    }

    #[test]
    fn memory_never_read_into_is_noticed() {
        assert_eq!(check(&[0; BLOCK], 0), Err((0, Wrong::Magic)));
    }

    #[test]
    fn only_a_true_first_block_marks_a_file_as_ours() {
        assert_eq!(ownership(&blocks_at(0)), Some(1 << 20));
        assert_eq!(
            ownership(&blocks_at(4096)),
            Some(0),
            "ours, but its beginning was overwritten"
        );
        assert_eq!(ownership(&[0; BLOCK]), None);
        let mut damaged = blocks_at(0);
        damaged[100] ^= 1;
        assert_eq!(ownership(&damaged), None);
    }
}
