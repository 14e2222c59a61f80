//! The record of what became of the mutants.

use std::collections::BTreeMap;
use std::path::Path;

use crate::mutant::Mutant;
use crate::{Result, plant, trial};

#[derive(Default)]
struct Row {
    caught: usize,
    missed: Vec<String>,
    unfit: Vec<String>,
}

pub(crate) fn print(mutants: &[Mutant], copy: &Path) -> Result<()> {
    let (verdicts, unfit) = (trial::verdicts(copy), plant::left_out(copy)?);
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for mutant in mutants {
        let row = rows.entry(&mutant.file).or_default();
        match verdicts.get(&mutant.number) {
            Some(verdict) if verdict.starts_with("caught") => row.caught += 1,
            Some(verdict) => row.missed.push(format!("{}: {verdict}", mutant.name)),
            None if unfit.contains(&mutant.number) => row.unfit.push(mutant.name.clone()),
            None => {}
        }
    }
    println!("| file | caught | missed | don't compile |\n| --- | --- | --- | --- |");
    for (file, row) in &rows {
        println!(
            "| {file} | {} | {} | {} |",
            row.caught,
            row.missed.len(),
            row.unfit.len()
        );
    }
    for line in rows.values().flat_map(|row| &row.missed) {
        println!("{line}");
    }
    Ok(())
}
