//! When a test hangs.

use std::time::Duration;

/// A test that takes longer hangs: a minute, or as many seconds as `KIOCB_PATIENCE` says, for a machine
/// that is emulated or traced. Far above what any test takes: it is no assertion about speed.
pub(crate) fn patience() -> Duration {
    let seconds = std::env::var("KIOCB_PATIENCE").map(|seconds| {
        let number = seconds.parse();
        number.expect("KIOCB_PATIENCE is a number of seconds")
    });
    Duration::from_secs(seconds.unwrap_or(60))
}
