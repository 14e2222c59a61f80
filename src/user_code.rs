//! The calls of user code (I12).
//!
//! Callbacks, wakers, destructors, loggers and hooks are the user's: each may panic, block, submit, wait or
//! log, and so may the destructor of what a panic carried. All of them are called from here: with no lock
//! held, by a thread that does not lead, and inside a [`Frame`]. What a panic throws is caught and reported
//! here, and dropped with the same care.
//!
//! Other files neither log nor catch panics; `tests/strata.rs` reads the sources for that.

use crate::origin::Origin;
use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;

/// Says that user code runs on this thread, and which kind. It stands in a thread-local variable while that
/// code runs, so that a call of the crate that is made inside can see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A callback runs.
    Callback,
    /// A waker, a destructor, a logger or a hook runs.
    Other,
}

#[cfg(not(loom))]
crate::sync::thread_local! {
    // Without a destructor, so that a thread that is ending still knows where it is.
    static INNERMOST: Cell<Option<(Frame, Origin)>> = const { Cell::new(None) };
    static OWN_THREAD: Cell<Option<Origin>> = const { Cell::new(None) };
    static PANICS: Cell<usize> = const { Cell::new(0) };
}
#[cfg(loom)]
loom::thread_local! {
    static INNERMOST: Cell<Option<(Frame, Origin)>> = Cell::new(None);
    static OWN_THREAD: Cell<Option<Origin>> = Cell::new(None);
    static PANICS: Cell<usize> = Cell::new(0);
}

/// The innermost frame of this thread, if user code runs on it.
///
/// Frames that a fork has copied are not this process's: they stand for what the parent is in the middle of.
/// A child that goes on inside them may use contexts of its own, and wait for them.
#[inline]
pub(crate) fn innermost() -> Option<Frame> {
    let (frame, origin) = INNERMOST.with(Cell::get)?;
    origin.is_here().then_some(frame)
}

/// Whether waiting for a whole context would wait for this very thread: it runs user code, or it is one of
/// the crate's own.
pub(crate) fn must_not_block() -> bool {
    innermost().is_some() || OWN_THREAD.with(Cell::get).is_some_and(Origin::is_here)
}

/// Returns how many panics were caught on this thread since the last call, for a context to count.
pub(crate) fn take_panics() -> usize {
    PANICS.with(|panics| panics.take())
}

fn count_panic() {
    PANICS.with(|panics| panics.set(panics.get() + 1));
}

/// This thread belongs to the crate.
pub(crate) fn adopt_thread() {
    OWN_THREAD.with(|own| own.set(Some(Origin::here())));
}

/// While it lives, user code runs on this thread.
#[derive(Debug)]
pub(crate) struct Inside {
    outer: Option<(Frame, Origin)>,
}

impl Inside {
    #[inline]
    pub(crate) fn enter(frame: Frame) -> Inside {
        Inside::enter_in(frame, Origin::here())
    }

    /// The same, for a caller that knows this process.
    #[inline]
    pub(crate) fn enter_in(frame: Frame, process: Origin) -> Inside {
        debug_assert!(process.is_here());
        let here = (frame, process);
        let outer = INNERMOST.with(|innermost| innermost.replace(Some(here)));
        Inside { outer }
    }
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        INNERMOST.with(|innermost| innermost.set(self.outer));
    }
}

/// Runs user code inside the frame that its caller has entered. Returns `None` if it panicked: that is
/// reported and counted.
#[inline]
pub(crate) fn catch<R>(what: &str, run: impl FnOnce() -> R) -> Option<R> {
    catch_of(|| "", what, run)
}

/// As `catch`, for the user code of a context: the report has its name.
#[inline]
pub(crate) fn catch_of<'a, R>(
    context: impl FnOnce() -> &'a str,
    what: &str,
    run: impl FnOnce() -> R,
) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => Some(result),
        Err(payload) => {
            count_panic();
            report_panic(context(), what, payload);
            None
        }
    }
}

