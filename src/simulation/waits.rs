//! Waits: for a result, for all of them, for time to pass.

use super::executor::{block_on, poll_once};
use super::ledger::{must_have_ended, violate};
use super::me::Me;
use crate::aio::Aio;
use crate::error::{AioError, errno_of};
use crate::sync::{now, sleep, yield_now};
use std::io;
use std::time::Duration;

pub(super) fn get_result(me: &mut Me) {
    if me.held.is_empty() {
        return;
    }
    let place = me.dice.below(me.held.len());
    let held = me.held.swap_remove(place);
    match me.dice.roll(6) {
        0 | 1 => held.wait(),
        2 => {
            let time = me.time();
            let left = in_time(me, time, || held.wait_timeout(time), Option::is_some);
            me.held.extend(left);
        }
        3 => held.block_on(),
        4 => me.held.extend(held.poll()),
        _ => {
            held.cancel();
            held.abandon();
        }
    }
}

/// A call with a deadline returns in time, and not before the time is over.
fn in_time<R>(
    me: &Me,
    time: Duration,
    call: impl FnOnce() -> R,
    is_too_late: impl Fn(&R) -> bool,
) -> R {
    let began = now();
    let answer = call();
    let took = now() - began;
    if is_too_late(&answer) && took < time {
        violate(format!("a wait for {time:?} was over after {took:?}"));
    }
    if took > time && me.character.is_punctual() {
        violate(format!("a wait for {time:?} took {took:?}"));
    }
    answer
}

pub(super) fn drain(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let timed_out = |answer: &io::Result<()>| {
        answer
            .as_ref()
            .is_err_and(|error| errno_of(error) == AioError::TimedOut.errno())
    };
    // By then, so that what callbacks submit meanwhile is another matter.
    let names = me.accepted_by(&aio);
    let drained = match me.dice.roll(3) {
        0 => aio.drain(),
        1 => drain_in_a_task(&aio),
        _ => {
            let time = me.time();
            in_time(me, time, || aio.drain_timeout(time), timed_out)
        }
    };
    // What a dead context had never completes, nor what one had whose end found no thread; and the address of
    // such a one may be another one's.
    let all_end = me.character.mood.dies == 0 && me.character.refused_threads == 0;
    if drained.is_ok() && all_end {
        names.iter().for_each(|&name| must_have_ended(name));
    }
}

/// Under `Dispatch::Manual` another thread would have to poll.
fn drain_in_a_task(aio: &Aio) -> io::Result<()> {
    if aio.engine().is_manual() {
        return poll_once(&mut aio.drain_async()).unwrap_or(Err(io::ErrorKind::WouldBlock.into()));
    }
    block_on(aio.drain_async())
}

/// A turn of the program's own loop.
pub(super) fn turn(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let time = me.time();
    let never = |_: &io::Result<usize>| false;
    drop(in_time(me, time, || aio.poll(1, 4, Some(time)), never));
}

pub(super) fn pass_time(me: &mut Me) {
    match me.dice.roll(3) {
        0 => sleep(me.time()),
        _ => yield_now(),
    }
}
