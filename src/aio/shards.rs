//! The contexts of one `Aio`, and their end.

use crate::engine::{Config, Engine};
use crate::error::{AioError, SetupError};
use crate::user_code;
use std::sync::Arc;
use std::time::Instant;

/// The engines of one `Aio`, at least one. Dropping them ends them.
#[derive(Debug)]
pub(super) struct Shards(Vec<Arc<Engine>>);

impl Shards {
    pub(super) fn launch(count: usize, config: &Config) -> Result<Shards, SetupError> {
        let mut shards = Shards(Vec::new());
        let reserved = shards.0.try_reserve_exact(count);
        reserved.map_err(|_| SetupError::TooManyShards(count))?;
        for _ in 0..count {
            // Those that were made are ended where one fails.
            shards.0.push(Engine::launch(config.clone())?);
        }
        Ok(shards)
    }

    pub(super) fn engines(&self) -> &[Arc<Engine>] {
        &self.0
    }

    /// Waits until all contexts are destroyed. Under `Dispatch::Manual` several are destroyed at once, each
    /// on a thread of its own: one takes tens of milliseconds.
    pub(super) fn await_end(&self, deadline: Option<Instant>) -> Result<(), AioError> {
        if self.0.len() > 1 {
            self.0.iter().for_each(|engine| engine.end_in_background());
        }
        let ended = self.0.iter().map(|engine| engine.await_end(deadline));
        if ended.fold(true, |all, ended| all & ended) {
            Ok(())
        } else {
            Err(AioError::TimedOut)
        }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        if self.0.iter().any(|engine| !engine.is_here()) {
            return; // a forked child: threads and contexts are the parent's
        }
        self.0.iter().for_each(|engine| engine.close());
        // Stopped before: a shutdown has given up waiting.
        let given_up = self
            .0
            .iter()
            .fold(false, |before, engine| before | engine.stop());
        if given_up || user_code::must_not_block() {
            self.0.iter().for_each(|engine| engine.end_in_background());
        } else {
            let _ = self.await_end(None); // without a deadline it has ended
        }
    }
}
