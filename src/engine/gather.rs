//! Which engines' user code runs on this thread, and what their callbacks have submitted, until it leaves in
//! one `io_submit`.
//!
//! One frame for each, innermost last. Callbacks of one engine never nest; a waker may be called while one of
//! them waits.

#![allow(
    unsafe_code,
    reason = "remembers the engines whose callbacks are on the stack"
)]

use super::Engine;
use super::list::List;
use super::request::Request;
use crate::sync::before_blocking;
use std::cell::RefCell;
use std::ptr::NonNull;

struct Frame {
    engine: NonNull<Engine>,
    /// What callbacks have submitted; `None` where other user code runs (wakers, destructors), whose
    /// submissions leave at once.
    gathered: Option<List>,
}

#[cfg(not(loom))]
thread_local! {
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}
#[cfg(loom)]
loom::thread_local! {
    static FRAMES: RefCell<Vec<Frame>> = RefCell::new(Vec::new());
}

/// Looks at the innermost frame of `engine`, if this thread has one. A thread that is ending has none.
fn with<R>(engine: usize, look: impl FnOnce(&mut Option<List>) -> R) -> Option<R> {
    let look = |frames: &RefCell<Vec<Frame>>| {
        let mut frames = frames.borrow_mut();
        let frame = frames
            .iter_mut()
            .rev()
            .find(|frame| frame.engine.addr().get() == engine)?;
        Some(look(&mut frame.gathered))
    };
    FRAMES.try_with(look).ok().flatten()
}

/// While it lives, this thread runs user code for `engine`.
#[derive(Debug)]
pub(super) struct UserCode<'a> {
    engine: &'a Engine,
}

impl<'a> UserCode<'a> {
    /// Callbacks: what they submit is gathered. `None` on a thread that is ending: it can't remember
    /// anything.
    pub(super) fn callbacks(engine: &'a Engine) -> Option<UserCode<'a>> {
        debug_assert!(
            !is_running_here(engine.id()),
            "callbacks of one engine do not nest"
        );
        Self::begin(engine, Some(List::new()))
    }

    /// Anything else.
    pub(super) fn other(engine: &'a Engine) -> Option<UserCode<'a>> {
        Self::begin(engine, None)
    }

    fn begin(engine: &'a Engine, gathered: Option<List>) -> Option<UserCode<'a>> {
        let frame = Frame {
            engine: NonNull::from(engine),
            gathered,
        };
        FRAMES
            .try_with(|frames| frames.borrow_mut().push(frame))
            .ok()?;
        before_blocking(flush_all);
        Some(UserCode { engine })
    }
}

impl Drop for UserCode<'_> {
    fn drop(&mut self) {
        let frame = FRAMES
            .try_with(|frames| frames.borrow_mut().pop())
            .ok()
            .flatten();
        debug_assert!(frame.is_none_or(|frame| {
            frame.engine.addr().get() == self.engine.id()
                && frame.gathered.is_none_or(|gathered| gathered.len() == 0)
        }));
    }
}

/// Whether this thread is running user code for `engine`: a callback, a waker, a destructor.
#[inline]
pub(super) fn is_running_here(engine: usize) -> bool {
    with(engine, |_| ()).is_some()
}

/// Gathers the request, if this thread is running a callback of `engine`, and says how many are gathered
/// then; else gives it back.
#[inline]
pub(super) fn push(engine: usize, request: Request) -> Result<usize, Request> {
    let mut request = Some(request);
    let gathered = with(engine, |gathered| {
        let gathered = gathered.as_mut()?;
        gathered.push(request.take()?);
        Some(gathered.len())
    });
    match (gathered.flatten(), request) {
        (_, Some(request)) => Err(request),
        (gathered, None) => Ok(gathered.unwrap_or_default()),
    }
}

/// Takes all that was gathered.
#[inline]
pub(super) fn take(engine: usize) -> List {
    let gathered = with(engine, |gathered| gathered.as_mut().map(std::mem::take));
    gathered.flatten().unwrap_or_default()
}

/// Sends all that this thread's callbacks have gathered, for any engine: before it blocks, whatever it waits
/// for.
#[inline]
pub(super) fn flush_all() {
    for depth in 0.. {
        let Some(engine) = engine_at(depth) else {
            return;
        };
        // SAFETY: a frame is on the list only while its UserCode lives on this thread's stack, which borrows
        // the engine.
        unsafe { engine.as_ref() }.flush();
    }
}

fn engine_at(depth: usize) -> Option<NonNull<Engine>> {
    FRAMES
        .try_with(|frames| Some(frames.borrow().get(depth)?.engine))
        .ok()
        .flatten()
}
