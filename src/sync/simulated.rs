//! Threads' tools inside a simulation, with the faces of those outside.
//!
//! All threads of a simulation are coroutines on one thread of the machine. One of them runs until it comes to
//! a *point*, where the scheduler chooses who goes on; every use of a lock, an atomic, a place to sleep has
//! one. So what stands between two points is never interrupted, and the standard library's types serve as
//! memory that all of them see alike: weaker orders than SeqCst are for the models.
//!
//! Time stands still while any thread can run. The simulation moves it on when all sleep: [`pass_time`].

use super::atomic::{atomic, counter};
use shuttle::thread;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{self, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

pub(crate) use shuttle::thread::{JoinHandle, yield_now};
pub(crate) use shuttle::thread_local;
pub(crate) use std::cell::UnsafeCell;
pub(crate) use std::sync::atomic::Ordering;

/// Another thread may go on here. Not while a panic unwinds, which all threads of the machine's one thread
/// would take for their own.
pub(crate) fn point() {
    if !std::thread::panicking() {
        thread::sleep(Duration::ZERO);
    }
}

/// Whatever the order: one thread of the machine's does all of it.
fn operate<R>(order: Ordering, _: Ordering, operation: impl FnOnce(Ordering) -> R) -> R {
    point();
    operation(order)
}

atomic!(AtomicBool: bool = atomic::AtomicBool, const);
counter!(AtomicU32: u32 = atomic::AtomicU32, const);
counter!(AtomicU64: u64 = atomic::AtomicU64, const);
counter!(AtomicUsize: usize = atomic::AtomicUsize, const);

/// Sleeps until the future is ready: the scheduler does not run a thread that nothing has woken.
fn asleep<R>(future: impl Future<Output = R>) -> R {
    let thread = usize::from(thread::current().id());
    if WHERE.get() {
        let place = std::backtrace::Backtrace::force_capture();
        ASLEEP.with_borrow_mut(|asleep| asleep.insert(thread, place.to_string()));
    }
    let result = shuttle::future::block_on(future);
    if WHERE.get() {
        ASLEEP.with_borrow_mut(|asleep| asleep.remove(&thread));
    }
    result
}

/// Where each thread sleeps; kept only from [`note_sleepers`] on.
pub(crate) fn sleepers() -> BTreeMap<usize, String> {
    ASLEEP.take()
}

pub(crate) fn note_sleepers() {
    WHERE.set(true);
}

/// Memory of the simulation's own, which is used between two points only.
fn own<T>(memory: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mutex that a panic does not poison.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T> {
    is_locked: atomic::AtomicBool,
    waiting: std::sync::Mutex<Vec<Waker>>,
    value: std::sync::Mutex<T>,
}

/// Empty only inside [`Condvar`]'s waits.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    value: Option<std::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Mutex {
            is_locked: atomic::AtomicBool::new(false),
            waiting: std::sync::Mutex::new(Vec::new()),
            value: std::sync::Mutex::new(value),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        point();
        self.acquire();
        self.guard()
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        point();
        (!self.is_locked.swap(true, SeqCst)).then(|| self.guard())
    }

    fn acquire(&self) {
        if self.is_locked.swap(true, SeqCst) {
            self.wait();
        }
    }

    fn wait(&self) {
        asleep(poll_fn(|context| {
            if !self.is_locked.swap(true, SeqCst) {
                return Poll::Ready(());
            }
            own(&self.waiting).push(context.waker().clone());
            Poll::Pending
        }));
    }

    fn guard(&self) -> MutexGuard<'_, T> {
        let value = Some(own(&self.value));
        MutexGuard { mutex: self, value }
    }

    fn release(&self) {
        self.is_locked.store(false, SeqCst);
        let waiting = std::mem::take(&mut *own(&self.waiting));
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        self.mutex.release();
        point();
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("locked")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("locked")
    }
}

/// Whether a wait ended because its time was over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(self) -> bool {
        self.0
    }
}

/// A condition variable that takes the guard by reference.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    waiting: std::sync::Mutex<Vec<Arc<Sleeper>>>,
}

