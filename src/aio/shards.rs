//! The contexts of one `Aio`, and their end.

use super::private::PrivateContexts;
use crate::engine::{Config, Engine};
use crate::error::{AioError, SetupError};
use crate::user_code;
use std::sync::Arc;
use std::time::Instant;

/// The engines of one `Aio`, at least one, and the private ones of threads that wait. Dropping them ends them.
#[derive(Debug)]
pub(super) struct Shards {
    shared: Vec<Arc<Engine>>,
    private: PrivateContexts,
}

impl Shards {
    pub(super) fn launch(count: usize, config: &Config) -> Result<Shards, SetupError> {
        let mut shards = Shards {
            shared: Vec::new(),
            private: PrivateContexts::beside(config, 0),
        };
        let reserved = shards.shared.try_reserve_exact(count);
        reserved.map_err(|_| SetupError::TooManyShards(count))?;
        for _ in 0..count {
            // Those that were made are ended where one fails.
            shards.shared.push(Engine::launch(config.clone())?);
        }
        let depths = shards.shared.iter().map(|engine| engine.depth());
        shards.private = PrivateContexts::beside(config, depths.min().unwrap_or(0));
        Ok(shards)
    }

    /// Those that requests are submitted to: one for each shard.
    pub(super) fn shared(&self) -> &[Arc<Engine>] {
        &self.shared
    }

    pub(super) fn private(&self) -> &PrivateContexts {
        &self.private
    }

    /// All that there are now. None is added after `close`.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Engine>> {
        self.shared.iter().chain(self.private.engines())
    }

    /// The number of places for engines: see `get`.
    pub(super) fn places(&self) -> usize {
        self.shared.len() + self.private.len()
    }

    /// The engine in this place. It stays there; a place without one may get one.
    pub(super) fn get(&self, place: usize) -> Option<&Arc<Engine>> {
        match place.checked_sub(self.shared.len()) {
            None => self.shared.get(place),
            Some(place) => self.private.get(place),
        }
    }

    /// Refuses new requests from now on.
    pub(super) fn close(&self) {
        self.private.close(); // before: none is made that is not closed
        self.all().for_each(|engine| engine.close());
    }

    /// Waits until all contexts are destroyed. Those without a completion thread are destroyed at once, each on
    /// a thread of its own, if there are several: one takes tens of milliseconds.
    pub(super) fn await_end(&self, deadline: Option<Instant>) -> Result<(), AioError> {
        if self.all().nth(1).is_some() {
            self.end_in_background();
        }
        let ended = self.all().map(|engine| engine.await_end(deadline));
        if ended.fold(true, |all, ended| all & ended) {
            Ok(())
        } else {
            Err(AioError::TimedOut)
        }
    }

    pub(super) fn end_in_background(&self) {
        self.all().for_each(|engine| engine.end_in_background());
    }

    /// Ends all contexts: blocks until nothing is outstanding, or lets the end go on in the background where
    /// this thread must not block, or a shutdown has given up waiting. In a forked child it does nothing.
    pub(super) fn end(&self) {
        if self.all().any(|engine| !engine.is_here()) {
            return; // a forked child: threads and contexts are the parent's
        }
        self.close();
        // Stopped before: a shutdown has given up waiting.
        let given_up = self
            .all()
            .fold(false, |before, engine| before | engine.stop());
        if given_up || user_code::must_not_block() {
            self.end_in_background();
        } else {
            let _ = self.await_end(None); // without a deadline it has ended
        }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.end();
    }
}
