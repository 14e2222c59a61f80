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
    if cfg!(debug_assertions) {
        eprintln!(
            "iobench: built without --release: the figures are the compiler's, not the crate's"
        );
    }
    aside(
        options,
        &format!(
            "{rw} of {bs}, {seconds} s per engine, {checks}\nfile: {target}\nmedium: {}\n",
            target.medium
        ),
    );
}

/// An engine, and the group with which it ran where that was a choice.
pub(crate) fn name(outcome: &Outcome) -> String {
    let name = outcome.engine.name;
    match outcome.group {
        Some(group) => format!("{name}/{group}"),
        None if outcome.engine.is_best_of_several() => format!("{name}/all"),
        None => name.into(),
    }
}

/// How to read the figures, below them.
pub(crate) fn notes(options: &Options, target: &Target, outcomes: &[Outcome]) {
    if options.json || outcomes.is_empty() {
        return;
    }
    print(&format!("\n{}", note_on_cpu(options)));
    outcomes
        .iter()
        .filter_map(|outcome| note_on(options, outcome))
        .for_each(|note| print(&note));
    if target.medium.answers_at_once {
        print(
            "This medium answers inside the system call: a loop is one processor's work, whatever its \
             depth. For more IOPS\nevery engine needs more loops (--threads), and pread has more threads.",
        );
    }
}

fn note_on_cpu(options: &Options) -> String {
    let checking = match (options.verify, options.rw.writes()) {
        (false, _) => "",
        (true, false) => "\nThe checking of its block is in it; --no-verify leaves that out.",
        (true, true) => "\nThe stamping of its block is in it; --no-verify leaves that out.",
    };
    format!(
        "CPU ns/IO is the processor time of one request, in user space and in the kernel.{checking}\n\
         raw is what the system calls cost by themselves: compare the engines' CPU ns/IO with raw's."
    )
}

/// What makes an engine's figures other than they look.
fn note_on(options: &Options, outcome: &Outcome) -> Option<String> {
    let engine = name(outcome);
    if outcome.threads > outcome.loops {
        let (threads, cpus) = (outcome.threads, outcome.cpus);
        return Some(format!(
            "{engine} has a thread for each request in flight, {threads} in all, which kept {cpus:.2} processors busy."
        ));
    }
    if outcome.depth != options.depth {
        return Some(format!(
            "{engine} has one request in flight in each loop: compare it with raw at --depth 1."
        ));
    }
    outcome
        .engine
        .is_best_of_several()
        .then(|| format!("{engine}: of all groups tried, this one gave the most IOPS."))
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
    ("engine", |_, outcome| name(outcome)),
    ("threads", |_, outcome| outcome.threads.to_string()),
    ("depth", |_, outcome| outcome.depth.to_string()),
    ("IOPS", |_, outcome| units::grouped(outcome.iops)),
    ("MiB/s", |options, outcome| {
        units::grouped(outcome.mib_s(options.bs))
    }),
    ("CPUs", |_, outcome| format!("{:.2}", outcome.cpus)),
    ("CPU ns/IO", |_, outcome| {
        known(outcome.cpu_ns_per_io, "-", units::grouped)
    }),
    ("syscalls/IO", |_, outcome| {
        known(outcome.syscalls_per_io, "-", thousandths)
    }),
    ("allocs/IO", |_, outcome| {
        known(outcome.allocs_per_io, "-", thousandths)
    }),
    ("p50 us", |_, outcome| quantile(outcome, 0.5)),
    ("p99 us", |_, outcome| quantile(outcome, 0.99)),
    ("p99.9 us", |_, outcome| quantile(outcome, 0.999)),
    ("errors", |_, outcome| outcome.errors.to_string()),
];

fn quantile(outcome: &Outcome, share: f64) -> String {
    known(outcome.latency.quantile_us(share), "-", |micros| {
        format!("{micros:.1}")
    })
}

/// A figure, or what stands for one that there is not.
fn known(figure: Option<f64>, none: &str, write: impl Fn(f64) -> String) -> String {
    figure.map_or_else(|| none.to_owned(), write)
}

fn thousandths(figure: f64) -> String {
    format!("{figure:.3}")
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
pub(crate) fn row(options: &Options, target: &Target, outcome: &Outcome) {
    if options.json {
        print(&json(options, target, outcome));
    }
}

/// `--help` says what each means.
fn json(options: &Options, target: &Target, outcome: &Outcome) -> String {
    let or_null = |figure, write: fn(f64) -> String| known(figure, "null", write);
    let micros = |share| {
        or_null(outcome.latency.quantile_us(share), |micros| {
            format!("{micros:.2}")
        })
    };
    let group = outcome
        .group
        .map_or("null".into(), |group| group.to_string());
    let fields: Vec<String> = [
        ("engine", quoted(outcome.engine.name)),
        ("rw", quoted(options.rw.name())),
        ("file", quoted(&target.path().to_string_lossy())),
        ("medium", quoted(&target.medium.to_string())),
        ("group", group),
        ("bs", options.bs.to_string()),
        ("depth", outcome.depth.to_string()),
        ("loops", outcome.loops.to_string()),
        ("threads", outcome.threads.to_string()),
        ("iops", format!("{:.0}", outcome.iops)),
        ("mib_s", format!("{:.1}", outcome.mib_s(options.bs))),
        ("cpus", format!("{:.3}", outcome.cpus)),
        (
            "cpu_ns_per_io",
            or_null(outcome.cpu_ns_per_io, |ns| format!("{ns:.0}")),
        ),
        (
            "syscalls_per_io",
            or_null(outcome.syscalls_per_io, thousandths),
        ),
        ("allocs_per_io", or_null(outcome.allocs_per_io, thousandths)),
        ("samples", outcome.latency.samples().to_string()),
        ("p50_us", micros(0.5)),
        ("p99_us", micros(0.99)),
        ("p999_us", micros(0.999)),
        ("errors", outcome.errors.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| format!("\"{name}\":{value}"))
    .collect();
    format!("{{{}}}", fields.join(","))
}

/// As JSON has a string.
fn quoted(text: &str) -> String {
    let character = |character| match character {
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        control if control < ' ' => format!("\\u{:04x}", u32::from(control)),
        other => other.to_string(),
    };
    let inside: String = text.chars().map(character).collect();
    format!("\"{inside}\"")
}

/// Says what went wrong with an engine's answers; true when nothing did.
pub(crate) fn blame(outcome: &Outcome) -> bool {
    if let Some(first) = &outcome.first_error {
        eprintln!(
            "iobench: engine {}: {} errors; the first: {first}",
            outcome.engine.name, outcome.errors
        );
    }
    outcome.errors == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_path_does_not_break_the_json() {
        assert_eq!(quoted("a\"b\\c\n"), r#""a\"b\\c\u000a""#);
    }
}
