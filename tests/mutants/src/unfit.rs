//! Reads what cargo says of the copy, and notes which mutants it is about.

use std::collections::BTreeSet;
use std::io::{self, BufRead};
use std::path::Path;
use std::{fs, ops::Range};

use serde_json::Value;

use crate::mutant::Mutant;
use crate::{Result, plant};

/// Reads `cargo check --message-format=json` from standard input. It is an error if an error is about no mutant.
pub(crate) fn note(mutants: &[Mutant], copy: &Path) -> Result<()> {
    let mut unfit = plant::left_out(copy)?;
    let before = unfit.len();
    for line in io::stdin().lock().lines() {
        let message: Value = serde_json::from_str(&line?)?;
        if message["reason"] == "compiler-message" && message["message"]["level"] == "error" {
            unfit.extend(blamed(&message["message"], copy)?);
        }
    }
    println!("{} more can't be compiled", unfit.len() - before);
    for mutant in mutants
        .iter()
        .filter(|mutant| unfit.contains(&mutant.number))
    {
        println!("  {}", mutant.name);
    }
    plant::note(&unfit, copy)
}

/// The innermost mutants around the places that it names: the first place that is inside of any.
fn blamed(message: &Value, copy: &Path) -> Result<BTreeSet<usize>> {
    let spans = message["spans"]
        .as_array()
        .ok_or("a message without places")?;
    let (primary, others): (Vec<_>, Vec<_>) =
        spans.iter().partition(|span| span["is_primary"] == true);
    for span in primary.iter().chain(&others) {
        let file = span["file_name"].as_str().unwrap_or_default();
        let text = fs::read_to_string(copy.join(file)).unwrap_or_default();
        let at = usize::try_from(span["byte_start"].as_u64().unwrap_or(0))?;
        let around = innermost(&text, at);
        if !around.is_empty() {
            return Ok(around);
        }
    }
    match spans.is_empty() {
        true => Ok(BTreeSet::new()), // "aborting due to …"
        false => Err(format!("of no mutant: {}", message["rendered"]).into()),
    }
}

/// Those of the smallest marked part around a byte.
fn innermost(text: &str, at: usize) -> BTreeSet<usize> {
    let around: Vec<_> = parts(text)
        .into_iter()
        .filter(|(_, part)| part.contains(&at))
        .collect();
    let smallest = around.iter().map(|(_, part)| part.len()).min();
    // Marks of one expression stand one beside the other.
    let is_near = |part: &Range<usize>| smallest.is_some_and(|len| part.len() < len + MARKS);
    around
        .into_iter()
        .filter(|(_, part)| is_near(part))
        .map(|(number, _)| number)
        .collect()
}

/// As long as some marks together.
const MARKS: usize = 40;

fn parts(text: &str) -> Vec<(usize, Range<usize>)> {
    let mut parts = Vec::new();
    let mut open: Vec<(usize, usize)> = Vec::new();
    for (at, _) in text.match_indices("/*") {
        let Some((mark, _)) = text[at + 2..].split_once("*/") else {
            continue;
        };
        if let Some(Ok(number)) = mark.strip_prefix('m').map(str::parse) {
            open.push((number, at));
        } else if let Some(Ok(number)) = mark.strip_prefix("/m").map(str::parse::<usize>)
            && let Some(began) = open.iter().rposition(|open| open.0 == number)
        {
            let (_, start) = open.remove(began);
            parts.push((number, start..at));
        }
    }
    parts
}
