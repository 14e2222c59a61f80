//! Plants mutants into a copy of the sources, each behind a switch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::edit::{self, Edit};
use crate::mutant::Mutant;
use crate::place::{Site, Sites};

/// What is compiled into the copy: whether a mutant is on, and a note that the code of it was reached.
const SWITCH: &str = include_str!("switch.rs.txt");

/// The list of the mutants that the copy can't be compiled with.
pub(crate) fn unfit(copy: &Path) -> PathBuf {
    copy.with_extension("unfit")
}

pub(crate) fn left_out(copy: &Path) -> Result<BTreeSet<usize>> {
    let text = fs::read_to_string(unfit(copy)).unwrap_or_default();
    text.lines().map(|line| Ok(line.parse()?)).collect()
}

/// Plants all that fit. The sources of the copy are those of the crate before.
pub(crate) fn all(mutants: &[Mutant], copy: &Path) -> Result<()> {
    let left_out = left_out(copy)?;
    let (mut by_file, mut unfit) = (BTreeMap::<_, Vec<_>>::new(), left_out.clone());
    for mutant in mutants
        .iter()
        .filter(|mutant| !left_out.contains(&mutant.number))
    {
        by_file.entry(&mutant.file).or_default().push(mutant);
    }
    for (file, mutants) in by_file {
        let path = copy.join(file);
        let text = fs::read_to_string(&path)?;
        let sites = Sites::of(&text)?;
        let is_found = |mutant: &&&Mutant| sites.find(&mutant.kind, mutant.begins).is_some();
        let (found, lost): (Vec<&Mutant>, Vec<_>) =
            mutants.iter().partition(|mutant| is_found(mutant));
        unfit.extend(lost.iter().map(|mutant| mutant.number));
        fs::write(path, edit::apply(&text, edits(&text, &sites, &found)))?;
    }
    add_the_switch(copy)?;
    note(&unfit, copy)?;
    println!(
        "{} mutants are planted, {} don't fit",
        mutants.len() - unfit.len(),
        unfit.len()
    );
    Ok(())
}

pub(crate) fn note(numbers: &BTreeSet<usize>, copy: &Path) -> Result<()> {
    let lines: Vec<_> = numbers.iter().map(usize::to_string).collect();
    Ok(fs::write(unfit(copy), lines.join("\n"))?)
}

fn add_the_switch(copy: &Path) -> Result<()> {
    fs::write(copy.join("src/mutants.rs"), SWITCH)?;
    let root = copy.join("src/lib.rs");
    Ok(fs::write(
        &root,
        fs::read_to_string(&root)? + "\nmod mutants;\n",
    )?)
}

/// One edit for all that change the same expression.
fn edits(text: &str, sites: &Sites, mutants: &[&Mutant]) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut wraps: BTreeMap<(usize, usize), Vec<(usize, String)>> = BTreeMap::new();
    for mutant in mutants {
        match sites
            .find(&mutant.kind, mutant.begins)
            .expect("it was found")
        {
            Site::Body(at) => edits.push(returning(mutant, at.clone())),
            Site::Arm { pattern, guard } => edits.push(without(mutant, pattern, guard.as_ref())),
            Site::Expression { whole, part } => {
                let end = part.end
                    + usize::from(
                        mutant.kind == "StructField" && text[part.end..].starts_with(','),
                    );
                let changed = [
                    &text[whole.start..part.start],
                    &mutant.replacement,
                    &text[end..whole.end],
                ];
                let changes = wraps.entry((whole.start, whole.end)).or_default();
                changes.push((mutant.number, changed.join(" ")));
            }
        }
    }
    edits.extend(wraps.into_iter().map(|((start, end), changes)| Edit {
        at: start..end,
        before: choices(&changes),
        behind: format!("{}}})", closing(&changes)),
    }));
    edits
}

fn on(number: usize) -> String {
    format!("crate::mutants::on({number})")
}

/// Whatever the compiler has to say between these marks is about the mutant.
fn marked(number: usize, text: &str) -> String {
    format!("/*m{number}*/{text}/*/m{number}*/")
}

fn returning(mutant: &Mutant, at: std::ops::Range<usize>) -> Edit {
    let text = format!(
        "if {} {{ return {}; }} ",
        on(mutant.number),
        mutant.replacement
    );
    // The rest is marked too: it may be of another type than what is returned.
    Edit {
        at,
        before: format!("/*m{}*/{}", mutant.number, marked(mutant.number, &text)),
        behind: format!("/*/m{}*/", mutant.number),
    }
}

fn without(
    mutant: &Mutant,
    pattern: &std::ops::Range<usize>,
    guard: Option<&std::ops::Range<usize>>,
) -> Edit {
    let off = marked(mutant.number, &format!("!{}", on(mutant.number)));
    match guard {
        Some(guard) => Edit {
            at: guard.clone(),
            before: format!("{off} && ("),
            behind: ")".to_owned(),
        },
        None => Edit {
            at: pattern.clone(),
            before: String::new(),
            behind: format!(" if {off}"),
        },
    }
}

/// `(if on(1) { … } else if on(2) { … } else {`. What goes wrong in the last branch is of them all.
fn choices(changes: &[(usize, String)]) -> String {
    let opened: String = changes
        .iter()
        .map(|(number, _)| format!("/*m{number}*/"))
        .collect();
    let choice = |(number, text): &(usize, String)| {
        marked(*number, &format!("if {} {{ {text} }} else ", on(*number)))
    };
    let choices: String = changes.iter().map(choice).collect();
    format!("{opened}({choices}{{")
}

fn closing(changes: &[(usize, String)]) -> String {
    changes
        .iter()
        .rev()
        .map(|(number, _)| format!("/*/m{number}*/"))
        .collect()
}
