//! Saying aloud that a test could not run here, and failing where it must.
//!
//! A skipped test that looks like a passed one is worse than none: each skip prints its reason past the
//! test harness's capture, and with `KIOCB_CI=1` in the environment it panics.

use std::fmt;
use std::io::{self, Write as _};

/// True where nothing may be skipped: `KIOCB_CI=1`.
pub fn forbidden() -> bool {
    std::env::var_os("KIOCB_CI").is_some_and(|value| value == "1")
}

/// Prints `skipped: reason`; see [`skip!`](crate::skip!), which also returns from the test.
///
/// # Panics
/// Where skips are [`forbidden`].
pub fn report(reason: fmt::Arguments<'_>) {
    assert!(!forbidden(), "KIOCB_CI=1 forbids skipping, but: {reason}");
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    // Straight to the descriptor: what goes through eprintln! is shown for failed tests only. And in one
    // write, or the lines of parallel tests mix.
    let line = format!("skipped: {test}: {reason}\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

/// True when the effective user is root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Prints `skipped: …` and returns from the test; panics when `KIOCB_CI=1`.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::skip::report(format_args!($($reason)*));
        return;
    }};
}

/// The value of an `io::Result` that says whether this machine can do something; skips the test if not.
#[macro_export]
macro_rules! need {
    ($possible:expr) => {
        match $possible {
            Ok(value) => value,
            Err(error) => $crate::skip!("{}: {error}", stringify!($possible)),
        }
    };
}

/// Skips the test unless it runs as root.
#[macro_export]
macro_rules! need_root {
    () => {
        if !$crate::skip::is_root() {
            $crate::skip!("needs root");
        }
    };
}
