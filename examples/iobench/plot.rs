//! The latency distribution as an SVG: one line per engine; time on a logarithmic axis, and on the other one
//! nine per decade, so that 99.9 % is as easy to read as 50 %.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::Result;
use crate::latency::Latency;
use crate::measure::Outcome;
use crate::options::Options;
use crate::target::Target;
use crate::units;

const SIZE: (u32, u32) = (960, 600);
const FONT: &str = "sans-serif";
const TITLE_SIZE: u32 = 20;
const TEXT_SIZE: u32 = 15;
const GRID: RGBColor = RGBColor(225, 225, 225);
const INK: RGBColor = RGBColor(60, 60, 60);
/// Told apart by colour-blind readers too (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];
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

/// A line: decimal logarithm of microseconds, [`nines`] of the share.
type Curve = Vec<(f64, f64)>;

pub(crate) fn write(
    path: &Path,
    options: &Options,
    target: &Target,
    outcomes: &[Outcome],
) -> Result<()> {
    let curves: Vec<Curve> = outcomes
        .iter()
        .map(|outcome| curve(&outcome.latency))
        .collect();
    let labels: Vec<String> = outcomes.iter().map(label).collect();
    let title = format!(
        "{} of {}: {target}",
        options.rw.name(),
        units::size(options.bs as u64)
    );
    draw(path, &title, &labels, &curves)
        .map_err(|error| format!("{}: {error}", path.display()).into())
}

fn label(outcome: &Outcome) -> String {
    let times = if outcome.threads > 1 {
        format!("{} x ", outcome.threads)
    } else {
        String::new()
    };
    format!("{} ({times}depth {})", outcome.engine, outcome.depth)
}

fn curve(latency: &Latency) -> Curve {
    let finest = 1.0 / (latency.samples().max(2) as f64);
    latency
        .curve()
        .into_iter()
        .map(|(micros, share)| (micros.log10(), nines(share.min(1.0 - finest))))
        .collect()
}

/// 0.9 is 1, 0.99 is 2, 0.999 is 3.
fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Axis, Axis>>;
/// The drawing library's errors are not `Send`; [`write`] makes sentences of them.
type Drawn = Result<(), Box<dyn Error>>;

fn draw(path: &Path, title: &str, labels: &[String], curves: &[Curve]) -> Drawn {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT, TITLE_SIZE).into_font().color(&INK))
        .margin(16)
        .margin_right(32)
        .x_label_area_size(56)
        .y_label_area_size(92)
        .build_cartesian_2d(time_axis(curves), share_axis(curves))?;
    draw_axes(&mut chart)?;
    for ((curve, label), colour) in curves.iter().zip(labels).zip(COLOURS.iter().cycle()) {
        let line = LineSeries::new(curve.iter().copied(), colour.stroke_width(2));
        let sample = |(x, y)| PathElement::new([(x, y), (x + 24, y)], colour.stroke_width(3));
        chart.draw_series(line)?.label(label).legend(sample);
    }
    draw_legend(&mut chart)?;
    Ok(area.present()?)
}

fn draw_axes(chart: &mut Chart<'_>) -> Drawn {
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style((FONT, TEXT_SIZE).into_font().color(&INK))
        .axis_desc_style((FONT, TEXT_SIZE).into_font().color(&INK))
        .x_desc("latency of one request (ns, \u{b5}s, ms; log scale)")
        .y_desc("requests completed within that time (%)")
        .draw()?;
    Ok(())
}

fn draw_legend(chart: &mut Chart<'_>) -> Drawn {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .margin(12)
        .legend_area_size(30)
        .background_style(WHITE.mix(0.9))
        .label_font((FONT, TEXT_SIZE).into_font().color(&INK))
        .draw()?;
    Ok(())
}

/// A linear axis with ticks of our choice.
#[derive(Clone)]
struct Axis {
    range: Range<f64>,
    ticks: Vec<f64>,
    label: fn(f64) -> String,
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range.clone()).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        (self.label)(*value)
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
    Axis {
        range: start..end,
        ticks: steps().filter(shown).collect(),
        label: time_label,
    }
}

fn share_axis(curves: &[Curve]) -> Axis {
    let top = curves
        .iter()
        .flatten()
        .map(|&(_, nines)| nines)
        .fold(2.0, f64::max);
    let ticks = SHARES
        .iter()
        .map(|&(share, _)| nines(share))
        .filter(|nines| *nines <= top)
        .collect();
    Axis {
        range: 0.0..top,
        ticks,
        label: share_label,
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

fn share_label(nine: f64) -> String {
    let known = SHARES
        .iter()
        .find(|(share, _)| (nines(*share) - nine).abs() < 1e-6);
    known.map(|(_, label)| (*label).into()).unwrap_or_default()
}
