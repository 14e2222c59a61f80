//! What a thread does before it blocks.

use std::cell::Cell;

thread_local! {
    static BEFORE: Cell<fn()> = const { Cell::new(|| ()) };
}

/// From now on this thread calls `what` before it blocks. What is below the engine, and may not import it,
/// sends by that what callbacks have submitted on this thread.
pub(crate) fn before_blocking(what: fn()) {
    // On a thread that is ending there is nothing to be remembered.
    let _ = BEFORE.try_with(|before| before.set(what));
}

/// To be called by a thread that is about to wait for another one, without a lock.
pub(crate) fn about_to_block() {
    if let Ok(before) = BEFORE.try_with(Cell::get) {
        before();
    }
}
