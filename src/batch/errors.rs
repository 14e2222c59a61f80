//! What a batch could not submit.

use super::Ticket;
use crate::aio::Aio;
use crate::engine::{Engine, OwnedCell};
use crate::error::SubmitError;
use crate::iocb::Iocb;
use crate::op::Submit;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

/// The requests with a callback of a [`Batch`](super::Batch) that were not submitted. Dropping it drops them,
/// with their files, buffers and callbacks.
#[must_use = "the requests that were not submitted are in here"]
pub struct BatchErrors {
    aio: Aio,
    engine: Arc<Engine>,
    batch: u64,
    /// By the numbers of the requests, which keep their memory, so that no other has the same.
    refused: BTreeMap<u64, Refused>,
}

struct Refused {
    position: usize,
    error: io::Error,
    cell: OwnedCell,
}

impl Refused {
    fn new(error: io::Error, cell: OwnedCell) -> Refused {
        let position = usize::try_from(cell.result()).unwrap_or_default();
        Refused {
            position,
            error,
            cell,
        }
    }
}

impl BatchErrors {
    pub(super) fn new(
        aio: &Aio,
        engine: &Arc<Engine>,
        batch: u64,
        refused: Vec<(io::Error, OwnedCell)>,
    ) -> BatchErrors {
        let refused = refused.into_iter();
        let refused = refused
            .map(|(error, cell)| (cell.tag(), Refused::new(error, cell)))
            .collect();
        BatchErrors {
            aio: aio.clone(),
            engine: Arc::clone(engine),
            batch,
            refused,
        }
    }

    /// The request of this ticket with the reason, if it was refused; its callback will not be called.
    /// `None`: it is on its way, or the ticket is another batch's.
    pub fn take<S: Submit>(&mut self, ticket: Ticket<S>) -> Option<SubmitError<Iocb<S>>> {
        if ticket.batch != self.batch {
            return None;
        }
        let refused = self.refused.remove(&ticket.receipt.tag())?;
        let job = ticket.receipt.redeem(refused.cell);
        Some(SubmitError::new(
            refused.error,
            Iocb::from_job(&self.aio, job),
        ))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.refused.len()
    }

    /// Whether all were submitted.
    pub fn is_empty(&self) -> bool {
        self.refused.is_empty()
    }

    /// The reasons, in the order of the requests.
    pub fn errors(&self) -> impl Iterator<Item = &io::Error> {
        self.positions().map(|(_, error)| error)
    }

    /// For each of them its position in the batch, from 0, and the reason. In the order of the positions.
    pub fn positions(&self) -> impl Iterator<Item = (usize, &io::Error)> {
        let mut errors: Vec<_> = self
            .refused
            .values()
            .map(|refused| (refused.position, &refused.error))
            .collect();
        errors.sort_unstable_by_key(|(position, _)| *position);
        errors.into_iter()
    }
}

impl Drop for BatchErrors {
    fn drop(&mut self) {
        for refused in std::mem::take(&mut self.refused).into_values() {
            self.engine.discard_unsubmitted(refused.cell);
        }
    }
}

impl fmt::Debug for BatchErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.errors()).finish()
    }
}
