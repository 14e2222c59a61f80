//! README and the guide say what is there: their programs are examples, word for word, and the commands and files
//! they name exist.

use std::path::Path;

const README: &str = include_str!("../README.md");
const GUIDE: &str = include_str!("../docs/guide.md");

/// The content of a page's first fenced block in `language`.
fn first_block<'a>(page: &'a str, language: &str) -> &'a str {
    let fence = format!("\n```{language}\n");
    let start = page.find(&fence).expect("a block in that language") + fence.len();
    let rest = &page[start..];
    &rest[..rest.find("```").expect("the block ends")]
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_program_is_the_example_word_for_word() {
    assert_eq!(
        first_block(README, "rust"),
        include_str!("../examples/readme.rs")
    );
}

#[test]
fn the_guides_program_is_the_example_word_for_word() {
    let program = first_block(GUIDE, "rust,no_run");
    assert_eq!(program, include_str!("../examples/log_store.rs"));
}

#[test]
fn the_first_screen_has_the_commands_and_the_program() {
    let screen: Vec<_> = README.lines().take(24).collect();
    for start in [
        "cargo run --release --example iobench",
        "cargo test",
        "cargo doc --open",
        "cargo add kiocb",
        "cargo install --path . --example iobench",
        "```rust",
    ] {
        let found = screen.iter().any(|line| line.starts_with(start));
        assert!(found, "{start} is not in the first screen");
    }
}

#[test]
fn every_example_it_names_is_there() {
    let named = README.split("--example ").skip(1);
    for name in named.filter_map(|rest| rest.split([' ', '`', '\n']).next()) {
        let file = root().join("examples").join(name);
        let exists = file.with_extension("rs").exists() || file.join("main.rs").exists();
        assert!(exists, "there is no example {name}");
    }
}

/// What it links to beside the web, without the place inside the file: in the text, or at the end of the page.
fn linked_files(page: &str) -> impl Iterator<Item = &str> {
    let in_text = page.split("](").skip(1);
    let in_text = in_text.filter_map(|rest| rest.split(')').next());
    let at_the_end = page.split("\n[").skip(1);
    let at_the_end = at_the_end.filter_map(|rest| rest.lines().next()?.split_once("]: "));
    let targets = in_text.chain(at_the_end.map(|(_, target)| target));
    let files = targets.filter_map(|target| target.split('#').next());
    files.filter(|file| !file.is_empty() && !file.contains("://"))
}

#[test]
fn every_file_it_links_to_is_there() {
    for file in linked_files(README) {
        assert!(root().join(file).exists(), "{file} is not there");
    }
}

#[test]
fn every_file_that_the_guide_links_to_is_there() {
    assert!(linked_files(GUIDE).any(|file| file == "choosing.md"));
    for file in linked_files(GUIDE) {
        assert!(root().join("docs").join(file).exists(), "{file}");
    }
}
