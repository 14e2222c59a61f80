//! A line of the record: the medians of one engine's slices in one cell.

use std::fs;
use std::path::Path;

use crate::Result;
use crate::engines::{Engine, Whose};
use crate::plan::{Cell, Run};
use crate::slice::Figures;

pub(crate) const HEADING: &str = "medium,depth,threads,engine,group,iops,iops_least,iops_most,cpu_ns_per_read,cpus,p50_us,p99_us,rounds";

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) medium: String,
    pub(crate) depth: usize,
    pub(crate) threads: usize,
    pub(crate) engine: String,
    /// `None`: all that are ready, or the engine's own affair.
    pub(crate) group: Option<usize>,
    pub(crate) median: Figures,
    /// The least and the most IOPS of a slice.
    pub(crate) range: (f64, f64),
    pub(crate) rounds: usize,
}

impl Row {
    /// `None` where no slice came to an end.
    pub(crate) fn of(cell: &Cell, run: Run, slices: &[Figures]) -> Option<Row> {
        let all = |figure: fn(&Figures) -> f64| slices.iter().map(figure).collect::<Vec<_>>();
        let iops = all(|slice| slice.iops);
        let least = iops.iter().copied().reduce(f64::min)?;
        let most = iops.iter().copied().reduce(f64::max)?;
        Some(Row {
            medium: cell.medium.clone(),
            depth: cell.depth,
            threads: cell.threads,
            engine: run.engine.name.to_owned(),
            group: run.group,
            median: Figures {
                iops: median(iops),
                cpu_ns: median(all(|slice| slice.cpu_ns)),
                cpus: median(all(|slice| slice.cpus)),
                p50_us: median(all(|slice| slice.p50_us)),
                p99_us: median(all(|slice| slice.p99_us)),
            },
            range: (least, most),
            rounds: slices.len(),
        })
    }

    pub(crate) fn to_csv(&self) -> String {
        let Row {
            medium,
            depth,
            threads,
            engine,
            rounds,
            ..
        } = self;
        let group = self.group.map_or("all".into(), |group| group.to_string());
        let Figures {
            iops,
            cpu_ns,
            cpus,
            p50_us,
            p99_us,
        } = self.median;
        let (least, most) = self.range;
        format!(
            "{medium},{depth},{threads},{engine},{group},{iops:.0},{least:.0},{most:.0},{cpu_ns:.0},{cpus:.3},\
             {p50_us:.2},{p99_us:.2},{rounds}"
        )
    }

    fn of_csv(line: &str) -> Option<Row> {
        let fields: Vec<&str> = line.split(',').collect();
        let [medium, depth, threads, engine, group, rest @ .., rounds] = &fields[..] else {
            return None;
        };
        let rest: Vec<f64> = rest.iter().map_while(|field| field.parse().ok()).collect();
        let [iops, least, most, cpu_ns, cpus, p50_us, p99_us] = rest[..] else {
            return None;
        };
        Some(Row {
            medium: (*medium).to_owned(),
            depth: depth.parse().ok()?,
            threads: threads.parse().ok()?,
            engine: (*engine).to_owned(),
            group: group.parse().ok(),
            median: Figures {
                iops,
                cpu_ns,
                cpus,
                p50_us,
                p99_us,
            },
            range: (least, most),
            rounds: rounds.parse().ok()?,
        })
    }

    pub(crate) fn whose(&self) -> Whose {
        Engine::named(&self.engine).map_or(Whose::Peer, |engine| engine.whose)
    }

    /// IOPS, for as many processors as there are loops: an engine that has a thread for each request keeps
    /// more of them busy, and two loops of the others would do so, too.
    pub(crate) fn fair_iops(&self) -> f64 {
        self.median.iops / (self.median.cpus / self.threads as f64).max(1.0)
    }
}

/// All rows of a record.
pub(crate) fn read(path: &Path) -> Result<Vec<Row>> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && *line != HEADING);
    lines
        .map(|line| Row::of_csv(line).ok_or_else(|| format!("{}: {line}", path.display()).into()))
        .collect()
}

/// Figures that are not known are left out.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.retain(|figure| !figure.is_nan());
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        count if count.is_multiple_of(2) => f64::midpoint(figures[middle - 1], figures[middle]),
        _ => figures[middle],
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A row of tmpfs at depth 8 with one loop.
    pub(crate) fn row(engine: &str, iops: f64, cpu_ns: f64) -> Row {
        Row {
            medium: "tmpfs".into(),
            depth: 8,
            threads: 1,
            engine: engine.into(),
            group: None,
            median: Figures {
                iops,
                cpu_ns,
                cpus: iops * cpu_ns / 1e9,
                p50_us: 1.0,
                p99_us: 2.0,
            },
            range: (iops - 1.0, iops + 1.0),
            rounds: 7,
        }
    }

    #[test]
    fn a_row_that_was_written_is_read_as_it_was() {
        for group in [None, Some(4)] {
            let row = Row {
                group,
                ..row("tokio::fs", 1000.0, 500_000.0)
            };
            assert_eq!(Row::of_csv(&row.to_csv()), Some(row));
        }
        assert_eq!(
            HEADING.split(',').count(),
            row("raw", 1.0, 1.0).to_csv().split(',').count()
        );
    }

    #[test]
    fn a_median_leaves_out_what_is_not_known() {
        assert_eq!(median(vec![3.0, f64::NAN, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
        assert!(median(vec![f64::NAN]).is_nan());
    }

    #[test]
    fn an_engine_with_more_processors_is_judged_by_its_share() {
        let busy = row("pread", 2e6, 1000.0);
        assert_eq!(busy.fair_iops(), 1e6);
        let idle = row("raw", 1e5, 1000.0);
        assert_eq!(idle.fair_iops(), 1e5);
    }
}
