//! The record as a picture: a panel for each medium and number of threads, in it each engine's IOPS as a share
//! of raw-best's over the depth. A red ring is a peer that is ahead of each of kiocb's ways.

use std::fs;
use std::path::Path;

use crate::Result;
use crate::row::Row;
use crate::svg::{SOLID, Svg};
use crate::verdict::{self, Cell};

const WIDTH: f64 = 1180.0;
/// A panel's, with what stands around it.
const PANEL: (f64, f64) = (192.0, 250.0);
const LEFT: f64 = 56.0;
const TOP: f64 = 84.0;
const MARGIN: (f64, f64) = (18.0, 46.0);
const LEGEND: f64 = LEFT + 5.0 * PANEL.0 + 8.0;
/// What lies outside is drawn at the edge.
const RATIOS: (f64, f64) = (0.0, 1.6);
const LOSS: &str = "#d40000";

const DASHED: &str = "6 3";
const DOTTED: &str = "2 3";
/// Ours are solid and thick, peers dashed and thin; colours that colour-blind readers tell apart.
const LINES: [(&str, &str, &str, u32); 14] = [
    ("raw", "#000000", DASHED, 1),
    ("callback", "#0072b2", SOLID, 3),
    ("manual", "#009e73", SOLID, 3),
    ("future", "#cc79a7", SOLID, 2),
    ("await", "#7a5c1e", SOLID, 2),
    ("batch", "#e69f00", SOLID, 2),
    ("wait", "#56b4e9", SOLID, 3),
    ("io-uring", "#d55e00", DASHED, 2),
    ("tokio-uring", "#882255", DASHED, 1),
    ("compio", "#4b2e83", DASHED, 1),
    ("linux-aio-tokio", "#117733", DOTTED, 2),
    ("vmm-sys-util", "#555555", DOTTED, 2),
    ("tokio::fs", "#aa8800", DOTTED, 1),
    ("pread", "#999999", DASHED, 2),
];

pub(crate) fn write(path: &Path, rows: &[Row]) -> Result<()> {
    let text = draw(&verdict::cells(rows));
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn draw(cells: &[Cell<'_>]) -> String {
    let media = distinct(cells.iter().map(|cell| cell.medium));
    let threads = distinct(cells.iter().map(|cell| cell.threads));
    let depths = distinct(cells.iter().map(|cell| cell.depth));
    let height = (TOP + PANEL.1 * threads.len() as f64).max(TOP + 24.0 * (LINES.len() + 3) as f64);
    let mut svg = Svg::new((WIDTH, height));
    svg.text(
        (LEFT, 28.0),
        "start",
        18,
        "Random 4 KiB reads: IOPS as a share of raw-best's, by medium and depth",
    );
    let what = "raw-best: bare system calls, with the fastest of up to seven group sizes. Solid: kiocb. \
                Dashed, dotted: other crates. Beyond 1.6: at the edge.";
    svg.text((LEFT, 50.0), "start", 13, what);
    for (row, &threads) in threads.iter().enumerate() {
        for (column, &medium) in media.iter().enumerate() {
            let panel = Panel::at(column, row, &depths);
            panel.frame(&mut svg, medium, threads, column == 0);
            let here = |cell: &&Cell<'_>| cell.medium == medium && cell.threads == threads;
            panel.curves(&mut svg, &cells.iter().filter(here).collect::<Vec<_>>());
        }
    }
    svg.upwards(
        (18.0, TOP + PANEL.1 * threads.len() as f64 / 2.0),
        "IOPS / raw-best's IOPS",
    );
    legend(&mut svg);
    svg.end()
}

/// Each once, in the order in which they come.
fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut each = Vec::new();
    for one in all {
        if !each.contains(&one) {
            each.push(one);
        }
    }
    each
}

struct Panel<'a> {
    left: f64,
    top: f64,
    depths: &'a [usize],
}

