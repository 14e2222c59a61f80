//! What the thread was in the middle of, and goes on with in parent and child where the user code returns.

use std::fs::File;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use kiocb::{Completion, Dispatch, SubmitError};

use crate::deed::{end, is_forked, is_forked_or};
use crate::kit::poll_once;
use crate::ledger::in_child;
use crate::place::Place;
use crate::world::{Record, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Wait,
    PendingWait,
    WaitTimeout,
    Await,
    Scope,
    Submit,
    Batch,
    Drain,
    DrainTimeout,
    Shutdown,
    Poll,
    LastDrop,
}

/// Far longer than anything takes that works.
const LONG: Duration = Duration::from_secs(40);

impl Call {
    pub(crate) const ALL: [Call; 12] = [
        Call::Wait,
        Call::PendingWait,
        Call::WaitTimeout,
        Call::Await,
        Call::Scope,
        Call::Submit,
        Call::Batch,
        Call::Drain,
        Call::DrainTimeout,
        Call::Shutdown,
        Call::Poll,
        Call::LastDrop,
    ];

    /// Whether the call waits for all that is outstanding, what is held included.
    pub(crate) fn waits_for_all(self) -> bool {
        matches!(
            self,
            Call::Drain | Call::DrainTimeout | Call::Shutdown | Call::LastDrop
        )
    }

    /// Whether the caller itself finds the events: with the completion thread out of the way it will be the
    /// caller that runs the user code.
    pub(crate) fn wants_busy_thread(self, place: Place, dispatch: Dispatch) -> bool {
        let may_run_here =
            place != Place::Callback && place != Place::Logger || dispatch == Dispatch::Anywhere;
        dispatch != Dispatch::Manual && !self.waits_for_all() && self != Call::Poll && may_run_here
    }

    /// In the child, where the call returned at all: checks what it said, and ends.
    fn judge(check: impl FnOnce()) {
        if in_child() {
            end(check);
        }
    }

    /// The call itself, in the parent; comes back there only.
    pub(crate) fn carry_out(self, world: &mut World) {
        let ledger = world.ledger;
        match self {
            Call::Wait => {
                ledger.accept(OWN);
                let done = world.record(OWN).wait();
                Self::judge(|| match done {
                    Ok(done) => is_forked_or(done.result, 1),
                    Err(refused) => is_forked(refused.error()),
                });
            }
            Call::PendingWait => {
                ledger.accept(OWN);
                let handle = world.record(OWN).start().unwrap();
                let done = handle.wait();
                Self::judge(|| is_forked_or(done.result, 1));
            }
            Call::WaitTimeout => {
                ledger.accept(OWN);
                let handle = world.record(OWN).start().unwrap();
                let done = handle.wait_timeout(LONG).map_err(drop);
                Self::judge(|| is_forked_or(done.unwrap().result, 1));
            }
            Call::Await => {
                ledger.accept(OWN);
                let done = wait_polling(world);
                Self::judge(|| match done {
                    Ok(done) => is_forked_or(done.result, 1),
                    Err(refused) => is_forked(refused.error()),
                });
            }
            Call::Scope => {
                (OWN..OWN + 2).for_each(|id| ledger.accept(id));
                let pieces = [(&[OWN][..], 0), (&[OWN + 1][..], 0)];
                let results = world.aio().write_many(&*world.file, pieces);
                Self::judge(|| {
                    results
                        .into_iter()
                        .for_each(|result| is_forked_or(result, 1))
                });
            }
            Call::Submit => {
                ledger.owe(OWN);
                let request = world.record(OWN).init_callback(move |_| ledger.call(OWN));
                let outcome = request.submit();
                // It was accepted, by the parent, before the user code ran: both answers are true.
                Self::judge(|| is_forked_or(outcome.map_err(Into::into), ()));
            }
            Call::Batch => {
                (OWN..OWN + 2).for_each(|id| ledger.owe(id));
                let mut batch = world.aio().batch();
                for id in OWN..OWN + 2 {
                    let request = world.record(id).init_callback(move |_| ledger.call(id));
                    let _ = batch.push_callback(request);
                }
                let refused = batch.submit();
                Self::judge(|| refused.errors().for_each(is_forked));
            }
            Call::Drain => {
                let outcome = world.aio().drain();
                Self::judge(|| is_forked(&outcome.unwrap_err()));
            }
            Call::DrainTimeout => {
                let outcome = world.aio().drain_timeout(LONG);
                Self::judge(|| is_forked(&outcome.unwrap_err()));
            }
            Call::Shutdown => {
                let outcome = world.aio().shutdown(LONG);
                Self::judge(|| is_forked(&outcome.unwrap_err()));
            }
            Call::Poll => {
                let outcome = world.aio().poll(1, usize::MAX, Some(LONG));
                Self::judge(|| is_forked(&outcome.unwrap_err()));
            }
            Call::LastDrop => {
                drop(world.aio.take());
                Self::judge(|| ());
            }
        }
    }

    /// At the end of a cell, in case nothing else has run the user code: in the child that comes back here
    /// the drain says so, too.
    pub(crate) fn drain(world: &World) -> Result<(), String> {
        let Some(aio) = &world.aio else { return Ok(()) };
        let outcome = aio.drain_timeout(LONG);
        if in_child() {
            end(|| is_forked(&outcome.unwrap_err()));
        }
        outcome.map_err(|error| format!("the parent's drain: {error}"))
    }
}

/// As an executor that looks again and again: the completion thread may be busy, or there may be none.
fn wait_polling(world: &World) -> Result<Done, SubmitError<Record>> {
    let mut future = world.record(OWN).into_future();
    loop {
        if let Poll::Ready(done) = poll_once(&mut future) {
            return done;
        }
        let _ = world.aio().poll(0, usize::MAX, None);
        std::thread::sleep(Duration::from_millis(1));
    }
}

type Done = Completion<Arc<File>, [u8; 1]>;

/// The record of the call itself.
const OWN: u8 = 20;
