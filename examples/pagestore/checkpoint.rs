//! Checkpoints: all dirty pages go to the data file, so that the log before can be used again.
//!
//! The steps: reserve the file's space, write the pages that were dirty when it began, in their order and many at
//! once, sync the file, write the meta page that says where recovery begins now, sync again. A page is written
//! only when the log has made durable what changed it. Transactions go on meanwhile.

use crate::log::Place;
use crate::page::PageId;
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    Idle,
    Reserve,
    Pages,
    SyncPages,
    Meta,
    SyncMeta,
}

pub(crate) struct Checkpoint {
    step: Step,
    /// Whether the step's one request is on its way.
    asked: bool,
    /// Pages to write, and how many writes are under way.
    left: VecDeque<PageId>,
    writing: usize,
    /// How many writes there may be at once.
    depth: usize,
    /// What the meta page is going to say.
    pub(crate) redo: Place,
    pub(crate) last: u64,
    pub(crate) pages: u64,
}

impl Checkpoint {
    pub(crate) fn new(depth: usize) -> Checkpoint {
        Checkpoint {
            step: Step::Idle,
            asked: false,
            left: VecDeque::new(),
            writing: 0,
            depth,
            redo: Place {
                position: 0,
                chain: 0,
            },
            last: 0,
            pages: 0,
        }
    }

    pub(crate) fn begin(&mut self, dirty: Vec<PageId>, redo: Place, last: u64, pages: u64) {
        (self.step, self.left) = (Step::Reserve, dirty.into());
        (self.redo, self.last, self.pages) = (redo, last, pages);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.step == Step::Idle
    }

    /// Whether a step or a page may be next.
    pub(crate) fn has_request(&self) -> bool {
        match self.step {
            Step::Idle => false,
            Step::Pages => self.writing < self.depth && !self.left.is_empty(),
            _ => !self.asked,
        }
    }

    /// The step that wants its request now: each but `Pages` has one.
    pub(crate) fn next_step(&mut self) -> Option<Step> {
        if self.step == Step::Pages || self.is_idle() || self.asked {
            return None;
        }
        self.asked = true;
        Some(self.step)
    }

    /// The page to be written next, if `may` be.
    pub(crate) fn next_page(&mut self, may: impl FnOnce(PageId) -> bool) -> Option<PageId> {
        if self.step != Step::Pages || self.writing == self.depth {
            return None;
        }
        let page = *self.left.front()?;
        if !may(page) {
            return None;
        }
        self.writing += 1;
        self.left.pop_front()
    }

    pub(crate) fn end_page(&mut self) {
        self.writing -= 1;
        self.look_on();
    }

    /// A step's request is over.
    pub(crate) fn end_step(&mut self) -> Step {
        self.asked = false;
        let ended = self.step;
        self.step = match ended {
            Step::Reserve => Step::Pages,
            Step::SyncPages => Step::Meta,
            Step::Meta => Step::SyncMeta,
            _ => Step::Idle,
        };
        self.look_on();
        ended
    }

    fn look_on(&mut self) {
        if self.step == Step::Pages && self.left.is_empty() && self.writing == 0 {
            self.step = Step::SyncPages;
        }
    }
}
