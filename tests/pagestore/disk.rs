//! A file on a disk whose power can be cut: what was written and not synced is then there in part, by sectors.

use crate::common::Random;

const SECTOR: usize = 512;

#[derive(Default)]
pub(crate) struct Disk {
    stable: Vec<u8>,
    /// Written and not synced, in order.
    written: Vec<(usize, Vec<u8>)>,
}

impl Disk {
    pub(crate) fn with(bytes: Vec<u8>) -> Disk {
        Disk {
            stable: bytes,
            written: Vec::new(),
        }
    }

    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.written.push((offset, bytes.to_vec()));
    }

    pub(crate) fn sync(&mut self) {
        for (offset, bytes) in std::mem::take(&mut self.written) {
            self.put(offset, &bytes);
        }
    }

    /// As a program sees it.
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.stable[offset..offset + bytes.len()]);
        let end = offset + bytes.len();
        for (at, written) in &self.written {
            let (from, to) = (offset.max(*at), end.min(at + written.len()));
            if from < to {
                bytes[from - offset..to - offset].copy_from_slice(&written[from - at..to - at]);
            }
        }
    }

    /// Returns what is left. The disk may have lost all, nothing, writes, or sectors.
    pub(crate) fn cut(mut self, random: &mut Random) -> Vec<u8> {
        let (lose_writes, lose_sectors) = (random.roll(4), random.roll(4));
        let mut left = std::mem::take(&mut self.written);
        while !left.is_empty() {
            let (offset, bytes) = left.swap_remove(random.below(left.len()));
            if random.roll(4) < lose_writes {
                continue;
            }
            for (sector, bytes) in bytes.chunks(SECTOR).enumerate() {
                if random.roll(8) >= lose_sectors {
                    self.put(offset + sector * SECTOR, bytes);
                }
            }
        }
        self.stable
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.stable.len() < end {
            self.stable.resize(end, 0);
        }
        self.stable[offset..end].copy_from_slice(bytes);
    }
}
