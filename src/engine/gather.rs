//! What a dispatching thread's callbacks have submitted, until it leaves in one `io_submit`.
//!
//! One frame per engine that dispatches on this thread, innermost last. An engine never has two: its callbacks don't nest.

use super::request::{List, Request};
use std::cell::RefCell;

struct Frame {
    engine: usize,
    gathered: List,
}

#[cfg(not(loom))]
thread_local! {
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}
#[cfg(loom)]
loom::thread_local! {
    static FRAMES: RefCell<Vec<Frame>> = RefCell::new(Vec::new());
}

fn with<R>(engine: usize, look: impl FnOnce(&mut List) -> R) -> Option<R> {
    let look = |frames: &RefCell<Vec<Frame>>| {
        let mut frames = frames.borrow_mut();
        let frame = frames
            .iter_mut()
            .rev()
            .find(|frame| frame.engine == engine)?;
        Some(look(&mut frame.gathered))
    };
    // A thread that is ending dispatches nothing.
    FRAMES.try_with(look).ok().flatten()
}

/// While it lives, what this thread submits to `engine` is gathered.
#[derive(Debug)]
pub(super) struct Gathering {
    engine: usize,
}

impl Gathering {
    pub(super) fn begin(engine: usize) -> Gathering {
        debug_assert!(
            !is_dispatching(engine),
            "callbacks of one engine do not nest"
        );
        FRAMES.with(|frames| {
            frames.borrow_mut().push(Frame {
                engine,
                gathered: List::new(),
            })
        });
        Gathering { engine }
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        let frame = FRAMES.with(|frames| frames.borrow_mut().pop());
        debug_assert!(
            frame.is_some_and(|frame| frame.engine == self.engine && frame.gathered.len() == 0)
        );
    }
}

/// Whether this thread is running a callback of `engine`.
pub(super) fn is_dispatching(engine: usize) -> bool {
    with(engine, |_| ()).is_some()
}

/// Gathers the request, if this thread is running a callback of `engine`, and says how many are gathered then; else gives it back.
pub(super) fn push(engine: usize, request: Request) -> Result<usize, Request> {
    let mut request = Some(request);
    let gathered = with(engine, |gathered| {
        request.take().map(|request| gathered.push(request));
        gathered.len()
    });
    match (gathered, request) {
        (_, Some(request)) => Err(request),
        (gathered, None) => Ok(gathered.unwrap_or_default()),
    }
}

/// Takes all that was gathered.
pub(super) fn take(engine: usize) -> List {
    with(engine, std::mem::take).unwrap_or_default()
}
