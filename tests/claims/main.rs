//! The documentation's claims, each with the test that shows it. A sentence that says "never", "always", "at
//! most", "exactly", an errno or a kernel's version has a row in the table, and so has whatever else is worth
//! one; a row whose words have gone, or whose test has, fails.

#[path = "../kit/sources.rs"]
mod sources;
mod table;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sources::rust_files;
use table::{CLAIMS, Shown};
use text::{Sentence, claims_something, sentences};

/// Every row: its file, its words, and what shows it.
fn rows() -> impl Iterator<Item = (&'static str, &'static str, Shown)> {
    let of_file = |&(file, rows): &'static (_, &'static [(_, _)])| {
        rows.iter()
            .map(move |&(phrase, shown)| (file, phrase, shown))
    };
    CLAIMS.iter().flat_map(of_file)
}

fn is_about(file: &str, phrase: &str, sentence: &Sentence) -> bool {
    file == sentence.file && sentence.text.contains(phrase)
}

#[test]
fn each_sentence_that_claims_something_has_a_row() {
    let mut missing = Vec::new();
    for sentence in sentences()
        .iter()
        .filter(|sentence| claims_something(&sentence.text))
    {
        if !rows().any(|(file, phrase, _)| is_about(file, phrase, sentence)) {
            missing.push(format!("{}: {}", sentence.file, sentence.text));
        }
    }
    assert!(
        missing.is_empty(),
        "{} sentences claim something and have no row in tests/claims/table.rs. Add one with a few of the \
         sentence's words and the test that shows it, or say it in other words:\n{}",
        missing.len(),
        missing.join("\n")
    );
}

#[test]
fn each_row_is_about_a_sentence_that_is_there() {
    let sentences = sentences();
    let mut stale = Vec::new();
    for (file, phrase, _) in rows() {
        if !sentences
            .iter()
            .any(|sentence| is_about(file, phrase, sentence))
        {
            stale.push(format!("{file}: {phrase:?}"));
        }
    }
    assert!(
        stale.is_empty(),
        "no sentence has these words any more; correct or remove the rows in tests/claims/table.rs:\n{}",
        stale.join("\n")
    );
}

#[test]
fn each_test_named_in_a_row_exists() {
    let programs = programs();
    let mut missing: Vec<&str> = Vec::new();
    for (_, phrase, shown) in rows() {
        match shown {
            Shown::By(tests) => {
                assert!(!tests.is_empty(), "{phrase:?}: name a test, or say why not");
                missing.extend(tests.iter().filter(|test| !exists(&programs, test)));
            }
            Shown::Not(reason) => assert!(!reason.is_empty(), "{phrase:?}: say why not"),
        }
    }
    assert!(missing.is_empty(), "there are no such tests: {missing:#?}");
}

/// Test programs by their names, each with all of its text.
fn programs() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut programs: BTreeMap<String, String> = BTreeMap::new();
    let places = [
        ("", "tests"),
        ("faults/", "tests/faults/tests"),
        ("lib/", "src"),
    ];
    for (prefix, place) in places {
        let folder = root.join(place);
        for path in rust_files(&folder) {
            let below = path.strip_prefix(&folder).unwrap();
            let first = below.iter().next().unwrap();
            let program = Path::new(first).with_extension("");
            let text = programs
                .entry(format!("{prefix}{}", program.display()))
                .or_default();
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    programs
}

/// `program::test`.
fn exists(programs: &BTreeMap<String, String>, test: &str) -> bool {
    let Some((program, name)) = test.split_once("::") else {
        return false;
    };
    let text = programs.get(program);
    text.is_some_and(|text| text.contains(&format!("fn {name}(")))
}

/// Rows of `kernel-behaviours.md`: what the kernel does, and the cell with the tests.
fn behaviours() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel-behaviours.md");
    let text = fs::read_to_string(path).unwrap();
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = rows.filter_map(|row| row.split_once(" | "));
    let is_row = |(what, tests): &(&str, &str)| *tests != "test" && !what.starts_with("---");
    let cells = cells.filter(is_row);
    cells
        .map(|(what, tests)| (what.to_owned(), tests.to_owned()))
        .collect()
}

#[test]
fn each_behaviour_of_the_kernel_has_a_test_or_a_reason() {
    let (programs, behaviours) = (programs(), behaviours());
    assert!(behaviours.len() > 100, "{} rows", behaviours.len());
    let mut missing = Vec::new();
    for (what, tests) in &behaviours {
        let named = tests.split('`').skip(1).step_by(2).collect::<Vec<_>>();
        let is_excused = tests
            .strip_prefix("none: ")
            .is_some_and(|reason| !reason.is_empty());
        assert!(
            is_excused || !named.is_empty(),
            "{what}: name a test, or say why not"
        );
        let named = named.into_iter().filter(|name| name.contains("::"));
        missing.extend(named.filter(|test| !exists(&programs, test)));
    }
    assert!(missing.is_empty(), "there are no such tests: {missing:#?}");
}
