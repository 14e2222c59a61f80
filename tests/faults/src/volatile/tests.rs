//! The disk by itself, without FUSE: what may be lost, and what not.

use std::collections::BTreeSet;

use super::disk::Disk;
use crate::random::Random;

const SECTOR: usize = 512;
const PAGE: usize = 4 * SECTOR;

/// A disk with one file, whose name is durable.
fn disk() -> (Disk, u64) {
    let mut disk = Disk::new(2);
    let file = disk.create("file");
    disk.sync_names();
    (disk, file)
}

fn write(disk: &mut Disk, file: u64, page: usize, byte: u8) {
    disk.write(file, page * PAGE, vec![byte; PAGE], false);
}

fn sync(disk: &mut Disk, file: u64) {
    disk.sync(file, disk.completed());
}

fn contents(disk: &Disk, file: u64) -> Vec<u8> {
    disk.file(file).unwrap().read(0, usize::MAX)
}

/// What a file can be after a cut, by 300 seeds.
fn outcomes(disk: &Disk, file: u64) -> BTreeSet<Vec<u8>> {
    let after = |seed| {
        let mut disk = disk.clone();
        disk.cut(&mut Random(seed));
        contents(&disk, file)
    };
    (0..300).map(after).collect()
}

/// The first byte of each sector.
fn sectors(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(SECTOR).map(|sector| sector[0]).collect()
}

#[test]
fn what_was_synced_survives_each_cut() {
    let (mut disk, file) = disk();
    for page in 0..4 {
        write(&mut disk, file, page, 1 + page as u8);
    }
    sync(&mut disk, file);
    let whole = contents(&disk, file);
    assert_eq!(outcomes(&disk, file), BTreeSet::from([whole]));
}

#[test]
fn what_was_not_synced_is_old_or_new_by_each_sector() {
    let (mut disk, file) = disk();
    write(&mut disk, file, 0, 1);
    sync(&mut disk, file);
    write(&mut disk, file, 0, 2);
    let outcomes = outcomes(&disk, file);
    let all: BTreeSet<_> = outcomes.iter().map(|bytes| sectors(bytes)).collect();
    assert_eq!(all.len(), 16, "each of four sectors by itself");
    let is_sector = |sector: &[u8]| sector.iter().all(|&byte| byte == sector[0]);
    assert!(
        outcomes
            .iter()
            .flat_map(|bytes| bytes.chunks(SECTOR))
            .all(is_sector)
    );
}

#[test]
fn a_later_write_may_be_there_without_an_earlier_one() {
    let (mut disk, file) = disk();
    disk.resize(file, 2 * PAGE);
    sync(&mut disk, file);
    write(&mut disk, file, 0, 1);
    write(&mut disk, file, 1, 2);
    let whole: BTreeSet<_> = outcomes(&disk, file)
        .iter()
        .map(|bytes| sectors(bytes))
        .filter(|sectors| sectors[..4].windows(2).all(|pair| pair[0] == pair[1]))
        .map(|sectors| (sectors[0], sectors[4..] == [2; 4]))
        .collect();
    assert!(
        whole.contains(&(0, true)) && whole.contains(&(1, false)),
        "{whole:?}"
    );
}

#[test]
fn a_durable_write_is_whole_also_over_one_that_was_not_synced() {
    let (mut disk, file) = disk();
    write(&mut disk, file, 0, 1);
    disk.write(file, 0, vec![2; PAGE], true);
    assert_eq!(outcomes(&disk, file), BTreeSet::from([vec![2; PAGE]]));
    write(&mut disk, file, 0, 3); // and this one may be there, or not
    let bytes: BTreeSet<_> = outcomes(&disk, file).into_iter().flatten().collect();
    assert_eq!(bytes, BTreeSet::from([2, 3]));
}

#[test]
fn a_durable_write_has_the_length_that_it_needs() {
    let (mut disk, file) = disk();
    disk.resize(file, 8 * PAGE);
    disk.write(file, PAGE, vec![1; PAGE], true);
    let whole = contents(&disk, file);
    assert_eq!(outcomes(&disk, file), BTreeSet::from([whole]));
}

