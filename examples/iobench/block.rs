//! The 4 KiB block that says where it belongs.
//!
//! ```text
//!    0  magic          8  checksum of bytes 16..4096      16  the file's mark (see below)      24  payload
//!  504  position of this 512-byte sector in the file; the same at the end of each following sector
//! ```
//!
//! A block read from the wrong place carries the wrong position; a block put together from sectors of two
//! others, or damaged, has the wrong checksum. Two writes of one block are equal byte for byte, so it does
//! not matter in which order the device takes them.
//!
//! The mark in block 0 says whether iobench made this file or was only told to overwrite it, and how much of
//! it is filled with such blocks (0: it was not finished, or what was written since can't be checked).

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::rng::Rng;

/// The unit of checking; a request may span several.
pub(crate) const BLOCK: usize = 4096;

const SECTOR: usize = 512;
const MAGIC: u64 = u64::from_le_bytes(*b"iobench1");
const MAGIC_AT: usize = 0;
const CHECKSUM_AT: usize = 8;
const MARK_AT: usize = 16;
const POSITION_AT: usize = SECTOR - 8;
/// In the word of a mark: the file is somebody else's.
const OTHERS: u64 = 1 << 63;
/// The same for every block of every run, so that equal offsets mean equal blocks.
const PAYLOAD_SEED: u64 = 0x6b69_6f63_6221;

/// What block 0 says of its file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mark {
    /// How many bytes hold blocks.
    pub(crate) filled: u64,
    /// Whether iobench made the file: it may then be overwritten, grown and cut without a question.
    pub(crate) ours: bool,
}

impl Mark {
    fn word(self) -> u64 {
        self.filled | if self.ours { 0 } else { OTHERS }
    }

    fn of_word(word: u64) -> Mark {
        Mark {
            filled: word & !OTHERS,
            ours: word & OTHERS == 0,
        }
    }

    /// `None` where the first block is no block of that place.
    pub(crate) fn of(first: &[u8]) -> Option<Mark> {
        let whole = first.get(..BLOCK)?;
        check_one(whole, 0).ok()?;
        Some(Mark::of_word(get(whole, MARK_AT)))
    }
}

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

/// Makes `blocks` the blocks that belong at `offset` of a file with this mark.
pub(crate) fn stamp(blocks: &mut [u8], offset: u64, mark: Mark) {
    for (block, offset) in blocks.chunks_exact_mut(BLOCK).zip(offsets(offset, BLOCK)) {
        for (sector, position) in block.chunks_exact_mut(SECTOR).zip(offsets(offset, SECTOR)) {
            put(sector, POSITION_AT, position);
        }
        put(block, MAGIC_AT, MAGIC);
        put(block, MARK_AT, mark.word());
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

/// The same by their first sectors alone, which costs a few nanoseconds.
pub(crate) fn check_place(blocks: &[u8], offset: u64) -> Result<(), (u64, Wrong)> {
    for (block, offset) in blocks.chunks_exact(BLOCK).zip(offsets(offset, BLOCK)) {
        check_first_sector(block, offset).map_err(|wrong| (offset, wrong))?;
    }
    Ok(())
}

fn check_one(block: &[u8], offset: u64) -> Result<(), Wrong> {
    check_first_sector(block, offset)?;
    match get(block, CHECKSUM_AT) == checksum(block) {
        true => Ok(()),
        false => Err(Wrong::Checksum),
    }
}

fn check_first_sector(block: &[u8], offset: u64) -> Result<(), Wrong> {
    let position = get(block, POSITION_AT);
    if get(block, MAGIC_AT) != MAGIC {
        Err(Wrong::Magic)
    } else if position != offset {
        Err(Wrong::Position(position))
    } else {
        Ok(())
    }
}

fn offsets(start: u64, step: usize) -> impl Iterator<Item = u64> {
    (start..).step_by(step)
}

fn checksum(block: &[u8]) -> u64 {
    xxh3_64(&block[MARK_AT..])
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

    const OURS: Mark = Mark {
        filled: 1 << 20,
        ours: true,
    };

    /// Two blocks, as they belong at `offset`.
    fn blocks_at(offset: u64) -> Vec<u8> {
        let mut blocks = vec![0; 2 * BLOCK];
        fill_payload(&mut blocks);
        stamp(&mut blocks, offset, OURS);
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
        assert_eq!(check_place(&[0; BLOCK], 0), Err((0, Wrong::Magic)));
    }

    #[test]
    fn the_place_of_each_block_is_checked_without_its_checksum() {
        let mut blocks = blocks_at(8192);
        assert_eq!(check_place(&blocks, 8192), Ok(()));
        assert_eq!(check_place(&blocks, 0), Err((0, Wrong::Position(8192))));
        blocks[BLOCK + 100] ^= 1;
        assert_eq!(check_place(&blocks, 8192), Ok(()));
    }

    #[test]
    fn only_a_true_first_block_marks_a_file() {
        assert_eq!(Mark::of(&blocks_at(0)), Some(OURS));
        assert_eq!(Mark::of(&blocks_at(4096)), None, "its beginning is not");
        assert_eq!(Mark::of(&[0; BLOCK]), None);
        assert_eq!(Mark::of(&blocks_at(0)[..BLOCK - 1]), None);
        let mut damaged = blocks_at(0);
        damaged[100] ^= 1;
        assert_eq!(Mark::of(&damaged), None);
    }

    #[test]
    fn a_file_that_was_only_overwritten_is_not_marked_as_ours() {
        let others = Mark {
            ours: false,
            ..OURS
        };
        let mut blocks = blocks_at(0);
        stamp(&mut blocks, 0, others);
        assert_eq!(check(&blocks, 0), Ok(()));
        assert_eq!(Mark::of(&blocks), Some(others));
    }
}
