//! A mutant, as `cargo mutants --list --json` describes it.

use std::fs;

use serde_json::Value;

use crate::Result;

/// Line and column, both from 1 on.
pub(crate) type Place = (usize, usize);

pub(crate) struct Mutant {
    /// Its place in the list, from 1 on: 0 is no mutant.
    pub(crate) number: usize,
    pub(crate) file: String,
    pub(crate) kind: String,
    /// What stands at `begins` is replaced by this.
    pub(crate) replacement: String,
    pub(crate) begins: Place,
    pub(crate) name: String,
}

pub(crate) fn read(list: &str) -> Result<Vec<Mutant>> {
    let list: Value = serde_json::from_str(&fs::read_to_string(list)?)?;
    let list = list.as_array().ok_or("no list of mutants")?;
    list.iter()
        .zip(1..)
        .map(|(value, number)| {
            mutant(value, number).ok_or_else(|| format!("mutant {number}").into())
        })
        .collect()
}

fn mutant(value: &Value, number: usize) -> Option<Mutant> {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let begins = &value["span"]["start"];
    let at = |key: &str| usize::try_from(begins[key].as_u64()?).ok();
    Some(Mutant {
        number,
        file: text("file")?,
        kind: text("genre")?,
        replacement: text("replacement")?,
        begins: (at("line")?, at("column")?),
        name: text("name")?,
    })
}
