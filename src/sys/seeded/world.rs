//! What happens while the program waits.

use super::context::wake_all;
use super::machine::{Machine, machine};
use crate::sync::{next_timer, pass_time};

/// Does what the world does while the program waits: completes a request, or lets time pass where nothing else
/// can happen. Returns `false` where nothing ever will.
pub(crate) fn go_on(is_alone: bool) -> bool {
    if let Some(sleepers) = machine(Machine::complete_one) {
        wake_all(&sleepers);
        return true;
    }
    if !is_alone {
        return true;
    }
    let times = [machine(|machine| machine.next_due()), next_timer()];
    let next = times.into_iter().flatten().min();
    next.into_iter().for_each(pass_time);
    next.is_some()
}