impl<'a> Panel<'a> {
    fn at(column: usize, row: usize, depths: &'a [usize]) -> Panel<'a> {
        Panel {
            left: LEFT + PANEL.0 * column as f64,
            top: TOP + PANEL.1 * row as f64,
            depths,
        }
    }

    fn right(&self) -> f64 {
        self.left + PANEL.0 - MARGIN.0
    }

    fn bottom(&self) -> f64 {
        self.top + PANEL.1 - MARGIN.1
    }

    /// Depths stand side by side at equal distances.
    fn x(&self, depth: usize) -> f64 {
        let place = self
            .depths
            .iter()
            .position(|known| *known == depth)
            .unwrap_or(0);
        let step = (self.right() - self.left) / self.depths.len() as f64;
        self.left + step * (place as f64 + 0.5)
    }

    fn y(&self, ratio: f64) -> f64 {
        let (least, most) = RATIOS;
        let share = (ratio.clamp(least, most) - least) / (most - least);
        self.bottom() - share * (self.bottom() - self.top)
    }

    fn frame(&self, svg: &mut Svg, medium: &str, threads: usize, labels: bool) {
        for tenth in [0, 2, 4, 6, 8, 10, 12, 14, 16] {
            let ratio = f64::from(tenth) / 10.0;
            let (y, main) = (self.y(ratio), tenth == 10);
            let colour = if main { "#000000" } else { "#e1e1e1" };
            svg.line(&[(self.left, y), (self.right(), y)], colour, SOLID, 1);
            if labels {
                svg.text(
                    (self.left - 6.0, y + 4.0),
                    "end",
                    12,
                    &format!("{ratio:.1}"),
                );
            }
        }
        for &depth in self.depths {
            svg.text(
                (self.x(depth), self.bottom() + 16.0),
                "middle",
                12,
                &depth.to_string(),
            );
        }
        let loops = if threads == 1 {
            "1 thread".into()
        } else {
            format!("{threads} threads")
        };
        svg.text(
            (self.left, self.top - 8.0),
            "start",
            13,
            &format!("{medium}, {loops}"),
        );
    }

    fn curves(&self, svg: &mut Svg, cells: &[&Cell<'_>]) {
        for (engine, colour, dashes, width) in LINES {
            let point = |cell: &&Cell<'_>| Some((self.x(cell.depth), self.y(cell.ratio(engine)?)));
            let points: Vec<_> = cells.iter().filter_map(point).collect();
            match points[..] {
                [(x, y)] => svg.line(&[(x - 7.0, y), (x + 7.0, y)], colour, dashes, width),
                _ => svg.line(&points, colour, dashes, width),
            }
        }
        for cell in cells {
            for lost in cell.losses() {
                let ratio = cell.ratio(&lost.engine).unwrap_or(0.0);
                ring(svg, (self.x(cell.depth), self.y(ratio)));
            }
        }
    }
}

/// What marks a loss.
fn ring(svg: &mut Svg, (x, y): (f64, f64)) {
    svg.add(format_args!(
        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"6\" fill=\"none\" stroke=\"{LOSS}\" stroke-width=\"2\"/>"
    ));
}

fn legend(svg: &mut Svg) {
    let row = |number: usize| TOP + 24.0 * number as f64;
    for (number, (engine, colour, dashes, width)) in LINES.iter().enumerate() {
        let y = row(number);
        svg.line(&[(LEGEND, y), (LEGEND + 30.0, y)], colour, dashes, *width);
        let name = if *engine == "raw" {
            "raw, all at once"
        } else {
            engine
        };
        svg.text((LEGEND + 38.0, y + 4.0), "start", 13, name);
    }
    let y = row(LINES.len());
    ring(svg, (LEGEND + 15.0, y));
    svg.text((LEGEND + 38.0, y + 4.0), "start", 13, "ahead of kiocb");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::ENGINES;
    use crate::plan::{Mode, Plan};
    use crate::row::tests::row;
    use std::collections::BTreeSet;

    #[test]
    fn each_engine_of_the_table_has_a_line_of_its_own() {
        let plan = Plan {
            mode: Mode::Table,
            media: vec![("a".into(), "a".into())],
            engines: vec![],
            depths: vec![],
            threads: vec![],
            busy: 0,
        };
        let cells = plan.cells();
        let runs = cells.iter().flat_map(|cell| &cell.runs);
        let names: BTreeSet<_> = runs.map(|run| run.engine.name).collect();
        assert_eq!(names, LINES.iter().map(|line| line.0).collect());
        let looks: BTreeSet<_> = LINES.iter().map(|line| (line.1, line.2)).collect();
        assert_eq!(looks.len(), LINES.len());
        assert!(names.len() < ENGINES.len(), "some are for other modes");
    }

    #[test]
    fn a_loss_is_ringed_and_a_win_is_not() {
        let rings = |peer| {
            let rows = [
                row("raw", 1000.0, 10.0),
                row("manual", 1000.0, 10.0),
                row("compio", peer, 10.0),
            ];
            draw(&verdict::cells(&rows)).matches("<circle").count()
        };
        assert_eq!(rings(900.0), 1, "the legend's");
        assert_eq!(rings(1200.0), 2);
    }
}
