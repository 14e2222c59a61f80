//! An SVG, written element by element.

use std::fmt::Write as _;

/// A line without dashes.
pub(crate) const SOLID: &str = "none";

/// A drawing in the making.
pub(crate) struct Svg(String);

impl Svg {
    pub(crate) fn new((width, height): (f64, f64)) -> Svg {
        Svg(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" fill=\"#3c3c3c\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        ))
    }

    pub(crate) fn end(self) -> String {
        self.0 + "</svg>\n"
    }

    pub(crate) fn line(&mut self, points: &[(f64, f64)], colour: &str, dashes: &str, width: u32) {
        let points = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}"));
        let points = points.collect::<Vec<_>>().join(" ");
        self.add(format_args!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" \
             stroke-dasharray=\"{dashes}\"/>"
        ));
    }

    pub(crate) fn text(&mut self, (x, y): (f64, f64), anchor: &str, size: u32, text: &str) {
        let text = escaped(text);
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    pub(crate) fn upwards(&mut self, (x, y): (f64, f64), text: &str) {
        self.add(format_args!(
            "<g transform=\"translate({x} {y}) rotate(-90)\">"
        ));
        self.text((0.0, 0.0), "middle", 14, text);
        self.add(format_args!("</g>"));
    }

    /// An element that is written already.
    pub(crate) fn add(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{element}").expect("a String takes everything");
    }
}

/// A path may have any character; those that XML has no way to write become `\u{fffd}`.
fn escaped(text: &str) -> String {
    let character = |character| match character {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        other if other.is_control() => '\u{fffd}'.to_string(),
        other => other.to_string(),
    };
    text.chars().map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_path_does_not_break_the_drawing() {
        assert_eq!(escaped("a<b>&\u{1b}\""), "a&lt;b&gt;&amp;\u{fffd}\"");
    }
}