#[test]
fn a_sync_covers_nothing_that_was_complete_after_it_was_asked_for() {
    let (mut disk, file) = disk();
    write(&mut disk, file, 0, 1);
    let asked = disk.completed();
    write(&mut disk, file, 1, 2);
    disk.sync(file, asked);
    let outcomes = outcomes(&disk, file);
    assert!(outcomes.iter().all(|bytes| bytes[..PAGE] == [1; PAGE]));
    assert!(
        outcomes.contains(&vec![1; PAGE]),
        "the second write is lost"
    );
}

#[test]
fn a_sync_of_one_file_is_none_of_another() {
    let (mut disk, file) = disk();
    let other = disk.create("other");
    disk.sync_names();
    write(&mut disk, file, 0, 1);
    sync(&mut disk, other);
    assert!(outcomes(&disk, file).contains(&Vec::new()));
}

#[test]
fn lengths_are_those_of_some_moment_since_the_sync() {
    let (mut disk, file) = disk();
    write(&mut disk, file, 0, 1);
    sync(&mut disk, file);
    disk.resize(file, 3 * PAGE);
    disk.resize(file, SECTOR);
    disk.resize(file, 2 * PAGE);
    let outcomes = outcomes(&disk, file);
    let lengths: BTreeSet<_> = outcomes.iter().map(|bytes| bytes.len()).collect();
    assert_eq!(lengths, BTreeSet::from([SECTOR, PAGE, 2 * PAGE, 3 * PAGE]));
    // What was cut off does not come back.
    let longest = outcomes.iter().filter(|bytes| bytes.len() == 2 * PAGE);
    assert!(
        longest
            .into_iter()
            .all(|bytes| bytes[SECTOR..] == [0; 2 * PAGE - SECTOR])
    );
}

#[test]
fn names_are_those_of_some_moment_since_the_sync() {
    let (mut disk, file) = disk();
    let new = disk.create("new");
    assert!(disk.rename("new", "file"));
    let outcomes: BTreeSet<Vec<_>> = (0..300)
        .map(|seed| {
            let mut disk = disk.clone();
            disk.cut(&mut Random(seed));
            disk.names().clone().into_iter().collect()
        })
        .collect();
    let name = |name: &str, number| (name.to_owned(), number);
    let expected = [
        vec![name("file", file)],
        vec![name("file", file), name("new", new)],
        vec![name("file", new)],
    ];
    assert_eq!(outcomes, BTreeSet::from(expected));
}

#[test]
fn a_cut_is_the_same_by_the_same_seed() {
    let (mut disk, file) = disk();
    (0..20).for_each(|page| write(&mut disk, file, page, 1));
    let after = |seed| {
        let mut disk = disk.clone();
        disk.cut(&mut Random(seed));
        contents(&disk, file)
    };
    assert!((0..50).all(|seed| after(seed) == after(seed)));
}

/// Against a second, simpler disk: each page has the versions that it may have.
#[test]
fn random_programs_lose_nothing_that_was_synced() {
    for seed in 0..200 {
        let (mut disk, file) = disk();
        disk.resize(file, 8 * PAGE);
        sync(&mut disk, file);
        let mut random = Random(seed);
        let mut may_be = vec![BTreeSet::from([0]); 8]; // by page, its sectors' bytes
        for step in 1..=200 {
            let page = random.below(8);
            match random.roll(8) {
                0 => {
                    sync(&mut disk, file);
                    let now = contents(&disk, file);
                    for (page, versions) in may_be.iter_mut().enumerate() {
                        *versions = BTreeSet::from([now[page * PAGE]]);
                    }
                }
                1 => {
                    disk.write(file, page * PAGE, vec![step; PAGE], true);
                    may_be[page] = BTreeSet::from([step]);
                }
                2 => {
                    disk.cut(&mut random);
                    let now = contents(&disk, file);
                    for (page, versions) in may_be.iter_mut().enumerate() {
                        let found = BTreeSet::from_iter(sectors(&now[page * PAGE..][..PAGE]));
                        assert!(found.is_subset(versions), "seed {seed}, step {step}");
                        write(&mut disk, file, page, step); // whole again
                        versions.extend(found);
                        versions.insert(step);
                    }
                }
                _ => {
                    write(&mut disk, file, page, step);
                    may_be[page].insert(step);
                }
            }
        }
    }
}
