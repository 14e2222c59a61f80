//! Compares two texts of bindings by what they say: names, types, values and layouts, not by how it is
//! written. Formatting, order and names of intermediate types differ between versions of bindgen, libclang
//! and the header.

use std::collections::BTreeMap;

/// Succeeds if `generated` has each constant, struct and type of `committed` and means the same by it. It may
/// have more: a newer header has more constants. Otherwise the error names what differs.
pub(crate) fn compare(committed: &str, generated: &str) -> Result<(), String> {
    let (committed, generated) = (items(committed), items(generated));
    let mut differing = Vec::new();
    for (name, meaning) in &committed {
        match generated.get(name) {
            Some(same) if same == meaning => {}
            Some(_) => differing.push(format!("has another {name}")),
            None => differing.push(format!("has no {name}")),
        }
    }
    if differing.is_empty() {
        Ok(())
    } else {
        Err(format!("the kernel's header {}", differing.join(", ")))
    }
}

/// The constants, structs and `aio_context_t`, by name: what they mean, with all other type names resolved.
fn items(text: &str) -> BTreeMap<&str, String> {
    let tokens = tokens(text);
    let items = split(&tokens);
    let aliases: BTreeMap<&str, &[&str]> = items.iter().filter_map(|item| alias(item)).collect();
    let named = items.iter().filter_map(|item| Some((name(item)?, *item)));
    named
        .filter(|(name, _)| !aliases.contains_key(name) || *name == "aio_context_t")
        .map(|(name, item)| (name, resolve(item, &aliases, 0)))
        .collect()
}

/// Words, and punctuation one by one. Comments are left out.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    for line in text.lines() {
        let mut rest = line.split("//").next().unwrap_or_default().trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let end = if word == 0 { first.len_utf8() } else { word };
            let (token, after) = rest.split_at(end);
            tokens.push(token);
            rest = after.trim_start();
        }
    }
    tokens
}

/// Items end at a semicolon or a closing brace that is inside nothing.
fn split<'a, 'b>(tokens: &'b [&'a str]) -> Vec<&'b [&'a str]> {
    let mut depth = 0_usize;
    tokens
        .split_inclusive(|token| {
            match *token {
                "{" | "[" | "(" => depth += 1,
                "}" | "]" | ")" => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && matches!(*token, ";" | "}")
        })
        .collect()
}

/// The word behind the keyword of an item that is looked at.
fn name<'a>(item: &[&'a str]) -> Option<&'a str> {
    let keyword = item
        .iter()
        .position(|token| matches!(*token, "const" | "struct" | "type"))?;
    item.get(keyword + 1).copied()
}

/// `pub type NAME = TARGET;`
fn alias<'a, 'b>(item: &'b [&'a str]) -> Option<(&'a str, &'b [&'a str])> {
    match item {
        ["pub", "type", name, "=", target @ .., ";"] => Some((name, target)),
        _ => None,
    }
}

/// The item with each alias replaced by what it stands for.
fn resolve(item: &[&str], aliases: &BTreeMap<&str, &[&str]>, depth: usize) -> String {
    // An alias of itself does not compile; it must not hang here either.
    const DEEPEST: usize = 16;
    let defined = alias(item).map(|(name, _)| name);
    let words = item.iter().map(|token| match aliases.get(token) {
        Some(target) if defined != Some(token) && depth < DEEPEST => {
            resolve(target, aliases, depth + 1)
        }
        _ => (*token).to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}
