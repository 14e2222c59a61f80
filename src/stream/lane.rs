//! The blocks of one stream: in flight, in the order of their offsets, or at hand.

use super::block::Block;
use super::how::How;
use super::options::Plan;
use crate::aio::Aio;
use crate::completion::Completion;
use crate::direct::DirectFile;
use crate::op::{Exact, Operation};
use crate::pending::Pending;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Poll, ready};

pub(super) struct Lane<O: Operation<Block>> {
    pub(super) aio: Aio,
    pub(super) file: Arc<DirectFile>,
    pub(super) plan: Plan,
    op: O,
    flights: VecDeque<Flight<O>>,
    /// Of `flights`, the first so many are not wanted any more.
    stale: usize,
    spare: Vec<Block>,
    /// Blocks there are, wherever they are: at most `plan.depth`.
    made: usize,
}

/// A block on its way.
struct Flight<O: Operation<Block>> {
    offset: u64,
    len: usize,
    /// Taken when its outcome is there.
    pending: Option<Pending<Exact<Arc<DirectFile>, O, Block>>>,
}

/// A block that has come back.
pub(super) struct Landed {
    pub(super) offset: u64,
    /// What was asked for.
    pub(super) len: usize,
    pub(super) block: Block,
    pub(super) result: io::Result<usize>,
}

impl<O: Operation<Block>> Lane<O> {
    pub(super) fn new(aio: &Aio, file: Arc<DirectFile>, plan: Plan, op: O) -> io::Result<Self> {
        let (mut flights, mut spare) = (VecDeque::new(), Vec::new());
        flights.try_reserve_exact(plan.depth)?;
        spare.try_reserve_exact(plan.depth)?;
        Ok(Lane {
            aio: aio.clone(),
            file,
            plan,
            op,
            flights,
            stale: 0,
            spare,
            made: 0,
        })
    }

    /// How many blocks are on their way whose outcome is wanted.
    pub(super) fn live(&self) -> usize {
        self.flights.len() - self.stale
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// Where the newest block on its way ends; 0 without one.
    pub(super) fn reaches(&self) -> u64 {
        let newest = self.flights.back();
        newest.map_or(0, |flight| flight.offset + flight.len as u64)
    }

    /// A block that is free, or a new one while there are fewer than may be. `None`: all are in use.
    pub(super) fn take(&mut self) -> io::Result<Option<Block>> {
        let spare = self.spare.pop();
        if spare.is_some() || self.made == self.plan.depth {
            return Ok(spare);
        }
        let block = Block::try_new(self.plan.block, self.plan.memory)?;
        self.made += 1;
        Ok(Some(block))
    }

    pub(super) fn give_back(&mut self, block: Block) {
        debug_assert!(self.spare.len() < self.made);
        self.spare.push(block);
    }

    /// Sends a block on its way, behind all others. Where it is refused, the block is at hand again.
    pub(super) fn submit(&mut self, block: Block, offset: u64, len: usize) -> io::Result<()> {
        let request = self.aio.alloc();
        let request = request.init_rw(Arc::clone(&self.file), self.op, block, offset);
        match request.exact().start() {
            Ok(pending) => {
                let pending = Some(pending);
                self.flights.push_back(Flight {
                    offset,
                    len,
                    pending,
                });
                Ok(())
            }
            Err(refused) => {
                let (error, request) = refused.into_parts();
                self.give_back(request.into_parts().1);
                Err(error)
            }
        }
    }

    /// What is on its way is not wanted any more.
    pub(super) fn discard(&mut self) {
        self.stale = self.flights.len();
    }

    /// Waits for the oldest block. `None` where nothing was on its way, or it was not wanted any more: then it
    /// is at hand.
    pub(super) fn oldest(&mut self, how: &mut How<'_, '_>) -> Poll<Option<Landed>> {
        let Some(flight) = self.flights.front_mut() else {
            return Poll::Ready(None);
        };
        let done = ready!(how.outcome(&mut flight.pending));
        let flight = self.flights.pop_front();
        let landed = done.zip(flight).map(|(done, flight)| flight.landed(done));
        match landed {
            Some(landed) if self.stale > 0 => {
                self.stale -= 1;
                self.give_back(landed.block);
                Poll::Ready(None)
            }
            landed => Poll::Ready(landed),
        }
    }
}

impl<O: Operation<Block>> Flight<O> {
    fn landed(self, done: Completion<Arc<DirectFile>, Block>) -> Landed {
        Landed {
            offset: self.offset,
            len: self.len,
            block: done.buf,
            result: done.result,
        }
    }
}