/// Runs user code in a frame of its own. Returns `None` if it panicked.
pub(crate) fn call<R>(what: &str, run: impl FnOnce() -> R) -> Option<R> {
    let _inside = Inside::enter(Frame::Other);
    catch(what, run)
}

/// As `call`, for the user code of a context: the report has its name.
pub(crate) fn call_of<R>(context: &str, what: &str, run: impl FnOnce() -> R) -> Option<R> {
    let _inside = Inside::enter(Frame::Other);
    catch_of(|| context, what, run)
}

/// Clones a waker of the user's. If that panics, the panic is the caller's.
pub(crate) fn clone_waker(waker: &Waker) -> Waker {
    let _inside = Inside::enter(Frame::Other);
    waker.clone()
}

/// Calls a waker.
pub(crate) fn wake(waker: Waker) {
    call("a waker", || waker.wake());
}

/// Drops a value of the user's.
pub(crate) fn drop_value<T>(what: &str, value: T) {
    call(what, || drop(value));
}

#[cold]
fn report_panic(context: &str, what: &str, payload: Box<dyn Any + Send>) {
    let colon = if context.is_empty() { "" } else { ": " };
    let text = message(&*payload);
    error(format_args!("{context}{colon}{what} panicked: {text}"));
    drop_payload(payload);
}

/// The payload's destructor may panic as well. What that throws is leaked: it would have no end otherwise.
pub(crate) fn drop_payload(payload: Box<dyn Any + Send>) {
    let _inside = Inside::enter(Frame::Other);
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}

/// A panic that was caught, for a caller that lets it go on later.
pub(crate) struct Panic(Box<dyn Any + Send>);

/// Runs a closure of the caller's on the caller's own stack, whose panic is the caller's: it goes on after
/// what must be done in any case.
pub(crate) fn try_run<R>(run: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(run)).map_err(Panic)
}

impl Panic {
    pub(crate) fn resume(self) -> ! {
        resume_unwind(self.0)
    }

    /// For a caller that lets another one go on.
    pub(crate) fn discard(self) {
        drop_payload(self.0);
    }
}

/// What a panic said.
fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// Logs that something failed which an operator has to know.
#[cold]
pub(crate) fn error(text: fmt::Arguments<'_>) {
    log(log::Level::Error, text);
}

/// Logs that something works less well than it could.
#[cold]
pub(crate) fn warn(text: fmt::Arguments<'_>) {
    log(log::Level::Warn, text);
}

/// Logs what an operator may want to know.
#[cold]
pub(crate) fn info(text: fmt::Arguments<'_>) {
    log(log::Level::Info, text);
}

/// Logs a detail that explains something else.
#[cold]
pub(crate) fn debug(text: fmt::Arguments<'_>) {
    log(log::Level::Debug, text);
}

/// A logger is user code, too. A panic of it is not reported, because there is no other place to report it.
fn log(level: log::Level, text: fmt::Arguments<'_>) {
    let _inside = Inside::enter(Frame::Other);
    if let Err(payload) = catch_unwind(AssertUnwindSafe(
        || log::log!(target: "kiocb", level, "{text}"),
    )) {
        count_panic();
        drop_payload(payload);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Bomb);
        }
    }

    #[test]
    fn a_panic_whose_payload_panics_when_dropped_ends_here() {
        assert_eq!(catch("a test", || std::panic::panic_any(Bomb)), None::<()>);
        assert_eq!(catch("a test", || 7), Some(7));
    }

    #[test]
    fn frames_nest_and_are_left_by_panic_too() {
        assert_eq!(innermost(), None);
        let outer = Inside::enter(Frame::Callback);
        let seen = call("a test", || {
            assert!(must_not_block());
            assert_eq!(innermost(), Some(Frame::Other));
            panic!("on purpose")
        });
        assert_eq!((seen, innermost()), (None::<()>, Some(Frame::Callback)));
        drop(outer);
        assert_eq!((innermost(), must_not_block()), (None, false));
    }
}