impl Condvar {
    pub(crate) const fn new() -> Self {
        Condvar {
            waiting: std::sync::Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn notify_one(&self) {
        point();
        let first = {
            let mut waiting = own(&self.waiting);
            (!waiting.is_empty()).then(|| waiting.remove(0))
        };
        first
            .iter()
            .for_each(|sleeper| sleeper.wake(Wake::Notified));
    }

    pub(crate) fn notify_all(&self) {
        point();
        let all = std::mem::take(&mut *own(&self.waiting));
        all.iter().for_each(|sleeper| sleeper.wake(Wake::Notified));
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.sleep(guard, None);
    }

    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Instant,
    ) -> WaitTimeoutResult {
        WaitTimeoutResult(self.sleep(guard, Some(deadline)) == Wake::TimeIsOver)
    }

    fn sleep<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Option<Instant>) -> Wake {
        let sleeper = Arc::new(Sleeper::new());
        own(&self.waiting).push(Arc::clone(&sleeper));
        guard.value = None;
        guard.mutex.release();
        let why = sleeper.sleep(deadline);
        own(&self.waiting).retain(|other| !Arc::ptr_eq(other, &sleeper));
        point();
        guard.mutex.acquire();
        guard.value = Some(own(&guard.mutex.value));
        why
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Notified,
    TimeIsOver,
}

/// A thread that sleeps until it is woken, or until its time is over.
#[derive(Debug)]
pub(crate) struct Sleeper {
    state: std::sync::Mutex<(Option<Wake>, Option<Waker>)>,
}

impl Sleeper {
    pub(crate) fn new() -> Sleeper {
        Sleeper {
            state: std::sync::Mutex::new((None, None)),
        }
    }

    /// What comes first, counts.
    pub(crate) fn wake(&self, why: Wake) {
        let waker = {
            let mut state = own(&self.state);
            state.0.get_or_insert(why);
            state.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn sleep(self: &Arc<Self>, deadline: Option<Instant>) -> Wake {
        let timer = deadline.map(|deadline| Timers::add(deadline, self));
        let why = asleep(poll_fn(|context| {
            let mut state = own(&self.state);
            state.1 = Some(context.waker().clone());
            state.0.map_or(Poll::Pending, Poll::Ready)
        }));
        timer.iter().for_each(Timers::remove);
        why
    }
}

type Key = (Instant, u64);

#[derive(Debug, Default)]
struct Timers {
    sleepers: BTreeMap<Key, Arc<Sleeper>>,
    serial: u64,
}

std::thread_local! {
    static WHERE: Cell<bool> = const { Cell::new(false) };
    static ASLEEP: RefCell<BTreeMap<usize, String>> = const { RefCell::new(BTreeMap::new()) };
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
    static TIMERS: RefCell<Timers> = RefCell::new(Timers::default());
    /// One of so many threads can't be started; 0: each can.
    static REFUSAL: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

impl Timers {
    fn add(deadline: Instant, sleeper: &Arc<Sleeper>) -> Key {
        TIMERS.with_borrow_mut(|timers| {
            timers.serial += 1;
            let key = (deadline, timers.serial);
            timers.sleepers.insert(key, Arc::clone(sleeper));
            key
        })
    }

    fn remove(key: &Key) {
        TIMERS.with_borrow_mut(|timers| timers.sleepers.remove(key));
    }

    /// Those whose time is over.
    fn due(now: Instant) -> Vec<Arc<Sleeper>> {
        TIMERS.with_borrow_mut(|timers| {
            let later = timers.sleepers.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut timers.sleepers, later);
            due.into_values().collect()
        })
    }
}

/// A day after the process began: the coarse clock of one simulation is never behind that of the one before.
fn beginning() -> Instant {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    *BEGINNING.get_or_init(Instant::now)
}

pub(crate) fn now() -> Instant {
    NOW.get().unwrap_or_else(beginning)
}

/// Since the first simulation of this thread began.
pub(crate) fn clock() -> Duration {
    now() - beginning()
}

/// Sleeps in simulated time.
pub(crate) fn sleep(time: Duration) {
    Arc::new(Sleeper::new()).sleep(Some(now() + time));
}

/// What a simulation begins with: no timers, and a clock that is well ahead of the last one's.
pub(crate) fn begin(refusal: u32) {
    TIMERS.take();
    NOW.set(Some(now() + Duration::from_secs(100)));
    REFUSAL.set((refusal, 0));
}

/// When the next sleeper's time is over.
pub(crate) fn next_timer() -> Option<Instant> {
    TIMERS.with_borrow(|timers| timers.sleepers.keys().next().map(|key| key.0))
}

/// Moves the clock on, and wakes the sleepers whose time is over.
pub(crate) fn pass_time(until: Instant) {
    NOW.set(Some(until.max(now())));
    for sleeper in Timers::due(now()) {
        sleeper.wake(Wake::TimeIsOver);
    }
}

/// Starts threads, or can't.
#[derive(Debug)]
pub(crate) struct Builder(thread::Builder);

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder(thread::Builder::new())
    }

    pub(crate) fn name(self, name: String) -> Builder {
        Builder(self.0.name(name))
    }

    pub(crate) fn spawn<R: Send + 'static>(
        self,
        body: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<JoinHandle<R>> {
        let (one_in, started) = REFUSAL.get();
        REFUSAL.set((one_in, started + 1));
        if one_in > 0 && (started + 1).is_multiple_of(one_in) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.spawn(body)
    }
}
