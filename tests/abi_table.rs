//! The table in the documentation of `kiocb::sys` has all of the ABI, and says nothing that is not so.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A row: a part of the ABI, and the test that shows it.
struct Row {
    part: String,
    reached_by: String,
    test: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rows() -> Vec<Row> {
    let docs = read("src/sys/mod.rs");
    let lines = docs.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let rows = lines.map(|line| {
        let cells: Vec<&str> = line.split(" | ").collect();
        let [part, reached_by, _since, test] = cells[..] else {
            panic!("not four cells: {line}");
        };
        Row {
            part: part.trim_end_matches('`').to_owned(),
            reached_by: reached_by.to_owned(),
            test: test.trim_end_matches(" |").trim_matches('`').to_owned(),
        }
    });
    rows.collect()
}

fn parts() -> BTreeSet<String> {
    rows().into_iter().map(|row| row.part).collect()
}

/// Words of C and Rust.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// The constants that a header or the bindings define.
fn constants(text: &str) -> BTreeSet<String> {
    let prefixes = ["IOCB_CMD_", "IOCB_FLAG_", "RWF_"];
    let constants =
        words(text).filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)));
    // Spoken of in comments, and a mask of all.
    let no_constants = ["IOCB_CMD_", "IOCB_CMD_PREADX", "RWF_", "RWF_SUPPORTED"];
    constants
        .filter(|word| !no_constants.contains(word))
        .map(str::to_owned)
        .collect()
}

/// The fields of a struct, in C (`__u64 name;`) or Rust (`pub name: u64,`).
fn fields(text: &str, structure: &str, name: impl Fn(&str) -> Option<&str>) -> BTreeSet<String> {
    let (_, body) = text
        .split_once(&format!("struct {structure} {{"))
        .expect("the struct");
    let (body, _) = body.split_once('}').expect("its end");
    let fields = body.lines().filter_map(|line| name(line.trim()));
    fields.map(|field| format!("{structure}.{field}")).collect()
}

fn field_in_c(line: &str) -> Option<&str> {
    let (declaration, _) = line.split_once(';')?;
    declaration
        .starts_with("__")
        .then(|| declaration.split_whitespace().last())?
}

fn field_in_rust(line: &str) -> Option<&str> {
    Some(line.strip_prefix("pub ")?.split_once(':')?.0)
}

/// All of the ABI that `text` defines.
fn abi(text: &str, field: impl Fn(&str) -> Option<&str> + Copy) -> BTreeSet<String> {
    let mut abi = constants(text);
    abi.extend(fields(text, "iocb", field));
    abi.extend(fields(text, "io_event", field));
    abi.extend(
        words(text)
            .filter(|word| *word == "aio_context_t")
            .map(str::to_owned),
    );
    abi
}

#[track_caller]
fn assert_same(what: &str, left: &BTreeSet<String>, right: &BTreeSet<String>) {
    let missing: Vec<_> = left.difference(right).collect();
    assert!(missing.is_empty(), "{what}: {missing:?}");
}

#[test]
fn all_of_the_bindings_is_in_the_table_and_nothing_else() {
    for order in ["little", "big"] {
        let bindings = read(format!("src/sys/bindings/{order}_endian.rs"));
        let bindings = abi(&bindings, field_in_rust);
        assert_eq!(bindings.len(), 8 + 2 + 9 + 12 + 4 + 1);
        assert_same("not in the table", &bindings, &parts());
        assert_same("not in the bindings", &parts(), &bindings);
    }
}

/// A kernel newer than this crate may have more: then this is where one hears of it.
#[test]
fn all_of_this_machines_header_is_in_the_table() {
    let Ok(header) = fs::read_to_string("/usr/include/linux/aio_abi.h") else {
        return common::skip("no /usr/include/linux/aio_abi.h: install linux-libc-dev");
    };
    let header = abi(&header, field_in_c);
    assert!(header.len() > 8 + 2 + 12 + 4, "{header:?}");
    assert_same("not in the table", &header, &parts());
    let flags = fs::read_to_string("/usr/include/linux/fs.h").unwrap();
    let flags = constants(&flags);
    assert!(flags.len() >= 5, "{flags:?}");
    assert_same("not in the table", &flags, &parts());
}

/// The sources of an integration test: a file, or a folder.
fn sources(test: &str) -> Vec<PathBuf> {
    let tests = root().join("tests");
    let file = tests.join(format!("{test}.rs"));
    if file.exists() {
        return vec![file];
    }
    let folder =
        fs::read_dir(tests.join(test)).unwrap_or_else(|error| panic!("tests/{test}: {error}"));
    folder.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn each_test_that_the_table_names_exists() {
    let rows = rows();
    assert!(!rows.is_empty());
    for row in rows {
        let (file, name) = row
            .test
            .split_once("::")
            .unwrap_or_else(|| panic!("{}", row.test));
        let definition = format!("#[test]\nfn {name}()");
        let is_there = |path: &PathBuf| fs::read_to_string(path).unwrap().contains(&definition);
        assert!(
            sources(file).iter().any(is_there),
            "{}: no test {}",
            row.part,
            row.test
        );
    }
}

#[test]
fn each_row_says_what_reaches_its_part_or_why_nothing_does() {
    for row in rows() {
        let says = row.reached_by.contains("](crate::")
            || ["the ", "nothing: "]
                .iter()
                .any(|start| row.reached_by.starts_with(start));
        assert!(says, "{}: {}", row.part, row.reached_by);
    }
}
