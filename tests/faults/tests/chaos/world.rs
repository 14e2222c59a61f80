//! What all threads share, and the mischief that user code does in it.

use super::kit::Random;
use super::pages::Store;
use kiocb::op::Read;
use kiocb::{Aio, Dispatch, SyncGroup};
use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Kinds of what a thread does.
pub(super) const DEEDS: usize = 20;

thread_local! {
    /// What this thread is doing.
    pub(super) static DEED: Cell<usize> = const { Cell::new(0) };
}

/// What all threads share.
pub(super) struct World {
    pub(super) aio: Aio,
    pub(super) dispatch: Dispatch,
    pub(super) mode: bool,
    pub(super) stores: Vec<Arc<Store>>,
    pub(super) log: SyncGroup<File>,
    pub(super) zero: Arc<File>,
    pub(super) dice: AtomicU64,
    pub(super) accepted: AtomicUsize,
    pub(super) called: AtomicUsize,
    pub(super) buffers: AtomicUsize,
    pub(super) dropped: AtomicUsize,
    pub(super) ops: AtomicUsize,
    /// Buffers and callbacks that are not dropped, by the deed that they were made for.
    pub(super) alive: [AtomicUsize; DEEDS],
    pub(super) uncalled: [AtomicUsize; DEEDS],
    /// What went wrong where a panic would be taken for mischief.
    pub(super) faults: Mutex<Vec<String>>,
}

pub(super) type Shared = Arc<World>;

/// The panics that are meant.
pub(super) struct Mischief;

/// The same, and another one when it is dropped.
pub(super) struct DoubleMischief;

pub(super) fn is_meant(panic: &(dyn std::any::Any + Send)) -> bool {
    panic.is::<Mischief>() || panic.is::<DoubleMischief>()
}

impl Drop for DoubleMischief {
    fn drop(&mut self) {
        if !thread::panicking() {
            resume_unwind(Box::new(Mischief));
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("accepted", &self.accepted)
            .field("called", &self.called)
            .field("buffers", &self.buffers)
            .field("dropped", &self.dropped)
            .field("alive", &self.alive)
            .field("uncalled", &self.uncalled)
            .field("stats", &self.aio.stats())
            .finish_non_exhaustive()
    }
}

impl World {
    pub(super) fn dice(&self) -> Random {
        Random(
            self.dice
                .fetch_add(0x1234_5678_9abc_def1, Ordering::Relaxed),
        )
    }

    pub(super) fn fault(&self, what: String) {
        self.faults.lock().unwrap().push(what);
    }

    /// A check whose failure must be heard, wherever it is made.
    pub(super) fn hear(&self, check: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(check)) {
            if is_meant(&*panic) {
                return std::mem::forget(panic); // of what was dropped in there
            }
            let text = panic.downcast_ref::<String>().cloned();
            self.fault(text.unwrap_or_else(|| "a check failed".to_owned()));
        }
    }

    /// Whether every callback was called and every buffer dropped.
    pub(super) fn is_settled(&self) -> bool {
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        count(&self.called) == count(&self.accepted) && count(&self.dropped) == count(&self.buffers)
    }

    /// A callback that does its part and then some mischief.
    pub(super) fn callback<T: Send + 'static>(
        self: &Arc<Self>,
        part: impl FnOnce(T) + Send + 'static,
    ) -> impl FnOnce(T) + Send + 'static {
        let (world, deed) = (Arc::clone(self), DEED.get());
        world.uncalled[deed].fetch_add(1, Ordering::SeqCst);
        move |done| {
            world.hear(|| part(done));
            world.called.fetch_add(1, Ordering::SeqCst);
            world.uncalled[deed].fetch_sub(1, Ordering::SeqCst);
            mischief(&world);
        }
    }

    pub(super) fn accept<E: std::fmt::Debug>(&self, submitted: Result<(), E>) {
        submitted.expect("the context takes all");
        self.accepted.fetch_add(1, Ordering::SeqCst);
    }
}

/// What user code does besides: mostly nothing.
pub(super) fn mischief(world: &Shared) {
    if thread::panicking() {
        return; // a second panic would be the end
    }
    let mut dice = world.dice();
    match dice.below(60) {
        0 => resume_unwind(Box::new(Mischief)),
        1 => resume_unwind(Box::new(DoubleMischief)),
        2 => {
            let request = world
                .aio
                .alloc()
                .init_rw(Arc::clone(&world.zero), Read, [1; 64], 0);
            let called = Arc::clone(world);
            let request = request.init_callback(move |done| {
                if done.buf != [0; 64] {
                    called.fault(format!("/dev/zero: {:?}", done.result));
                }
                called.called.fetch_add(1, Ordering::SeqCst);
            });
            world.accept(request.submit().map_err(|refused| refused.into_parts().0));
        }
        3 => {
            let mut buf = [1; 64];
            let read = world.aio.read_at(&world.zero, &mut buf, 0);
            if !matches!(read, Ok(64)) || buf != [0; 64] {
                world.fault(format!("a wait in user code: {read:?}"));
            }
        }
        4 => {
            let read = world
                .aio
                .alloc()
                .init_rw(Arc::clone(&world.zero), Read, [1; 64], 0);
            drop(read.start());
        }
        5 => drop(world.aio.drain_timeout(Duration::from_micros(100))), // refused, or too late
        6 => drop(world.aio.poll(0, 4, None)),
        7 => thread::sleep(Duration::from_micros(50)),
        8 => log::info!("mischief"),
        9 => drop(world.aio.stats()),
        10 if dice.below(10) == 0 => another_context(world),
        _ => {}
    }
}

/// A context that ends wherever this is, with something under way.
pub(super) fn another_context(world: &Shared) {
    let builder = Aio::builder()
        .depth(2)
        .dispatch(world.dispatch)
        .force_syscalls(world.mode);
    let Ok(other) = builder.build() else { return };
    for _ in 0..4 {
        let called = Arc::clone(world);
        let request = other
            .alloc()
            .init_rw(Arc::clone(&world.zero), Read, [1; 64], 0);
        let request = request.init_callback(move |_| {
            called.called.fetch_add(1, Ordering::SeqCst);
        });
        world.accept(request.submit().map_err(|refused| refused.into_parts().0));
    }
    drop(other);
}
