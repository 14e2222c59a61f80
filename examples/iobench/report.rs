//! What the user reads: a heading, one table (or one JSON object a line), and what went wrong.

use std::io::{self, Write};
use std::path::Path;

use crate::measure::Outcome;
use crate::options::Options;
use crate::target::Target;
use crate::units;

/// What is measured, above the figures.
pub(crate) fn heading(options: &Options, target: &Target) {
    let (rw, bs) = (options.rw.name(), units::size(options.bs as u64));
    let checks = match (options.verify, options.rw.writes()) {
        (false, _) => "nothing checked",
        (true, false) => "every block checked",
        (true, true) => "every block stamped",
    };
    let seconds = options.seconds;
    aside(
        options,
        &format!("{rw} of {bs}, {seconds} s per engine, {checks}\n{target}\n"),
    );
}

/// Where the plot is, below them.
pub(crate) fn plotted(options: &Options, path: &Path) {
    aside(
        options,
        &format!("\nlatency distribution: {}", path.display()),
    );
}

/// For people: with `--json` stdout is for programs alone.
fn aside(options: &Options, text: &str) {
    if options.json {
        eprintln!("{}", text.trim());
    } else {
        print(text);
    }
}

/// As `println!`, but a reader who has gone (`| head`) is no reason to panic.
fn print(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// One column: its title and its cell for an outcome.
type Column = (&'static str, fn(&Options, &Outcome) -> String);

const COLUMNS: &[Column] = &[
    ("engine", |_, outcome| outcome.engine.into()),
    ("threads", |_, outcome| outcome.threads.to_string()),
    ("depth", |_, outcome| outcome.depth.to_string()),
    ("IOPS", |_, outcome| units::grouped(outcome.iops)),
    ("MiB/s", |options, outcome| {
        units::grouped(outcome.mib_s(options.bs))
    }),
    ("CPU ns/IO", |_, outcome| {
        units::grouped(outcome.cpu_ns_per_io)
    }),
    ("syscalls/IO", |_, outcome| {
        format!("{:.3}", outcome.syscalls_per_io)
    }),
    ("allocs/IO", |_, outcome| {
        format!("{:.3}", outcome.allocs_per_io)
    }),
    ("p50 us", |_, outcome| quantile(outcome, 0.5)),
    ("p99 us", |_, outcome| quantile(outcome, 0.99)),
    ("p99.9 us", |_, outcome| quantile(outcome, 0.999)),
    ("errors", |_, outcome| outcome.errors.to_string()),
];

fn quantile(outcome: &Outcome, share: f64) -> String {
    format!("{:.1}", outcome.latency.quantile_us(share))
}

/// All engines side by side; nothing for `--json`, whose lines are out already.
pub(crate) fn table(options: &Options, outcomes: &[Outcome]) {
    if options.json || outcomes.is_empty() {
        return;
    }
    let titles = COLUMNS
        .iter()
        .map(|(title, _)| (*title).to_string())
        .collect();
    let row = |outcome| {
        COLUMNS
            .iter()
            .map(|(_, cell)| cell(options, outcome))
            .collect()
    };
    let rows: Vec<Vec<String>> = std::iter::once(titles)
        .chain(outcomes.iter().map(row))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    for row in &rows {
        print(&line(row, &widths));
    }
}

/// The first column to the left, figures to the right.
fn line(cells: &[String], widths: &[usize]) -> String {
    let first = format!("{:<width$}", cells[0], width = widths[0]);
    let rest = cells
        .iter()
        .zip(widths)
        .skip(1)
        .map(|(cell, width)| format!("  {cell:>width$}"));
    std::iter::once(first).chain(rest).collect()
}

/// For `--json`: this engine's line, as soon as it is known.
pub(crate) fn row(options: &Options, outcome: &Outcome) {
    if options.json {
        print(&json(options, outcome));
    }
}

/// By hand: no value needs escaping.
fn json(options: &Options, outcome: &Outcome) -> String {
    format!(
        "{{\"engine\":\"{}\",\"rw\":\"{}\",\"bs\":{},\"depth\":{},\"threads\":{},\"iops\":{:.0},\"mib_s\":{:.1},\
         \"cpu_ns_per_io\":{:.0},\"syscalls_per_io\":{:.3},\"allocs_per_io\":{:.3},\
         \"p50_us\":{:.2},\"p99_us\":{:.2},\"p999_us\":{:.2},\"errors\":{}}}",
        outcome.engine,
        options.rw.name(),
        options.bs,
        outcome.depth,
        outcome.threads,
        outcome.iops,
        outcome.mib_s(options.bs),
        outcome.cpu_ns_per_io,
        outcome.syscalls_per_io,
        outcome.allocs_per_io,
        outcome.latency.quantile_us(0.5),
        outcome.latency.quantile_us(0.99),
        outcome.latency.quantile_us(0.999),
        outcome.errors,
    )
}

/// Says what went wrong with an engine's answers; true when nothing did.
pub(crate) fn blame(outcome: &Outcome) -> bool {
    if let Some(first) = &outcome.first_error {
        eprintln!(
            "iobench: engine {}: {} errors; the first: {first}",
            outcome.engine, outcome.errors
        );
    }
    outcome.errors == 0
}
