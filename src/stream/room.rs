//! Space that is reserved before it is written.

use crate::direct::DirectFile;
use crate::user_code;

/// How far the file has space.
#[derive(Debug)]
pub(super) struct Room {
    /// 0: none is reserved any more.
    step: u64,
    /// Where the space ends.
    end: u64,
}

impl Room {
    pub(super) fn new(step: u64, end: u64) -> Room {
        Room { step, end }
    }

    /// What is written from now on needs no step.
    pub(super) fn stop(&mut self) {
        self.step = 0;
    }

    /// Reserves what `from..to` still needs, and the rest of a step. Where that fails, the write will tell.
    pub(super) fn reserve(&mut self, file: &DirectFile, from: u64, to: u64) {
        if self.step == 0 || to <= self.end {
            return;
        }
        let start = self.end.max(from);
        let len = self.step.max(to - start);
        match file.reserve(start, len) {
            Ok(()) => self.end = start.saturating_add(len),
            Err(error) => {
                self.step = 0;
                user_code::debug(format_args!(
                    "a stream reserves no space, and goes on without: {error}"
                ));
            }
        }
    }
}
