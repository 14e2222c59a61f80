//! Threads' tools inside a loom model, with the faces of those outside.
//!
//! loom treats SeqCst loads and stores as Acquire and Release, and finds errors where there are none. So each
//! SeqCst operation is one with a SeqCst fence beside it, which loom does model. The language gives as much:
//! between two SeqCst operations of a thread there is a fence in either case. But a fence also orders the
//! weaker operations on its other side, and may hide that one of them is too weak. Therefore the models are
//! run twice: with the fences in front of the operations, and (`KIOCB_FENCES=behind`) with the fences behind
//! them.
//!
//! A model has no clock: every look at it is an hour later, so whatever has a deadline finds it over at its
//! first look.

use super::atomic::{atomic, counter};
use loom::sync::atomic::{self, fence};
use std::ops::{Deref, DerefMut};
use std::sync::LazyLock;
pub(crate) use std::sync::atomic::Ordering;
use std::sync::atomic::{AtomicU64 as Plain, Ordering::Relaxed};
use std::time::{Duration, Instant};

static BEHIND: LazyLock<bool> =
    LazyLock::new(|| std::env::var_os("KIOCB_FENCES").is_some_and(|place| place == "behind"));

/// An operation that wants `order`, or `weaker` where a fence does the rest.
#[track_caller]
fn operate<R>(order: Ordering, weaker: Ordering, operation: impl FnOnce(Ordering) -> R) -> R {
    if order != Ordering::SeqCst {
        return operation(order);
    }
    if !*BEHIND {
        fence(Ordering::SeqCst);
    }
    let result = operation(weaker);
    if *BEHIND {
        fence(Ordering::SeqCst);
    }
    result
}

atomic!(AtomicBool: bool = atomic::AtomicBool);
counter!(AtomicU32: u32 = atomic::AtomicU32);
counter!(AtomicU64: u64 = atomic::AtomicU64);
counter!(AtomicUsize: usize = atomic::AtomicUsize);

/// A cell whose every use must come after the one before: taking the pointer counts as a write, so two
/// threads that take it without an order between them are a race that the model reports.
#[derive(Debug)]
#[repr(C)] // the value first, for `raw_get`
pub(crate) struct UnsafeCell<T> {
    value: std::cell::UnsafeCell<T>,
    uses: loom::cell::UnsafeCell<()>,
}

impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        UnsafeCell {
            value: std::cell::UnsafeCell::new(value),
            uses: loom::cell::UnsafeCell::new(()),
        }
    }

    #[track_caller]
    pub(crate) fn get(&self) -> *mut T {
        self.uses.with_mut(|_| ());
        self.value.get()
    }

    /// The address alone, for a kernel: no use of the value.
    pub(crate) fn raw_get(this: *const Self) -> *mut T {
        this.cast::<T>().cast_mut()
    }
}

/// A mutex that a panic does not poison.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

/// Empty only inside [`Condvar::wait`].
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(loom::sync::Mutex::new(value))
    }

    #[track_caller]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().expect("a model does not poison")))
    }

    #[track_caller]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("locked")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("locked")
    }
}

/// A condition variable that takes the guard by reference.
#[derive(Debug)]
pub(crate) struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Condvar(loom::sync::Condvar::new())
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let waited = guard.0.take().map(|guard| self.0.wait(guard));
        guard.0 = waited.and_then(Result::ok);
    }

    pub(crate) fn wait_until<T>(&self, _: &mut MutexGuard<'_, T>, _: Instant) {}
}

pub(crate) use loom::thread::{Builder, JoinHandle, yield_now};

pub(crate) fn sleep(_: Duration) {
    yield_now();
}

pub(crate) fn now() -> Instant {
    static HOURS: Plain = Plain::new(0);
    static BEGINNING: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let hours = HOURS.fetch_add(1, Relaxed);
    *BEGINNING.get_or_init(Instant::now) + Duration::from_secs(3600 * hours)
}
