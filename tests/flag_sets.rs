//! Sets of flags as values: operators, and what becomes of numbers without a name.

use kiocb::{PollFlags, RwFlags};

#[test]
fn flags_have_the_operators_of_sets() {
    let (a, b, c) = (RwFlags::DSYNC, RwFlags::APPEND, RwFlags::NOWAIT);
    let ab = a | b;
    assert_eq!((ab & (b | c), ab ^ (b | c), ab - b), (b, a | c, a));
    assert_eq!(!ab & ab, RwFlags::empty());
    assert_eq!(!ab | ab, RwFlags::all());
    let mut flags = a;
    flags |= b;
    assert_eq!(flags, ab);
    flags &= b | c;
    assert_eq!(flags, b);
    flags ^= a | b;
    assert_eq!(flags, a);
    flags -= a;
    assert!(flags.is_empty());
}

#[test]
fn flags_are_set_and_cleared_by_name_as_well() {
    let (a, b) = (PollFlags::IN, PollFlags::OUT);
    let mut flags = PollFlags::empty();
    flags.insert(a | b);
    flags.remove(a);
    assert_eq!(flags, b);
    flags.toggle(a | b);
    assert_eq!(flags, a);
    flags.set(b, true);
    flags.set(a, false);
    assert_eq!(flags, b);
    flags.extend([a, b]);
    assert_eq!(flags, [a, b].into_iter().collect());
    assert!(PollFlags::all().is_all() && !flags.is_all());
    assert_eq!(a.complement().union(a), PollFlags::all());
}

#[test]
fn a_number_without_a_name_is_refused_cut_off_or_kept() {
    let unknown = 1 << 30;
    let known = RwFlags::SYNC.bits();
    assert_eq!(RwFlags::from_bits(known), Some(RwFlags::SYNC));
    assert_eq!(RwFlags::from_bits(known | unknown), None);
    assert_eq!(RwFlags::from_bits_truncate(known | unknown), RwFlags::SYNC);
    let kept = RwFlags::from_bits_retain(known | unknown);
    assert_eq!(kept.bits(), known | unknown);
    // Without those that have no name: the complement is what this crate knows of.
    assert_eq!(!kept, RwFlags::all() - RwFlags::SYNC);
    assert_eq!(RwFlags::all().bits() & unknown, 0);
    assert_eq!(PollFlags::from_bits(0x8000), None);
}

#[test]
fn flags_are_printed_as_numbers_in_every_base() {
    let flags = PollFlags::IN | PollFlags::HUP;
    assert_eq!(
        format!("{flags:b} {flags:o} {flags:x} {flags:#X}"),
        "10001 21 11 0x11"
    );
}
