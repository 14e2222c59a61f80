//! One line of a program: which of the crate's verbs it tries.

use super::call_out::check_stats;
use super::ends::end;
use super::me::Me;
use super::requests::{cancellable, exact, fsync, offload, poll_ready, read, vectored, write};
use super::several::{batch, many, scope};
use super::waits::{drain, get_result, pass_time, turn};

/// Something that the thread does.
pub(super) fn line(me: &mut Me) {
    let roll = me.dice.roll(20);
    // What a dead context has never completes, and who waits for it waits for ever.
    let waits = [9, 10, 11, 17, 19].contains(&roll);
    if waits && me.character.mood.dies > 0 {
        return read(me);
    }
    match roll {
        0 | 1 => read(me),
        2 => write(me),
        3 => exact(me),
        4 => offload(me),
        5 => vectored(me),
        6 => fsync(me),
        7 => poll_ready(me),
        8 => cancellable(me),
        9 => batch(me),
        10 => scope(me),
        11 => many(me),
        12 | 13 => get_result(me),
        14 => drain(me),
        15 => turn(me),
        16 => end(me),
        17 => super::groups::line(me),
        18 => me.aio().iter().for_each(check_stats),
        19 if me.dice.roll(3) > 0 => super::queues::line(me),
        _ => pass_time(me),
    }
}
