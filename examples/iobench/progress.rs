//! The bar on stderr; nothing when that is not a terminal.

use indicatif::{ProgressBar, ProgressStyle};

const STYLE: &str = "{prefix:>9} [{bar:40}] {msg}";

pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// For so many units, whatever they are.
    pub(crate) fn of(length: u64) -> Progress {
        let style = ProgressStyle::with_template(STYLE)
            .expect("a valid template")
            .progress_chars("=> ");
        Progress(ProgressBar::new(length).with_style(style))
    }

    /// What goes on now.
    pub(crate) fn name(&self, name: &str) {
        self.0.set_prefix(name.to_owned());
        self.0.set_message("");
    }

    pub(crate) fn at(&self, position: u64, message: &str) {
        self.0.set_position(position);
        self.0.set_message(message.to_owned());
    }

    pub(crate) fn step(&self, units: u64, message: &str) {
        self.0.inc(units);
        self.0.set_message(message.to_owned());
    }

    /// A line on stderr, above the bar.
    #[allow(dead_code, reason = "pagestore has nothing to say meanwhile")]
    pub(crate) fn say(&self, line: &str) {
        self.0.suspend(|| eprintln!("{line}"));
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
