//! Latency distributions as an SVG: one line each; time on a logarithmic axis, and on the other one nine per
//! decade, so that 99.9 % is as easy to read as 50 %. The legend stands beside the curves.

use std::ops::Range;

use crate::latency::Latency;
use crate::svg::{SOLID, Svg};

const SIZE: (f64, f64) = (1120.0, 620.0);
/// Where the curves are.
const LEFT: f64 = 100.0;
const RIGHT: f64 = 860.0;
const TOP: f64 = 72.0;
const BOTTOM: f64 = 540.0;
const LEGEND: f64 = 884.0;

/// The horizontal lines, as shares of all requests.
const SHARES: [(f64, &str); 7] = [
    (0.0, "0 %"),
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
    (0.99999, "99.999 %"),
];

/// One distribution, and how it is drawn.
pub(crate) struct Line<'a> {
    pub(crate) latency: &'a Latency,
    pub(crate) label: String,
    pub(crate) colour: &'static str,
    pub(crate) dashes: &'static str,
}

/// A line: decimal logarithm of microseconds, [`nines`] of the share.
type Curve = Vec<(f64, f64)>;

fn curve(line: &Line<'_>) -> Curve {
    let latency = line.latency;
    let finest = 1.0 / (latency.samples().max(2) as f64);
    let points = latency.curve().into_iter();
    points
        .map(|(micros, share)| (micros.log10(), nines(share.min(1.0 - finest))))
        .collect()
}

/// 0.9 is 1, 0.99 is 2, 0.999 is 3.
fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

pub(crate) fn draw(titles: &[String; 2], lines: &[Line<'_>]) -> String {
    let curves: Vec<Curve> = lines.iter().map(curve).collect();
    let (time, share) = (time_axis(&curves), share_axis(&curves));
    let mut svg = Svg::new(SIZE);
    svg.text((LEFT, 30.0), "start", 18, &titles[0]);
    svg.text((LEFT, 52.0), "start", 14, &titles[1]);
    for (at, label) in &time.ticks {
        let x = time.place(*at, LEFT..RIGHT);
        svg.line(&[(x, TOP), (x, BOTTOM)], "#e1e1e1", SOLID, 1);
        svg.text((x, BOTTOM + 22.0), "middle", 14, label);
    }
    for (at, label) in &share.ticks {
        let y = share.place(*at, BOTTOM..TOP);
        svg.line(&[(LEFT, y), (RIGHT, y)], "#e1e1e1", SOLID, 1);
        svg.text((LEFT - 10.0, y + 5.0), "end", 14, label);
    }
    let middle = f64::midpoint(LEFT, RIGHT);
    let what = "latency of one request (logarithmic)";
    svg.text((middle, BOTTOM + 54.0), "middle", 14, what);
    svg.upwards(
        (24.0, f64::midpoint(TOP, BOTTOM)),
        "requests completed within that time",
    );
    let place = |&(x, y): &(f64, f64)| (time.place(x, LEFT..RIGHT), share.place(y, BOTTOM..TOP));
    for (row, (curve, line)) in curves.iter().zip(lines).enumerate() {
        let points: Vec<_> = curve.iter().map(place).collect();
        svg.line(&points, line.colour, line.dashes, 2);
        let y = legend_row(row);
        svg.line(
            &[(LEGEND, y), (LEGEND + 40.0, y)],
            line.colour,
            line.dashes,
            3,
        );
        svg.text((LEGEND + 50.0, y + 5.0), "start", 14, &line.label);
    }
    svg.end()
}

fn legend_row(row: usize) -> f64 {
    TOP + 12.0 + 24.0 * row as f64
}

/// Whether so many lines have room in the legend.
#[cfg(test)]
pub(crate) fn has_room_for(lines: usize) -> bool {
    LEGEND > RIGHT && legend_row(lines) < SIZE.1
}

struct Axis {
    range: Range<f64>,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    fn place(&self, value: f64, on: Range<f64>) -> f64 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        on.start + share * (on.end - on.start)
    }
}

/// From the step below the fastest request to the step above the slowest, where the steps are 1, 2 and 5 of
/// each decade; ticks at all of them, or at whole decades when there are many.
fn time_axis(curves: &[Curve]) -> Axis {
    let times = || curves.iter().flatten().map(|&(time, _)| time);
    let fastest = times().reduce(f64::min).unwrap_or(0.0);
    let slowest = times().reduce(f64::max).unwrap_or(3.0);
    let of_decade = |decade: i32| [1.0_f64, 2.0, 5.0].map(|step| f64::from(decade) + step.log10());
    let steps = || (-3..=8).flat_map(of_decade);
    let start = steps().rfind(|step| *step <= fastest).unwrap_or(-3.0);
    let end = steps()
        .find(|step| *step >= slowest.max(start + 0.1))
        .unwrap_or(9.0);
    let crowded = end - start > 3.0;
    let shown = |step: &f64| (start..=end).contains(step) && (!crowded || step.fract() == 0.0);
    let ticks = steps().filter(shown);
    Axis {
        range: start..end,
        ticks: ticks.map(|step| (step, time_label(step))).collect(),
    }
}

fn share_axis(curves: &[Curve]) -> Axis {
    let reached = curves.iter().flatten().map(|&(_, nines)| nines);
    let top = reached.fold(2.0, f64::max);
    let ticks = SHARES
        .iter()
        .map(|&(share, label)| (nines(share), label.to_owned()));
    Axis {
        range: 0.0..top,
        ticks: ticks.filter(|(nines, _)| *nines <= top).collect(),
    }
}

fn time_label(log: f64) -> String {
    let micros = 10_f64.powf(log);
    match micros {
        0.0..0.999 => format!("{:.0} ns", micros * 1e3),
        0.999..999.0 => format!("{micros:.0} \u{b5}s"),
        999.0..999e3 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.0} s", micros / 1e6),
    }
}
