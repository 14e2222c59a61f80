//! The bar on stderr; nothing when that is not a terminal.

use indicatif::{ProgressBar, ProgressStyle};

use crate::engines::Engine;
use crate::measure;
use crate::options::Options;
use crate::units;

const STYLE: &str = "{prefix:>9} [{bar:40}] {msg}";

pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// For all engines together; the unit is a millisecond.
    pub(crate) fn measuring(options: &Options) -> Progress {
        let total = measure::total_time(options) * u32::try_from(options.runs()).unwrap_or(1);
        Progress::new(u64::try_from(total.as_millis()).unwrap_or(u64::MAX))
    }

    /// For filling a file; the unit is a byte.
    pub(crate) fn filling(bytes: u64) -> Progress {
        let progress = Progress::new(bytes);
        progress.0.set_prefix("filling");
        progress
    }

    fn new(length: u64) -> Progress {
        let style = ProgressStyle::with_template(STYLE)
            .expect("a valid template")
            .progress_chars("=> ");
        Progress(ProgressBar::new(length).with_style(style))
    }

    pub(crate) fn filled(&self, bytes: u64, rate: f64) {
        self.0.set_position(bytes);
        self.0
            .set_message(format!("{:.0} MiB/s", rate / f64::from(1 << 20)));
    }

    pub(crate) fn engine(&self, engine: &Engine) {
        self.0.set_prefix(engine.name);
        self.0.set_message("");
    }

    pub(crate) fn measured(&self, milliseconds: u64, iops: f64) {
        self.0.inc(milliseconds);
        self.0.set_message(format!("{} IOPS", units::grouped(iops)));
    }

    /// A line on stderr, above the bar.
    pub(crate) fn say(&self, line: &str) {
        self.0.suspend(|| eprintln!("{line}"));
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
