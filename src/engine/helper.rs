//! The queue of the thread that may block, `kiocb-helper`: it submits requests that would have blocked
//! another thread, and pumps for threads with a deadline. Its loop is `help_out` in `submit`.
//!
//! The thread is started when it is needed and ends when it has had nothing to do for a while: blocking I/O
//! is slow enough to pay for that.

use super::request::List;
use crate::sync::{Condvar, Mutex, now};
use std::time::Duration;

/// How long the thread waits for more work before it ends.
const LINGER: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
struct Inside {
    /// To be submitted again.
    list: List,
    /// The backlog is to be pumped.
    pump: bool,
    /// The helper thread runs, and looks again before it ends.
    running: bool,
}

#[derive(Debug)]
pub(super) struct Helper {
    inside: Mutex<Inside>,
    news: Condvar,
}

/// What the helper thread has to do.
#[derive(Debug)]
pub(super) struct HelperWork {
    pub(super) list: List,
    pub(super) pump: bool,
}

impl Helper {
    pub(super) fn new() -> Helper {
        Helper {
            inside: Mutex::new(Inside::default()),
            news: Condvar::new(),
        }
    }

    /// Adds requests that are to be submitted again. Returns whether a thread must be started.
    pub(super) fn put(&self, list: List) -> bool {
        let mut inside = self.inside.lock();
        inside.list.append(list);
        self.begin(&mut inside)
    }

    /// Asks for the backlog to be pumped. Returns whether a thread must be started.
    pub(super) fn ask_to_pump(&self) -> bool {
        let mut inside = self.inside.lock();
        inside.pump = true;
        self.begin(&mut inside)
    }

    fn begin(&self, inside: &mut Inside) -> bool {
        self.news.notify_all();
        !std::mem::replace(&mut inside.running, true)
    }

    /// Returns all there is to do, and waits for it a while if the thread may `linger`. Returns `None` if the
    /// thread is to end.
    pub(super) fn take(&self, linger: bool) -> Option<HelperWork> {
        let deadline = now() + if linger { LINGER } else { Duration::ZERO };
        let mut inside = self.inside.lock();
        while inside.list.len() == 0 && !inside.pump {
            if now() >= deadline {
                inside.running = false;
                return None;
            }
            self.news.wait_until(&mut inside, deadline);
        }
        Some(HelperWork {
            list: std::mem::take(&mut inside.list),
            pump: std::mem::take(&mut inside.pump),
        })
    }
}
