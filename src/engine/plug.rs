//! Holds back what callbacks submit until it leaves in one `io_submit`, as the block layer's plug holds back
//! requests. A thread has a plug for each engine whose callbacks are on its stack.
#![allow(
    unsafe_code,
    reason = "remembers the engines whose callbacks are on the stack"
)]

use super::Engine;
use super::request::{List, OwnedCell};
use crate::user_code::{self, Frame, Inside};
use std::cell::RefCell;
use std::ptr::NonNull;

/// One plug, on the stack of the thread that runs the callbacks; linked to the one further out.
#[derive(Debug)]
pub(super) struct Link {
    engine: NonNull<Engine>,
    plugged: RefCell<List>,
    /// Whether this thread may pass them to `io_submit`.
    may_block: bool,
    outer: Option<NonNull<Link>>,
}

#[cfg(not(loom))]
crate::sync::thread_local! {
    // Without a destructor, so that a thread that is ending still has it.
    static INNERMOST: std::cell::Cell<Option<NonNull<Link>>> = const { std::cell::Cell::new(None) };
}
#[cfg(loom)]
loom::thread_local! {
    static INNERMOST: std::cell::Cell<Option<NonNull<Link>>> = std::cell::Cell::new(None);
}

/// Runs `body`, in which callbacks of `engine` run one after the other. Returns the requests that are still
/// held back then.
pub(super) fn with_plug(engine: &Engine, may_block: bool, body: impl FnOnce(&Link)) -> List {
    debug_assert!(
        user_code::innermost().is_none(),
        "callbacks run in the outermost reap"
    );
    let link = Link {
        engine: NonNull::from(engine),
        plugged: RefCell::new(List::new()),
        may_block,
        outer: INNERMOST.with(std::cell::Cell::get),
    };
    let linked = Linked::new(&link);
    let inside = Inside::enter_in(Frame::Callback, engine.origin);
    body(&link);
    drop((inside, linked));
    link.plugged.into_inner()
}

impl Link {
    /// How many requests are held back.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.plugged.borrow().len()
    }
}

/// While it lives, the link is this thread's innermost.
struct Linked<'a>(&'a Link);

impl Linked<'_> {
    fn new(link: &Link) -> Linked<'_> {
        INNERMOST.with(|innermost| innermost.set(Some(NonNull::from(link))));
        Linked(link)
    }
}

impl Drop for Linked<'_> {
    fn drop(&mut self) {
        INNERMOST.with(|innermost| innermost.set(self.0.outer));
    }
}

/// The innermost plug of `engine` on this thread.
#[inline]
fn find(engine: usize) -> Option<NonNull<Link>> {
    let mut next = INNERMOST.with(std::cell::Cell::get);
    while let Some(link) = next {
        // SAFETY: a link is on the list only while its `Linked` lives on this thread's stack, behind it.
        let inside = unsafe { link.as_ref() };
        if inside.engine.addr().get() == engine {
            return next;
        }
        next = inside.outer;
    }
    None
}

/// Whether this thread is running callbacks of `engine`.
#[inline]
pub(super) fn is_plugged(engine: usize) -> bool {
    find(engine).is_some()
}

/// Holds the request back, if a callback of `engine` submits it, and returns how many are held back then.
/// Otherwise returns the request.
#[inline]
pub(super) fn push(engine: usize, request: OwnedCell) -> Result<usize, OwnedCell> {
    let Some(link) = find(engine) else {
        return Err(request);
    };
    // What a waker submits leaves at once, also if a callback that waits is below it on the stack.
    if user_code::innermost() != Some(Frame::Callback) {
        return Err(request);
    }
    // SAFETY: found just now.
    let mut plugged = unsafe { link.as_ref() }.plugged.borrow_mut();
    plugged.push(request);
    Ok(plugged.len())
}

/// Takes all that was held back. Returns with it whether this thread may pass it to `io_submit`.
#[inline]
pub(super) fn take(engine: usize) -> (List, bool) {
    let Some(link) = find(engine) else {
        return (List::new(), false);
    };
    // SAFETY: found just now.
    let link = unsafe { link.as_ref() };
    (link.plugged.take(), link.may_block)
}

/// The engines whose callbacks are on this thread's stack, innermost first.
#[inline]
pub(super) fn for_each_engine(mut each: impl FnMut(&Engine)) {
    let mut next = INNERMOST.with(std::cell::Cell::get);
    while let Some(link) = next {
        // SAFETY: as in `find`.
        let link = unsafe { link.as_ref() };
        // SAFETY: the link's `with_plug` borrows the engine.
        each(unsafe { link.engine.as_ref() });
        next = link.outer;
    }
}
