//! The README says what is there: its program is an example, word for word, and the commands and files it
//! names exist.

use std::path::Path;

const README: &str = include_str!("../README.md");

/// The content of the first fenced block in `language`.
fn first_block(language: &str) -> &'static str {
    let fence = format!("\n```{language}\n");
    let start = README.find(&fence).expect("a block in that language") + fence.len();
    let rest = &README[start..];
    &rest[..rest.find("```").expect("the block ends")]
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_program_is_the_example_word_for_word() {
    assert_eq!(first_block("rust"), include_str!("../examples/readme.rs"));
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

#[test]
fn every_file_it_links_to_is_there() {
    let links = README.split("](").skip(1);
    let targets = links.filter_map(|rest| rest.split(')').next());
    for file in targets.filter(|target| !target.contains("://")) {
        assert!(root().join(file).exists(), "{file} is not there");
    }
}
