//! The steps of a checkpoint: when one begins, what each asks of the driver, and what follows from its end.

use super::Engine;
use crate::checkpoint::Step;
use crate::files::Fault;
use crate::io::Io;
use crate::page;
use std::sync::Arc;

/// The data file grows by multiples of this.
const GROW: u64 = 1 << 20;

impl Engine {
    pub(super) fn wants_checkpoint(&self) -> bool {
        let used = self.log.in_use();
        used > self.config.checkpoint_after
            || self.pool.dirty() > self.pool.capacity() / 2
            || self.closing && used > 0 && self.log.is_idle()
    }

    /// Every record is in a batch before the one where recovery will begin. So the first that the log has of a page
    /// from there on is an image.
    pub(super) fn begin_checkpoint(&mut self) {
        let dirty = self.pool.begin_checkpoint();
        let (redo, last) = (self.log.next(), self.log.last());
        self.checkpoint.begin(dirty, redo, last, self.pool.pages());
    }

    pub(super) fn step(&mut self, step: Step) -> Io {
        match step {
            Step::Meta => self.meta_page(),
            Step::SyncPages | Step::SyncMeta
                if self.config.fault != Some(Fault::CheckpointSync) =>
            {
                Io::Sync
            }
            _ => Io::Reserve(self.reserve()),
        }
    }

    /// As much as there are pages, and some for those to come.
    fn reserve(&mut self) -> u64 {
        let needed = page::offset(self.checkpoint.pages, self.meta.page_size);
        if needed > self.reserved {
            self.reserved = (needed + needed / 4).next_multiple_of(GROW);
        }
        self.reserved
    }

    fn meta_page(&mut self) -> Io {
        self.meta.sequence += 1;
        self.meta.redo = self.checkpoint.redo;
        self.meta.last = self.checkpoint.last;
        self.meta.pages = self.checkpoint.pages;
        let mut bytes = self.pool.spare();
        self.meta.write_to(&mut bytes);
        Io::Page(self.meta.page(), Arc::new(bytes))
    }

    pub(super) fn next_page(&mut self) -> Option<Io> {
        let Engine {
            pool,
            log,
            checkpoint,
            config,
            ..
        } = self;
        let breaks_rule = config.fault == Some(Fault::PageBeforeLog);
        let may = |page| breaks_rule || pool.here(page).version() <= log.durable();
        let page = checkpoint.next_page(may)?;
        Some(Io::Page(page, pool.begin_write(page)))
    }

    pub(super) fn end_step(&mut self) {
        if self.checkpoint.end_step() == Step::SyncMeta {
            self.log.free_before(self.checkpoint.redo.position);
        }
    }
}
