//! Sending a request, and how its result is asked for.

use super::call_out::{Place, call_out};
use super::held::{Handed, Outcome, arrived};
use super::ledger::{Kind, given_back, ledger, submitting};
use super::me::Me;
use super::things::{eventfds, number_of};
use crate::aio::Aio;
use crate::iocb::Iocb;
use crate::op::Request;
use crate::pending::Pending;
use std::sync::Arc;

#[derive(Clone, Copy, Debug)]
enum Way {
    Callback,
    Wait,
    Await,
    Hold,
}

/// Who waits for what a dead context has waits for ever.
fn way(me: &mut Me) -> Way {
    if me.character.mood.dies > 0 {
        return Way::Callback;
    }
    match me.dice.below(5) {
        0 | 1 => Way::Callback,
        2 => Way::Wait,
        3 => Way::Await,
        _ => Way::Hold,
    }
}

/// Sends the request in one of the ways.
pub(super) fn send<S: Request>(
    me: &mut Me,
    aio: &Aio,
    name: u64,
    request: Iocb<S>,
    cancel: fn(&Pending<S>),
) where
    S::Output: Outcome,
{
    let request = with_eventfd(me, name, request);
    let way = way(me);
    let is_ordered =
        ledger(|ledger| !matches!(ledger.entry(name).kind, Kind::GoesOn | Kind::Exact));
    let now = submitting(&[name], is_ordered);
    match way {
        Way::Callback => {
            let request = request.init_callback(callback(name));
            match request.submit() {
                Ok(()) => me.note_accepted(aio, name),
                Err(error) => given_back(name, error),
            }
        }
        Way::Wait => match request.wait() {
            Ok(outcome) => arrived(name, &outcome),
            Err(error) => given_back(name, error),
        },
        Way::Await | Way::Hold => match request.start() {
            Ok(pending) => {
                drop(now);
                let handed = Handed::boxed(aio, name, pending, cancel);
                match way {
                    Way::Await => handed.block_on(),
                    _ => me.held.push(handed),
                }
            }
            Err(error) => given_back(name, error),
        },
    }
}

/// A callback of the program's, which does what user code does.
pub(super) fn callback<O: Outcome>(name: u64) -> impl FnOnce(O) + Send + 'static {
    move |outcome| {
        arrived(name, &outcome);
        call_out(Place::Callback);
    }
}

fn with_eventfd<S: Request>(me: &mut Me, name: u64, request: Iocb<S>) -> Iocb<S> {
    if me.dice.roll(6) > 0 {
        return request;
    }
    let eventfd = &eventfds()[me.dice.below(2)];
    ledger(|ledger| ledger.entry(name).eventfd = Some(number_of(eventfd)));
    request.eventfd(Arc::clone(eventfd))
}
