//! The latency distribution of each engine as an SVG (`chart.rs`).
//!
//! An engine has the same line in every plot, told from the others by its colour and its dashes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::chart::{self, Line};
use crate::engines::ENGINES;
use crate::measure::Outcome;
use crate::options::Options;
use crate::place::{beside_the_build, check_writable};
use crate::report;
use crate::svg::SOLID;
use crate::target::Target;
use crate::units;

const DASHED: &str = "9 5";
const DOTTED: &str = "2 4";
/// One for each of [`ENGINES`], in their order: colours that colour-blind readers tell apart (Okabe and Ito)
/// and dashes for those that come twice or are near each other. The yardsticks are black and grey.
const LINES: [(&str, &str); ENGINES.len()] = [
    ("#0072b2", SOLID),
    ("#d55e00", SOLID),
    ("#009e73", SOLID),
    ("#009e73", DOTTED),
    ("#cc79a7", SOLID),
    ("#882255", DASHED),
    ("#e69f00", DASHED),
    ("#56b4e9", DASHED),
    ("#7a5c1e", DOTTED),
    ("#000000", SOLID),
    ("#000000", DASHED),
    ("#777777", DOTTED),
];

/// Where the plot will be, known to be writable; `None`: nowhere. To be called before the run.
pub(crate) fn place(options: &Options) -> Result<Option<PathBuf>> {
    if let Some(path) = options.plot() {
        let writable = check_writable(path);
        writable.map_err(|error| format!("--plot {}: {error}", path.display()))?;
        return Ok(Some(path.to_owned()));
    }
    let path = beside_the_build("iobench.svg");
    // It was not asked for: that it can't be written is no reason to stop.
    let wanted = !options.json && check_writable(&path).is_ok();
    Ok(wanted.then_some(path))
}

pub(crate) fn write(
    path: &Path,
    options: &Options,
    target: &Target,
    outcomes: &[Outcome],
) -> Result<()> {
    let (rw, bs) = (options.rw.name(), units::size(options.bs as u64));
    let titles = [format!("{rw} of {bs}: {target}"), target.medium.to_string()];
    let lines: Vec<_> = outcomes.iter().map(line).collect();
    let text = chart::draw(&titles, &lines);
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn line(outcome: &Outcome) -> Line<'_> {
    let number = ENGINES
        .iter()
        .position(|engine| engine.name == outcome.engine.name);
    let (colour, dashes) = LINES[number.expect("an engine of the table")];
    Line {
        latency: &outcome.latency,
        label: label(outcome),
        colour,
        dashes,
    }
}

fn label(outcome: &Outcome) -> String {
    let loops = match outcome.loops {
        1 => String::new(),
        loops => format!("{loops} x "),
    };
    format!("{} ({loops}depth {})", report::name(outcome), outcome.depth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_engine_has_a_line_of_its_own() {
        let lines: BTreeSet<_> = LINES.iter().collect();
        assert_eq!(lines.len(), ENGINES.len());
    }

    #[test]
    fn the_legend_stands_beside_the_curves() {
        assert!(chart::has_room_for(ENGINES.len()));
    }
}
