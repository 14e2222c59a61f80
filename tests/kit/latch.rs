//! Something that threads wait for.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Closed at first, and opened once: then all that wait for it go on. Clones are the same latch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latch(Arc<(Mutex<bool>, Condvar)>);

impl Latch {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub(crate) fn wait(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(open, |open| !*open).unwrap());
    }

    /// Returns whether it is open.
    pub(crate) fn wait_timeout(&self, timeout: Duration) -> bool {
        let open = self.0.0.lock().unwrap();
        let waited = self.0.1.wait_timeout_while(open, timeout, |open| !*open);
        *waited.unwrap().0
    }
}
