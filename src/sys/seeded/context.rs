//! One context of the simulated kernel.

use super::super::{io_event, iocb};
use crate::sync::{Sleeper, Wake};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) iocb: iocb,
    pub(super) address: usize,
    pub(super) due: Instant,
    /// When it arrived, in the order of all events and syncs.
    pub(super) began: u64,
}

#[derive(Debug, Default)]
pub(super) struct Context {
    pub(super) capacity: usize,
    pub(super) pending: Vec<InFlight>,
    pub(super) ring: VecDeque<io_event>,
    pub(super) sleepers: Sleepers,
    pub(super) is_dead: bool,
    pub(super) is_destroyed: bool,
    pub(super) is_read: bool,
}

impl Context {
    pub(super) fn is_alive(&self) -> bool {
        !self.is_dead && !self.is_destroyed
    }
}

/// Threads that wait for an event. They are woken when the machine is not in use: that is a point.
pub(super) type Sleepers = Vec<Arc<Sleeper>>;

pub(super) fn wake_all(sleepers: &Sleepers) {
    sleepers
        .iter()
        .for_each(|sleeper| sleeper.wake(Wake::Notified));
}
