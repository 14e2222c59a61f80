//! Each case in `cases` is a mistake that a user makes once. It must not compile, and the message must lead
//! to the cure.

#[path = "../../kit/sources.rs"]
mod sources;

use sources::rust_files;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The texts are those of the compiler that CI uses; another's may be laid out differently. After a change on
/// purpose: `TRYBUILD=overwrite cargo test -p kiocb-compile-fail`, and read the difference.
#[test]
fn mistakes_do_not_compile_and_the_message_leads_to_the_cure() {
    trybuild::TestCases::new().compile_fail("tests/cases/*.rs");
}

/// What carries the result of an I/O, or stands for one, and must not be dropped unnoticed; and the case
/// that drops it.
#[rustfmt::skip]
const CARRIERS: &[(&str, &str)] = &[
    ("Completion", "ignored_completion_of_a_sync"),
    ("Completion", "ignored_completion_of_a_handle"),
    ("Completion", "ignored_completion_of_a_future"),
    ("Result", "ignored_completion_turned_into_a_result"),
    ("Readiness", "ignored_readiness"),
    ("read_many", "ignored_results_of_read_many"),
    ("write_many", "ignored_results_of_write_many"),
    ("Result", "ignored_result_of_read_at"),
    ("ScopedIo", "ignored_handle_of_a_scope"),
    ("Result", "ignored_result_of_a_scope"),
    ("Pending", "ignored_pending"),
    ("Drain", "ignored_drain"),
    ("TakeBuf", "ignored_take_of_a_pool"),
    ("Shutdown", "ignored_shutdown"),
    ("PendingCommit", "ignored_commit_of_a_group"),
    ("PendingSync", "ignored_sync_of_a_group"),
    ("Submission", "ignored_submission"),
    ("Iocb", "ignored_iocb"),
    ("Stats", "ignored_stats"),
    ("StreamWriter", "ignored_stream_writer"),
    ("Result", "ignored_finish_of_a_stream"),
    ("Queue", "ignored_queue"),
    ("Result", "ignored_push"),
    ("Completion", "ignored_completion_of_a_queue"),
    ("Batch", "ignored_batch"),
    ("BatchErrors", "ignored_errors_of_a_batch"),
];

/// Items with `#[must_use = "…"]` that carry no result.
const NO_CARRIERS: &[&str] = &[
    "AioBuilder",
    "AioWith",
    "BufPoolBuilder",
    "Dump",
    "IoOptions",
    "Latencies",
    "ScopeWith",
    "StreamOptions",
    "TrackedWrite",
    "UnsubmittedWrite",
];

fn stderr_of(case: &str) -> String {
    let path = Path::new("tests/cases").join(case).with_extension("stderr");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn dropping_any_carrier_of_a_result_is_a_warning() {
    for (carrier, case) in CARRIERS {
        let text = stderr_of(case);
        let first = text.lines().next().unwrap_or_default();
        let names_it = first.starts_with("error: unused ")
            && first.contains(carrier)
            && first.ends_with("must be used");
        assert!(names_it, "{case}: {first}");
    }
}

/// The types and functions of the crate that say what is lost when they are dropped.
fn items_that_say_so() -> BTreeSet<String> {
    let files = rust_files(Path::new("../../src"));
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    texts.flat_map(|text| items_of(&text)).collect()
}

fn items_of(source: &str) -> Vec<String> {
    let after = source.split("#[must_use = ").skip(1);
    let item = after.filter_map(|rest| {
        let (_, rest) = ["pub struct ", "pub enum ", "pub fn "]
            .iter()
            .filter_map(|keyword| rest.split_once(keyword))
            .max_by_key(|(_, rest)| rest.len())?;
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
        Some(rest[..end].to_owned())
    });
    item.collect()
}

#[test]
fn every_item_that_must_be_used_has_a_case() {
    let listed = CARRIERS.iter().map(|(carrier, _)| *carrier);
    let listed: BTreeSet<_> = listed.chain(NO_CARRIERS.iter().copied()).collect();
    let items = items_that_say_so();
    let missing: Vec<_> = items
        .iter()
        .filter(|item| !listed.contains(&***item))
        .collect();
    assert!(missing.is_empty(), "without a case: {missing:?}");
    assert!(items.len() >= 10, "only {items:?}");
}
