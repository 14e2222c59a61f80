//! Models of the protocols, for loom: it runs each of them in every order of its threads' steps (up to a
//! number of preemptions) and with every value that a load may see. The engine is the real one, the kernel is
//! simulated. `.ci/model` runs them.
//!
//! A lost wake-up shows as a deadlock, a use after the end as an error of the allocator or of a cell's race
//! detector, double delivery as an assertion of the simulated kernel or a count that is not 1.

mod cancelling;
mod dispatcher;
mod ends;
mod helper;
mod queues;
mod roles;
mod state;
mod threads;
mod user_code;

use super::Engine;
use super::request::{OwnedCell, Settled, Watch};
use super::testing::{Count, TestOp, engine};
use crate::dispatch::Dispatch;
use crate::sync::Parker;
use crate::sys::Mode;
use crate::sys::simulated::{Behaviour, Next};
use loom::thread::{self, JoinHandle};
use std::sync::Arc;
use std::task::Waker;

/// Explores `model` with three preemptions: each error that was ever found here needed no more.
/// LOOM_MAX_PREEMPTIONS changes that.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    explore_with(3, model);
}

/// For models with so many steps that three preemptions take minutes.
fn explore_less(model: impl Fn() + Send + Sync + 'static) {
    explore_with(2, model);
}

fn explore_with(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 20_000;
    let runs = Count::new();
    let each = runs.clone();
    builder.check(move || {
        each.one_more();
        model();
    });
    println!("{} executions", runs.get());
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().expect("no thread panics")
}

/// The completion thread, as `thread::spawn` makes it.
fn completion_thread(engine: &Arc<Engine>) -> JoinHandle<()> {
    let engine = Arc::clone(engine);
    thread::spawn(move || {
        engine.live();
    })
}

/// Submits, waits, and looks at the answer.
fn wait(engine: &Engine, fate: Behaviour, name: u64, ends: &Count) {
    let answer = engine.submit_and_wait(TestOp::new(fate, name, ends));
    assert_eq!(answer.expect("accepted"), name.cast_signed());
}

fn waiter(engine: &Arc<Engine>, fate: Behaviour, name: u64, ends: &Count) -> JoinHandle<()> {
    let (engine, ends) = (Arc::clone(engine), ends.clone());
    thread::spawn(move || wait(&engine, fate, name, &ends))
}

/// The device's part: one completion for each that is held.
fn device(engine: &Arc<Engine>, completions: usize) -> JoinHandle<()> {
    let engine = Arc::clone(engine);
    thread::spawn(move || {
        for _ in 0..completions {
            engine.kernel.complete(Next::Oldest);
        }
    })
}

/// Closes as the last `drop` does, and joins the thread.
fn end(engine: &Engine, completion_thread: JoinHandle<()>) {
    engine.close();
    engine.stop();
    join(completion_thread);
}
