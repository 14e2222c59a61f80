//! The ratios to the yardstick, and where another crate is ahead of each of kiocb's ways.

use std::collections::BTreeMap;

use crate::engines::Whose;
use crate::row::Row;

/// What two medians may differ by chance.
const NOISE: f64 = 0.03;

/// One medium, depth and number of threads: of each engine its fastest group.
pub(crate) struct Cell<'a> {
    pub(crate) medium: &'a str,
    pub(crate) depth: usize,
    pub(crate) threads: usize,
    pub(crate) best: Vec<&'a Row>,
    /// The yardstick as it is usually written: all that are ready leave together.
    all_at_once: Option<&'a Row>,
}

/// In the order of the record.
pub(crate) fn cells(rows: &[Row]) -> Vec<Cell<'_>> {
    let mut cells: Vec<Cell<'_>> = Vec::new();
    for row in rows {
        let known = cells.iter_mut().find(|cell| cell.is_of(row));
        match known {
            Some(cell) => cell.add(row),
            None => cells.push(Cell::of(row)),
        }
    }
    cells
}

impl<'a> Cell<'a> {
    fn of(row: &'a Row) -> Cell<'a> {
        let mut cell = Cell {
            medium: &row.medium,
            depth: row.depth,
            threads: row.threads,
            best: Vec::new(),
            all_at_once: None,
        };
        cell.add(row);
        cell
    }

    fn is_of(&self, row: &Row) -> bool {
        (self.medium, self.depth, self.threads) == (&row.medium, row.depth, row.threads)
    }

    fn add(&mut self, row: &'a Row) {
        if row.whose() == Whose::Yardstick && row.group.is_none() {
            self.all_at_once = Some(row);
        }
        match self.best.iter_mut().find(|best| best.engine == row.engine) {
            Some(best) if best.fair_iops() >= row.fair_iops() => {}
            Some(best) => *best = row,
            None => self.best.push(row),
        }
    }

    fn those(&self, whose: Whose) -> impl Iterator<Item = &'a Row> {
        let rows = self.best.iter().copied();
        rows.filter(move |row| row.whose() == whose)
    }

    /// raw-best.
    fn yardstick(&self) -> Option<&'a Row> {
        self.those(Whose::Yardstick).next()
    }

    /// `raw` is the one that submits all at once.
    fn row(&self, engine: &str) -> Option<&'a Row> {
        match engine {
            "raw" => self.all_at_once,
            _ => self.best.iter().copied().find(|row| row.engine == engine),
        }
    }

    /// IOPS as a share of raw-best's.
    pub(crate) fn ratio(&self, engine: &str) -> Option<f64> {
        known(self.row(engine)?.fair_iops() / self.yardstick()?.fair_iops())
    }

    /// Processor time of a read, as a multiple of raw-best's.
    fn cpu_ratio(&self, engine: &str) -> Option<f64> {
        known(self.row(engine)?.median.cpu_ns / self.yardstick()?.median.cpu_ns)
    }

    /// The peers that are ahead of each of kiocb's ways.
    pub(crate) fn losses(&self) -> Vec<&'a Row> {
        let peers = self.those(Whose::Peer);
        peers
            .filter(|peer| self.those(Whose::Ours).all(|ours| is_ahead(peer, ours)))
            .collect()
    }
}

/// More IOPS, or as many for less of the processor.
fn is_ahead(peer: &Row, ours: &Row) -> bool {
    let iops = peer.fair_iops() / ours.fair_iops();
    let cpu = peer.median.cpu_ns / ours.median.cpu_ns;
    iops > 1.0 + NOISE || (iops >= 1.0 - NOISE && cpu < 1.0 - NOISE)
}

/// A busy machine may give a slice no time.
fn known(ratio: f64) -> Option<f64> {
    ratio.is_finite().then_some(ratio)
}

pub(crate) fn print(rows: &[Row]) {
    let cells = cells(rows);
    let mut engines: Vec<&str> = Vec::new();
    for row in rows {
        if !engines.contains(&&*row.engine) {
            engines.push(&row.engine);
        }
    }
    println!("IOPS by raw-best's (raw: all that are ready at once)");
    print_table(&cells, &engines, |cell, engine| cell.ratio(engine));
    println!("\nprocessor time of a read by raw-best's");
    print_table(&cells, &engines, |cell, engine| cell.cpu_ratio(engine));
    print_losses(&cells);
}

