//! The end of a context.

use super::call_out;
use super::executor::{block_on, poll_once};
use super::me::Me;
use crate::aio::Aio;
use std::io;

pub(super) fn end(me: &mut Me) {
    let place = me.place();
    let Some(aio) = call_out::replace_aio(place, None) else {
        return;
    };
    match me.dice.roll(4) {
        0 => drop(aio.shutdown(me.time())),
        1 => drop(shut_down_in_a_task(&aio)),
        2 => call_out::replace_aio(place, Some(aio))
            .into_iter()
            .for_each(drop),
        _ => drop(aio),
    }
}

/// Dropped after its first poll, it goes on in the background.
fn shut_down_in_a_task(aio: &Aio) -> io::Result<()> {
    if aio.engine().is_manual() {
        return poll_once(&mut aio.shutdown_async()).unwrap_or(Ok(()));
    }
    block_on(aio.shutdown_async())
}
