//! What the user reads of a bench: a table, and a plot of the latencies.

use crate::Result;
use crate::bench::Outcome;
use crate::chart::{self, Line};
use crate::options::Options;
use crate::place;
use crate::svg::SOLID;
use crate::units::{self, grouped};
use std::fs;
use std::path::Path;

const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

type Column = (&'static str, fn(&Outcome) -> String);

const COLUMNS: [Column; 9] = [
    ("mix", |run| run.name.clone()),
    ("operations/s", |run| {
        grouped(run.operations as f64 / run.seconds)
    }),
    ("commits/s", |run| grouped(run.commits as f64 / run.seconds)),
    ("CPU us/op", |run| {
        ratio(run.cpu_seconds * 1e6, run.operations)
    }),
    ("reads/op", |run| {
        ratio(run.counts.page_reads as f64, run.all_operations)
    }),
    ("syncs/op", |run| {
        ratio(run.counts.batches as f64, run.all_operations)
    }),
    ("p50 us", |run| quantile(run, 0.5)),
    ("p99 us", |run| quantile(run, 0.99)),
    ("p99.9 us", |run| quantile(run, 0.999)),
];

fn ratio(amount: f64, of: u64) -> String {
    match of {
        0 => "-".into(),
        _ => format!("{:.3}", amount / of as f64),
    }
}

fn quantile(run: &Outcome, share: f64) -> String {
    let micros = run.latency.quantile_us(share);
    micros.map_or("-".into(), |micros| format!("{micros:.0}"))
}

pub(crate) fn heading(options: &Options, dir: &Path) {
    let (records, clients, driver) = (options.records(), options.clients, options.driver().name());
    let (page, pool) = (units::size(options.page_size as u64), options.pool());
    println!(
        "{records} records in {}, {clients} clients, driver {driver}, pages of {page}, {pool} of them in memory\n",
        dir.display()
    );
}

pub(crate) fn show(outcomes: &[Outcome]) {
    let titles = COLUMNS.map(|(title, _)| title.to_owned());
    let rows = outcomes
        .iter()
        .map(|run| COLUMNS.map(|(_, cell)| cell(run)));
    lines(&[titles].into_iter().chain(rows).collect::<Vec<_>>());
}

/// Columns to the right, as wide as their widest cell.
pub(crate) fn lines<const N: usize>(rows: &[[String; N]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    for row in rows {
        let cells = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell:>0$}", width(column)));
        println!("{}", cells.collect::<Vec<_>>().join("  "));
    }
    println!();
}

pub(crate) fn plot(options: &Options, outcomes: &[Outcome]) -> Result<()> {
    let usual = place::beside_the_build("pagestore.svg");
    if options.plot.is_none() && place::check_writable(&usual).is_err() {
        return Ok(()); // it was not asked for
    }
    let path = options.plot.clone().unwrap_or(usual);
    let line = |(run, colour): (_, &'static str)| {
        let run: &Outcome = run;
        Line {
            latency: &run.latency,
            label: format!("mix {}", run.name),
            colour,
            dashes: SOLID,
        }
    };
    let lines: Vec<_> = outcomes.iter().zip(COLOURS).map(line).collect();
    let titles = [
        format!(
            "pagestore, {} clients, {}",
            options.clients,
            options.driver().name()
        ),
        format!("{} records of 100 bytes", options.records()),
    ];
    fs::write(&path, chart::draw(&titles, &lines))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    println!("latency distribution: {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mix_has_a_line_and_room_in_the_legend() {
        assert_eq!(crate::mix::MIXES.len(), COLOURS.len());
        assert!(chart::has_room_for(COLOURS.len()));
    }
}