fn print_table(cells: &[Cell<'_>], engines: &[&str], ratio: fn(&Cell<'_>, &str) -> Option<f64>) {
    let widest = cells.iter().map(|cell| cell.medium.len()).max();
    let first = widest.unwrap_or(0).max("medium".len());
    let titles: String = engines
        .iter()
        .map(|engine| format!(" {engine:>6}"))
        .collect();
    println!("{:<first$} depth threads{titles}", "medium");
    for cell in cells {
        let shown = |engine: &&str| {
            let width = engine.len().max(6);
            let ratio = ratio(cell, engine).map_or("-".into(), |ratio| format!("{ratio:.2}"));
            format!(" {ratio:>width$}")
        };
        let ratios: String = engines.iter().map(shown).collect();
        let Cell {
            medium,
            depth,
            threads,
            ..
        } = cell;
        println!("{medium:<first$} {depth:>5} {threads:>7}{ratios}");
    }
}

fn print_losses(cells: &[Cell<'_>]) {
    let lost: Vec<_> = cells
        .iter()
        .filter(|cell| !cell.losses().is_empty())
        .collect();
    println!(
        "\n{} of {} cells have a crate that is ahead of each of kiocb's ways",
        lost.len(),
        cells.len()
    );
    let mut by_peer: BTreeMap<&str, usize> = BTreeMap::new();
    for cell in lost {
        let Cell {
            medium,
            depth,
            threads,
            ..
        } = cell;
        for row in cell.losses() {
            *by_peer.entry(&row.engine).or_default() += 1;
            let ours = cell
                .those(Whose::Ours)
                .max_by(|a, b| a.fair_iops().total_cmp(&b.fair_iops()));
            let Some(ours) = ours else { continue };
            println!(
                "  {medium}, depth {depth}, threads {threads}: {} {:.0} IOPS at {:.0} ns; {} {:.0} at {:.0}",
                row.engine,
                row.fair_iops(),
                row.median.cpu_ns,
                ours.engine,
                ours.fair_iops(),
                ours.median.cpu_ns
            );
        }
    }
    for (engine, count) in by_peer {
        println!("  {engine}: {count} cells");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::row;

    /// Who is ahead, with a yardstick of 1000 reads a second.
    fn losses(rows: &[(&str, f64, f64)]) -> Vec<String> {
        let rows: Vec<Row> = rows
            .iter()
            .map(|&(name, iops, cpu)| row(name, iops, cpu))
            .collect();
        let cells = cells(&rows);
        cells[0]
            .losses()
            .iter()
            .map(|row| row.engine.clone())
            .collect()
    }

    #[test]
    fn a_peer_with_more_reads_is_ahead() {
        assert_eq!(
            losses(&[("callback", 1000.0, 10.0), ("compio", 1100.0, 20.0)]),
            ["compio"]
        );
        assert!(losses(&[("callback", 1000.0, 10.0), ("compio", 1020.0, 10.0)]).is_empty());
    }

    #[test]
    fn a_peer_with_as_many_reads_for_less_processor_is_ahead() {
        assert_eq!(
            losses(&[("callback", 1000.0, 10.0), ("compio", 990.0, 9.0)]),
            ["compio"]
        );
    }

    #[test]
    fn one_of_our_ways_that_is_not_behind_is_enough() {
        let rows = [
            ("callback", 1000.0, 10.0),
            ("manual", 1200.0, 10.0),
            ("compio", 1100.0, 10.0),
        ];
        assert!(losses(&rows).is_empty());
    }

    #[test]
    fn the_yardstick_is_the_fastest_group_and_raw_the_one_without() {
        let slow = row("raw", 1000.0, 10.0);
        let fast = Row {
            group: Some(4),
            ..row("raw", 1250.0, 10.0)
        };
        let rows = [slow, fast, row("callback", 1500.0, 10.0)];
        let cells = cells(&rows);
        assert_eq!(cells[0].yardstick().map(Row::fair_iops), Some(1250.0));
        assert_eq!(cells[0].ratio("raw"), Some(0.8));
        assert_eq!(cells[0].ratio("callback"), Some(1.2));
        assert_eq!(cells[0].cpu_ratio("callback"), Some(1.0));
        assert_eq!(cells[0].ratio("compio"), None);
    }

    #[test]
    fn there_is_no_ratio_where_the_yardstick_did_nothing() {
        let rows = [row("raw", 0.0, f64::NAN), row("callback", 1000.0, 10.0)];
        assert_eq!(ratio_of_callback(&rows), None);
    }

    fn ratio_of_callback(rows: &[Row]) -> Option<f64> {
        cells(rows)[0].ratio("callback")
    }
}
