//! One file: what of it is on the medium, and what was written since.

use super::luck::Luck;
use super::sparse::{Sparse, parts};
use crate::random::Random;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A file's bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    /// On the medium.
    durable: Sparse,
    /// What a read returns.
    now: Sparse,
    /// What leads from the one to the other, in the order in which it was completed.
    changes: Vec<Change>,
}

/// A change that was completed, and may be lost.
#[derive(Clone, Debug)]
struct Change {
    /// Of two the later one has the larger number.
    number: u64,
    what: What,
    /// The file's length afterwards, if this changed it.
    length: Option<usize>,
    /// It was durable when it was acknowledged.
    is_durable: bool,
}

#[derive(Clone, Debug)]
enum What {
    Write { offset: usize, bytes: Vec<u8> },
    Resize,
}

impl File {
    pub(super) fn len(&self) -> usize {
        self.now.len()
    }

    pub(super) fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        self.now.read(offset, len)
    }

    pub(super) fn write(&mut self, number: u64, offset: usize, bytes: Vec<u8>, is_durable: bool) {
        let end = offset + bytes.len();
        let length = (end > self.now.len()).then_some(end);
        self.change(Change {
            number,
            what: What::Write { offset, bytes },
            length,
            is_durable,
        });
    }

    pub(super) fn resize(&mut self, number: u64, length: usize) {
        if length != self.now.len() {
            self.change(Change {
                number,
                what: What::Resize,
                length: Some(length),
                is_durable: false,
            });
        }
    }

    fn change(&mut self, change: Change) {
        change.carry_out(&mut self.now, || true);
        self.changes.push(change);
    }

    /// A sync: every change up to this number gets to the medium.
    pub(super) fn sync(&mut self, up_to: u64) {
        let count = self
            .changes
            .partition_point(|change| change.number <= up_to);
        for change in self.changes.drain(..count) {
            change.carry_out(&mut self.durable, || true);
        }
    }

    /// A power cut: what was not synced gets to the medium, or a part of it, or nothing, as luck has it.
    pub(super) fn cut(&mut self, random: &mut Random) {
        let changes = std::mem::take(&mut self.changes);
        let durable = changes.iter().rposition(|change| change.is_durable);
        let certain = durable.map_or(0, |last| last + 1);
        let mut luck = Luck::new(changes.len(), random);
        // Changes of the length get to the medium in their order, as a file system's journal has it.
        let lengths = certain + random.below(changes.len() - certain + 1);
        for (place, mut change) in changes.into_iter().enumerate() {
            change.length = change.length.filter(|_| place < lengths);
            let is_durable = change.is_durable;
            change.carry_out(&mut self.durable, || {
                is_durable || luck.keeps(place, random)
            });
        }
        self.now.clone_from(&self.durable);
    }
}

impl Change {
    /// Carries it out on these bytes, but for the sectors that `keeps` refuses.
    fn carry_out(&self, medium: &mut Sparse, mut keeps: impl FnMut() -> bool) {
        if let Some(length) = self.length {
            medium.resize(length);
        }
        let What::Write { offset, bytes } = &self.what else {
            return;
        };
        let end = (offset + bytes.len()).min(medium.len());
        for sector in parts(*offset..end, SECTOR) {
            if keeps() {
                medium.write(
                    sector.start,
                    &bytes[sector.start - offset..sector.end - offset],
                );
            }
        }
    }
}
