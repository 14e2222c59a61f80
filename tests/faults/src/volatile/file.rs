//! One file: what of it is on the medium, and what was written since.

use std::ops::Range;

use super::luck::Luck;
use crate::random::Random;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A file's bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    /// On the medium.
    durable: Vec<u8>,
    /// What a read returns.
    now: Vec<u8>,
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

    pub(super) fn read(&self, offset: usize, len: usize) -> &[u8] {
        let start = offset.min(self.now.len());
        &self.now[start..self.now.len().min(start + len)]
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
        change.carry_out(&mut self.now, |_| true);
        self.changes.push(change);
    }

    /// A sync: every change up to this number gets to the medium.
    pub(super) fn sync(&mut self, up_to: u64) {
        let count = self
            .changes
            .partition_point(|change| change.number <= up_to);
        for change in self.changes.drain(..count) {
            change.carry_out(&mut self.durable, |_| true);
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
            change.carry_out(&mut self.durable, |_| {
                is_durable || luck.keeps(place, random)
            });
        }
        self.now.clone_from(&self.durable);
    }
}

impl Change {
    /// Carries it out on these bytes, but for the sectors that `keeps` refuses.
    fn carry_out(&self, medium: &mut Vec<u8>, mut keeps: impl FnMut(usize) -> bool) {
        if let Some(length) = self.length {
            medium.resize(length, 0);
        }
        let What::Write { offset, bytes } = &self.what else {
            return;
        };
        for sector in sectors(*offset..(offset + bytes.len()).min(medium.len())) {
            if keeps(sector.start / SECTOR) {
                let of_bytes = sector.start - offset..sector.end - offset;
                medium[sector].copy_from_slice(&bytes[of_bytes]);
            }
        }
    }
}

/// The parts of a range that lie in one sector each.
fn sectors(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let end = (start / SECTOR * SECTOR + SECTOR).min(range.end);
        let part = start..end;
        start = end;
        (!part.is_empty()).then_some(part)
    })
}
