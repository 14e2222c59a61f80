//! How much may be written: a file system is never filled, and neither is memory.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;

/// What stays free on a file system beside its 5 %: so much, or an eighth of a small one.
const MOST_LEAST: u64 = 512 << 20;

/// A file system's space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// What this user can still take.
    pub(crate) free: u64,
    /// What is to be left of it.
    pub(crate) margin: u64,
}

impl Room {
    /// Of the file system that `path`, which exists, is on.
    pub(crate) fn at(path: &Path) -> io::Result<Room> {
        let space = statvfs(path)?;
        let (unit, total) = (space.fragment_size(), space.blocks());
        let (mut free, mut total) = (space.blocks_available() * unit, total * unit);
        if total == 0 {
            // A file system that knows no bound: ramfs, and tmpfs with size=0.
            (free, total) = (available_memory(), available_memory());
        } else if statfs(path)?.filesystem_type() == TMPFS_MAGIC {
            // Its bound can be more than there is.
            free = free.min(available_memory());
        }
        Ok(Room {
            free,
            margin: margin(total),
        })
    }

    /// What may be taken.
    pub(crate) fn spare(&self) -> u64 {
        self.free.saturating_sub(self.margin)
    }

    /// Whether others have taken what is to be left: half of it, as a file needs more than its bytes.
    pub(crate) fn is_low(&self) -> bool {
        self.free < self.margin / 2
    }
}

fn margin(total: u64) -> u64 {
    (total / 20).max(MOST_LEAST.min(total / 8))
}

/// The longest file that the process may write (`ulimit -f`).
pub(crate) fn longest_file() -> u64 {
    getrlimit(Resource::RLIMIT_FSIZE).map_or(u64::MAX, |(soft, _)| soft)
}

/// What the kernel thinks can be had without swapping.
pub(crate) fn available_memory() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
    kib.map_or(u64::MAX, |kib: u64| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_of_every_file_system_is_left() {
        const MIB: u64 = 1 << 20;
        for (total, left) in [
            (64 * MIB, 8 * MIB),
            (4096 * MIB, 512 * MIB),
            (8192 * MIB, 512 * MIB),
            (20 * 1024 * MIB, 1024 * MIB),
        ] {
            assert_eq!(margin(total), left);
        }
    }

    #[test]
    fn what_is_free_is_spared_up_to_the_margin() {
        let room = |free| Room { free, margin: 100 };
        assert_eq!([room(350).spare(), room(80).spare()], [250, 0]);
        assert_eq!([room(50).is_low(), room(49).is_low()], [false, true]);
    }
}
