//! A store that is open and recovered, to be run once by a driver.

use crate::Result;
use crate::engine::Engine;
use crate::files::{Config, Files};
use crate::meta::Meta;
use crate::recover::{Recovered, recover};
use std::path::Path;

pub(crate) struct Store {
    pub(crate) files: Files,
    pub(crate) meta: Meta,
    pub(crate) recovered: Recovered,
    config: Config,
}

impl Store {
    /// Opens a store, and recovers it if it has not been closed.
    pub(crate) fn open(dir: &Path, config: Config) -> Result<Store> {
        let (files, mut meta) = Files::open(dir)?;
        let recovered = recover(&files, &mut meta);
        let recovered = recovered.map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Store {
            files,
            recovered,
            config: Config {
                checkpoint_after: config.checkpoint_after.min(meta.ring.bytes() / 2),
                ..config
            },
            meta,
        })
    }

    /// The engine, and the files for its driver, which can ask for atomic writes or not.
    pub(crate) fn start(mut self, can_write_atomically: bool) -> Result<(Engine, Files, Config)> {
        let config = &mut self.config;
        config.atomic &= can_write_atomically && self.files.writes_atomically();
        config.images &= !config.atomic;
        let reserved = self.files.data.len()?;
        let engine = Engine::new(*config, self.meta, reserved)?;
        Ok((engine, self.files, *config))
    }
}
