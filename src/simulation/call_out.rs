//! User code that the crate calls: it does nothing, or its worst.

use super::character::Hostility;
use super::ledger::{Kind, ended, given_back, ledger, open, submitting};
use super::things::{Handle, Memory};
use crate::aio::Aio;
use crate::error::AioError;
use crate::op::{Read, Write};
use crate::sync::{self, yield_now};
use crate::sys::seeded::NAME;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// Where user code is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Callback,
    Drop,
    Waker,
    Logger,
    Hook,
}

/// What user code throws.
pub(super) struct Thrown {
    is_bomb: bool,
}

impl Drop for Thrown {
    fn drop(&mut self) {
        if self.is_bomb && !std::thread::panicking() {
            std::panic::panic_any(Thrown { is_bomb: false });
        }
    }
}

std::thread_local! {
    static HOSTILITY: Cell<Hostility> = const { Cell::new(Hostility { acts: 0, panics: false, sleeps: false, waits: false }) };
    static AIOS: RefCell<Vec<Option<Aio>>> = const { RefCell::new(Vec::new()) };
}

shuttle::thread_local! {
    /// How many call-outs are on the thread's stack.
    static DEPTH: Cell<usize> = Cell::new(0);
    /// The hook runs, with what it calls.
    static IN_HOOK: Cell<bool> = Cell::new(false);
}

pub(super) fn begin(hostility: Hostility, contexts: usize) {
    HOSTILITY.set(hostility);
    // What a run that failed has left is not looked at again.
    std::mem::forget(AIOS.replace((0..contexts).map(|_| None).collect()));
}

/// Handles are not dropped outside of a simulation.
pub(super) fn forget() {
    std::mem::forget(AIOS.take());
}

/// User code does no harm any more: the program is about to end.
pub(super) fn calm_down() {
    HOSTILITY.set(Hostility::default());
}

/// A handle of the context, if it exists now.
pub(super) fn aio(place: usize) -> Option<Aio> {
    AIOS.with_borrow(|aios| aios[place].clone())
}

/// Puts a context there. Returns the one that was there.
pub(super) fn replace_aio(place: usize, aio: Option<Aio>) -> Option<Aio> {
    AIOS.with_borrow_mut(|aios| std::mem::replace(&mut aios[place], aio))
}

pub(super) fn aios() -> usize {
    AIOS.with_borrow(Vec::len)
}

struct Deeper;

impl Drop for Deeper {
    fn drop(&mut self) {
        let left = DEPTH.try_with(|depth| depth.replace(depth.get() - 1));
        if left.is_ok_and(|depth| depth == 1) {
            IN_HOOK.with(|in_hook| in_hook.set(false));
        }
    }
}

/// To be called where user code runs.
pub(super) fn call_out(place: Place) {
    let Ok(depth) = DEPTH.try_with(Cell::get) else {
        return;
    };
    let hostility = HOSTILITY.get();
    let acts = hostility.acts > 0 && ledger(|ledger| ledger.dice.roll(hostility.acts) == 0);
    if !acts || depth > 1 || std::thread::panicking() {
        return;
    }
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    let _deeper = Deeper;
    if place == Place::Hook {
        IN_HOOK.with(|in_hook| in_hook.set(true));
    }
    act(place, hostility);
}

fn act(place: Place, hostility: Hostility) {
    match ledger(|ledger| ledger.dice.roll(10)) {
        0 | 1 if hostility.panics => {
            let is_bomb = ledger(|ledger| ledger.dice.roll(4) == 0);
            std::panic::panic_any(Thrown { is_bomb });
        }
        2 if hostility.sleeps => {
            let time = ledger(|ledger| 1 + ledger.dice.roll(40));
            sync::sleep(Duration::from_millis(time));
        }
        3 | 4 => submit(),
        // The hook may not: its thread is not yet there for the context.
        5 if hostility.waits && !IN_HOOK.with(Cell::get) => wait(),
        6 => drain(place),
        7 => drop_one(),
        8 if place != Place::Logger => log::info!("hello"),
        9 => look(),
        _ => yield_now(),
    }
}

fn some_aio() -> Option<Aio> {
    aio(ledger(|ledger| ledger.dice.below(aios())))
}

/// One more request may be made by user code.
fn may_request() -> bool {
    ledger(|ledger| {
        let may = ledger.budget > 0;
        ledger.budget -= usize::from(may);
        may
    })
}

/// A request of user code's own, with a callback.
fn submit() {
    let Some(aio) = some_aio().filter(|_| may_request()) else {
        return;
    };
    let (name, file) = (open(Kind::Plain, 8), ledger(|ledger| ledger.dice.below(4)));
    let request = aio
        .alloc()
        .init_rw(
            Handle::new(file),
            Write,
            Memory::to_write(name, 8),
            name << NAME,
        )
        .init_callback(move |done| {
            ended(name, &done.result);
            call_out(Place::Callback);
        });
    let _now = submitting(&[name], true);
    if let Err(error) = request.submit() {
        given_back(name, error);
    }
}

/// A request of user code's own that it waits for.
fn wait() {
    let Some(aio) = some_aio().filter(|_| may_request()) else {
        return;
    };
    let (name, file) = (open(Kind::Plain, 8), ledger(|ledger| ledger.dice.below(4)));
    let request = aio
        .alloc()
        .init_rw(Handle::new(file), Read, Memory::to_read(8), name << NAME);
    let _now = submitting(&[name], true);
    match request.wait() {
        Ok(done) => ended(name, &done.result),
        Err(error) => given_back(name, error),
    }
}

/// Waiting for a whole context would wait for this very callback.
fn drain(place: Place) {
    if place != Place::Callback {
        return;
    }
    let Some(aio) = some_aio() else {
        return;
    };
    let answer = aio.drain().map_err(|error| crate::error::errno_of(&error));
    if answer != Err(AioError::WouldDeadlock.errno()) {
        super::ledger::violate(format!("a callback drained: {answer:?}"));
    }
}

/// Perhaps the last handle.
fn drop_one() {
    let place = ledger(|ledger| ledger.dice.below(aios()));
    drop(replace_aio(place, None));
}

fn look() {
    let Some(aio) = some_aio() else {
        return;
    };
    check_stats(&aio);
}

pub(super) fn check_stats(aio: &Aio) {
    let stats = aio.stats();
    let parts = stats.completed + stats.in_flight + stats.queued;
    if stats.accepted != parts {
        super::ledger::violate(format!("the parts do not add up: {stats:?}"));
    }
}

/// What user code throws on a thread of the program's own is the program's affair.
pub(super) fn survive(what: impl FnOnce()) {
    if let Err(thrown) = catch_unwind(AssertUnwindSafe(what)) {
        if !thrown.is::<Thrown>() {
            resume_unwind(thrown);
        }
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(thrown))) {
            std::mem::forget(second);
        }
    }
}
