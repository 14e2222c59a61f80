//! What a power cut leaves of the changes that were not synced.

use crate::random::Random;

/// A rule for one file and one cut. Coins alone would seldom leave the states in which most is there and one thing
/// is missing.
#[derive(Debug)]
pub(super) enum Luck {
    Nothing,
    Everything,
    /// The first so many changes, and of the next one some sectors.
    First(usize),
    /// Each change by itself: whether it is there.
    Changes(Vec<bool>),
    /// Each sector by itself, with so many chances of 8.
    Sectors(u64),
}

impl Luck {
    pub(super) fn new(changes: usize, random: &mut Random) -> Luck {
        match random.roll(8) {
            0 => Luck::Nothing,
            1 => Luck::Everything,
            2 | 3 => Luck::First(random.below(changes + 1)),
            4 | 5 => {
                let chances = 1 + random.roll(7);
                Luck::Changes((0..changes).map(|_| random.roll(8) < chances).collect())
            }
            _ => Luck::Sectors(1 + random.roll(7)),
        }
    }

    /// Whether a sector of this change gets to the medium.
    pub(super) fn keeps(&mut self, change: usize, random: &mut Random) -> bool {
        match self {
            Luck::Nothing => false,
            Luck::Everything => true,
            Luck::First(count) if change == *count => random.roll(2) == 0,
            Luck::First(count) => change < *count,
            Luck::Changes(kept) => kept[change],
            Luck::Sectors(chances) => random.roll(8) < *chances,
        }
    }
}
