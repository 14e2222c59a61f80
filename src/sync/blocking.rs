//! What a thread does before it blocks.

use std::cell::Cell;

crate::sync::thread_local! {
    static BEFORE: Cell<fn(bool)> = const { Cell::new(|_| ()) };
}

/// From now on this thread calls `what` before it blocks, and says whether it will block with a deadline. By
/// that, what stands below the engine, and may not import it, sends what this thread's callbacks submitted.
pub(crate) fn before_blocking(what: fn(bool)) {
    // On a thread that is ending there is nothing to be remembered.
    let _ = BEFORE.try_with(|before| before.set(what));
}

/// To be called by a thread that is about to wait for another one, without a lock.
pub(crate) fn about_to_block(has_deadline: bool) {
    if let Ok(before) = BEFORE.try_with(Cell::get) {
        before(has_deadline);
    }
}
