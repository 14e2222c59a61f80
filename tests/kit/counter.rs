//! How often something happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Counts how often something happened. Clones are the same counter.
///
/// Sequentially consistent, so that what is read agrees with the order of all else that a test does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Arc<AtomicUsize>);

impl Counter {
    /// Returns how often it has happened, this time included.
    pub(crate) fn add(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Blocks until it has happened `count` times. The watchdog of the test bounds it.
    pub(crate) fn until(&self, count: usize) {
        while self.get() < count {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
