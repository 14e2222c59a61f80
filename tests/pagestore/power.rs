//! Power cuts, by the hundred.

use crate::common::watchdog;
use crate::files::Fault;
use crate::world::World;

/// The first cut after which a promise is broken, and which.
fn first_broken(seed: u64, fault: Option<Fault>, cuts: u32) -> Option<(u32, String)> {
    let mut world = World::new(seed, fault);
    (0..cuts).find_map(|cut| Some((cut, world.round().err()?.to_string())))
}

#[test]
fn what_was_acknowledged_survives_each_power_cut_as_a_whole() {
    let _watchdog = watchdog();
    for seed in 1..=2 {
        assert_eq!(first_broken(seed, None, 10), None, "seed {seed}");
    }
}

fn assert_is_found(fault: Fault) {
    let _watchdog = watchdog();
    let found = first_broken(1, Some(fault), 100);
    eprintln!("{fault:?}: {found:?}");
    assert!(found.is_some(), "{fault:?} was not found in 100 cuts");
}

#[test]
fn a_log_that_is_not_synced_is_found() {
    assert_is_found(Fault::LogSync);
}

#[test]
fn a_checkpoint_that_is_not_synced_is_found() {
    assert_is_found(Fault::CheckpointSync);
}

#[test]
fn a_page_that_is_written_before_its_log_is_found() {
    assert_is_found(Fault::PageBeforeLog);
}

#[test]
fn a_log_without_images_of_torn_pages_is_found() {
    assert_is_found(Fault::Images);
}
