//! What the documentation says: README, the guide, the crate's page, and the docs of public items, sentence by
//! sentence.

use crate::sources::rust_files;
use std::fs;
use std::path::Path;

/// A sentence, a cell of a table or a list's item: white space collapsed, code blocks left out.
pub(crate) struct Sentence {
    /// From the root of the repository.
    pub(crate) file: String,
    pub(crate) text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All of them.
pub(crate) fn sentences() -> Vec<Sentence> {
    let pages = ["README.md", "docs/guide.md"];
    let of_page = |page| split(page, &fs::read_to_string(root().join(page)).unwrap());
    let mut all: Vec<_> = pages.into_iter().flat_map(of_page).collect();
    for path in rust_files(&root().join("src")) {
        let name = path
            .strip_prefix(root())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let source = fs::read_to_string(&path).unwrap();
        for block in public_docs(&source, name == "src/lib.rs") {
            all.extend(split(&name, &block));
        }
    }
    all
}

/// The doc comments of public items, one text each. `crate_docs`: of the file itself as well.
fn public_docs(source: &str, crate_docs: bool) -> Vec<String> {
    let (mut found, mut block, mut page) = (Vec::new(), String::new(), String::new());
    let mut container = "";
    for line in source.lines() {
        let code = line.trim_start();
        if let Some(text) = code.strip_prefix("//!") {
            page.push_str(text.strip_prefix(' ').unwrap_or(text));
            page.push('\n');
        } else if let Some(text) = code.strip_prefix("///") {
            block.push_str(text.strip_prefix(' ').unwrap_or(text));
            block.push('\n');
        } else if code.starts_with("#[doc(hidden)") {
            block.clear();
        } else if !code.starts_with('#') && !code.starts_with(')') && !code.is_empty() {
            if !line.starts_with(' ') && !line.starts_with('}') {
                container = code;
            }
            let doc = std::mem::take(&mut block);
            if !doc.is_empty() && is_public(code, line.starts_with(' '), container) {
                found.push(doc);
            }
        }
    }
    if crate_docs {
        found.push(page);
    }
    found
}

/// Whether users see the item that begins so. What stands inside a public enum or trait is public with it.
fn is_public(code: &str, is_inside: bool, container: &str) -> bool {
    let of_public = ["pub enum", "pub trait", "pub unsafe trait"];
    let inherits = is_inside && of_public.iter().any(|kind| container.starts_with(kind));
    code.starts_with("pub ") || inherits
}

/// A text's sentences. A line that begins a list's item, a table's row or a heading begins one.
fn split(file: &str, text: &str) -> Vec<Sentence> {
    let (mut pieces, mut in_code) = (vec![String::new()], false);
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            if line.is_empty() || ["- ", "|", "#"].iter().any(|mark| line.starts_with(mark)) {
                pieces.push(String::new());
            }
            let piece = pieces.last_mut().unwrap();
            piece.push_str(line);
            piece.push(' ');
        }
    }
    let sentences = pieces.iter().flat_map(|piece| piece.split_inclusive(". "));
    let texts = sentences.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    let texts = texts.filter(|text| !text.is_empty());
    texts
        .map(|text| Sentence {
            file: file.to_owned(),
            text,
        })
        .collect()
}

/// Words of all-or-nothing.
const ABSOLUTE: [&str; 4] = ["never", "always", "at most", "exactly"];
/// Capitals that begin with an E and are no errno.
const NO_ERRNO: [&str; 2] = ["EOF", "ELF"];

/// Whether it says something that can be wrong.
pub(crate) fn claims_something(text: &str) -> bool {
    let lower = format!(
        " {} ",
        text.to_lowercase()
            .replace(|c: char| !c.is_alphanumeric(), " ")
    );
    let is_absolute = ABSOLUTE
        .iter()
        .any(|word| lower.contains(&format!(" {word} ")));
    is_absolute || has_errno(text) || text.contains("Linux 2.") || has_version(text)
}

fn has_errno(text: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.any(|word| {
        let is_capitals = word
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        word.len() > 2 && word.starts_with('E') && is_capitals && !NO_ERRNO.contains(&word)
    })
}

/// "Linux 4.19".
fn has_version(text: &str) -> bool {
    text.match_indices("Linux ")
        .any(|(at, word)| text[at + word.len()..].starts_with(|c: char| c.is_ascii_digit()))
}
