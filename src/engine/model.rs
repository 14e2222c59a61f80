//! Models of the protocols, for loom: it runs each of them in every order of its threads' steps (up to a
//! number of preemptions) and with every value that a load may see. The engine is the real one, the kernel is
//! simulated. `.ci/model` runs them.
//!
//! A lost wake-up shows as a deadlock, a use after the end as an error of the allocator or of a cell's race
//! detector, double delivery as an assertion of the simulated kernel or a count that is not 1.

use super::Engine;
use super::probe::{Ask, Count, engine};
use super::request::{Request, Settled};
use super::watch::Watch;
use crate::dispatch::Dispatch;
use crate::sync::current;
use crate::sys::Mode;
use crate::sys::simulated::{Fate, Next};
use loom::thread::{self, JoinHandle};
use std::sync::Arc;
use std::task::{Wake, Waker};

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
        engine.dispatcher.adopt();
        engine.run();
        engine.tear_down();
    })
}

/// Submits, waits, and looks at the answer.
fn wait(engine: &Engine, fate: Fate, name: u64, ends: &Count) {
    let answer = engine.submit_and_wait(Ask::new(fate, name, ends));
    assert_eq!(answer.expect("accepted"), name.cast_signed());
}

fn waiter(engine: &Arc<Engine>, fate: Fate, name: u64, ends: &Count) -> JoinHandle<()> {
    let (engine, ends) = (Arc::clone(engine), ends.clone());
    thread::spawn(move || wait(&engine, fate, name, &ends))
}

/// Closes as the last `drop` does, and joins the thread.
fn end(engine: &Engine, completion_thread: JoinHandle<()>) {
    engine.close();
    engine.stop(false);
    join(completion_thread);
}

// ---- The state word of a watched request ----

struct Unpark(crate::sync::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn waker() -> Waker {
    Waker::from(Arc::new(Unpark(current())))
}

/// A request on its way, and both of its ends.
fn in_flight(ends: &Count) -> (Request, Watch<Ask>) {
    let mut sent = None;
    let ask = Ask::new(Fate::Held, 7, ends);
    let watch = Request::offer_watched::<_, ()>(ask, false, |request| {
        sent = Some(request);
        Ok(())
    });
    (sent.expect("offered"), watch.expect("taken"))
}

/// The reaper's part.
fn settle(mut request: Request) {
    request.set_result(7);
    match request.settle() {
        Settled::Quiet => {}
        Settled::Wake(waker) => waker.wake(),
        Settled::Abandoned(request) => request.finish(),
    }
}

fn park_until_done(watch: &mut Watch<Ask>) {
    while watch.leave(&waker()) {
        crate::sync::park();
    }
}

#[test]
fn a_watcher_that_sleeps_is_woken_and_finds_the_result() {
    explore(|| {
        let ends = Count::new();
        let (request, mut watch) = in_flight(&ends);
        let reaper = thread::spawn(move || settle(request));
        park_until_done(&mut watch);
        assert_eq!(watch.take().expect("done"), 7);
        join(reaper);
        assert_eq!(ends.get(), 1);
    });
}

#[test]
fn a_watcher_that_changes_its_waker_and_goes_leaves_the_body_to_one_of_the_two() {
    explore(|| {
        let ends = Count::new();
        let (request, mut watch) = in_flight(&ends);
        let reaper = thread::spawn(move || settle(request));
        if watch.leave(&waker()) {
            watch.leave(Waker::noop());
        }
        drop(watch);
        join(reaper);
        assert_eq!(ends.get(), 1);
    });
}

#[test]
fn a_watcher_that_looks_and_goes_takes_the_result_or_leaves_it() {
    explore(|| {
        let ends = Count::new();
        let (request, watch) = in_flight(&ends);
        let reaper = thread::spawn(move || settle(request));
        match watch.take() {
            Ok(result) => assert_eq!(result, 7),
            Err(watch) => drop(watch),
        }
        join(reaper);
        assert_eq!(ends.get(), 1);
    });
}

// ---- Leader and followers ----

fn two_waiters(mode: Mode, first: Next) {
    explore_less(move || {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, mode, 2);
        let waiters = [
            waiter(&engine, Fate::Held, 1, &ends),
            waiter(&engine, Fate::Held, 2, &ends),
        ];
        engine.kernel.complete(first);
        engine.kernel.complete(Next::Oldest);
        waiters.into_iter().for_each(join);
        assert_eq!((ends.get(), engine.outstanding()), (2, 0));
    });
}

#[test]
fn two_waiters_in_order() {
    two_waiters(Mode::Ring, Next::Oldest);
}

#[test]
fn two_waiters_in_reverse() {
    two_waiters(Mode::Ring, Next::Newest);
}

#[test]
fn two_waiters_by_syscalls() {
    two_waiters(Mode::Syscalls, Next::Oldest);
}

fn a_waiter_and_a_helper(mode: Mode) {
    explore(move || {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, mode, 2);
        let waiter = waiter(&engine, Fate::Held, 1, &ends);
        engine.kernel.complete(Next::Oldest);
        engine.help();
        join(waiter);
        assert_eq!((ends.get(), engine.outstanding()), (1, 0));
    });
}

#[test]
fn a_helper_does_not_take_what_the_leader_sleeps_for() {
    a_waiter_and_a_helper(Mode::Ring);
}

#[test]
fn a_helper_beside_a_leader_by_syscalls() {
    a_waiter_and_a_helper(Mode::Syscalls);
}

#[test]
fn a_waiter_that_reaps_for_another_does_not_leave_it_asleep() {
    explore(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 2);
        let other = waiter(&engine, Fate::AtOnce, 1, &ends);
        wait(&engine, Fate::AtOnce, 2, &ends);
        join(other);
        assert_eq!((ends.get(), engine.outstanding()), (2, 0));
    });
}

// ---- The completion thread ----

fn one_callback(dispatch: Dispatch, mode: Mode, fate: Fate) {
    explore(move || {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = engine(dispatch, mode, 2);
        let thread = completion_thread(&engine);
        let called = calls.clone();
        let ask = Ask::new(fate, 1, &ends).then(move |result| {
            assert_eq!(result, 1);
            called.one_more();
        });
        assert!(engine.submit(ask).is_ok());
        if fate == Fate::Held {
            engine.kernel.complete(Next::Oldest);
        }
        engine.drain(None).expect("silent");
        assert_eq!((ends.get(), calls.get()), (1, 1));
        end(&engine, thread);
    });
}

#[test]
fn the_completion_thread_wakes_for_a_callback() {
    one_callback(Dispatch::Thread, Mode::Ring, Fate::AtOnce);
}

#[test]
fn the_completion_thread_sleeps_until_the_device_is_done() {
    one_callback(Dispatch::Thread, Mode::Ring, Fate::Held);
}

#[test]
fn the_completion_thread_by_syscalls() {
    one_callback(Dispatch::Thread, Mode::Syscalls, Fate::Held);
}

#[test]
fn a_callback_anywhere() {
    one_callback(Dispatch::Anywhere, Mode::Ring, Fate::AtOnce);
}

/// The callback's event may be taken by the waiter, who may not run it, and the waiter's by nobody but itself
/// while it leads.
fn a_callback_beside_a_waiter(dispatch: Dispatch, mode: Mode) {
    explore(move || {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = engine(dispatch, mode, 2);
        let thread = completion_thread(&engine);
        let called = calls.clone();
        let ask = Ask::new(Fate::AtOnce, 1, &ends).then(move |_| called.one_more());
        assert!(engine.submit(ask).is_ok());
        wait(&engine, Fate::AtOnce, 2, &ends);
        end(&engine, thread);
        assert_eq!((ends.get(), calls.get()), (2, 1));
    });
}

#[test]
fn a_callback_beside_a_waiter_on_the_thread() {
    a_callback_beside_a_waiter(Dispatch::Thread, Mode::Ring);
}

#[test]
fn a_callback_beside_a_waiter_anywhere() {
    a_callback_beside_a_waiter(Dispatch::Anywhere, Mode::Ring);
}

#[test]
fn a_callback_beside_a_waiter_by_syscalls() {
    a_callback_beside_a_waiter(Dispatch::Thread, Mode::Syscalls);
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

/// Silence must not be seen in the gap between a callback and what it submits.
fn a_drain_beside_a_callback_that_submits(dispatch: Dispatch, depth: u32, fate: Fate) {
    explore(move || {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = engine(dispatch, Mode::Ring, depth);
        let thread = completion_thread(&engine);
        let device = (fate == Fate::Held).then(|| device(&engine, 1));
        let (again, called, ended) = (Arc::clone(&engine), calls.clone(), ends.clone());
        let ask = Ask::new(Fate::AtOnce, 1, &ends).then(move |_| {
            let last = called.clone();
            let next = Ask::new(fate, 2, &ended).then(move |_| last.one_more());
            assert!(again.submit(next).is_ok());
            called.one_more();
        });
        assert!(engine.submit(ask).is_ok());
        engine.drain(None).expect("silent");
        assert_eq!((ends.get(), calls.get()), (2, 2));
        device.map(join);
        end(&engine, thread);
    });
}

#[test]
fn a_drain_sees_what_a_callback_has_submitted() {
    a_drain_beside_a_callback_that_submits(Dispatch::Thread, 1, Fate::AtOnce);
}

#[test]
fn a_drain_sees_what_a_callback_has_submitted_and_the_device_has() {
    a_drain_beside_a_callback_that_submits(Dispatch::Thread, 2, Fate::Held);
}

#[test]
fn a_drain_sees_what_a_callback_has_submitted_anywhere() {
    a_drain_beside_a_callback_that_submits(Dispatch::Anywhere, 2, Fate::AtOnce);
}

/// The thread must not end while somebody else runs a callback that submits, or resumes a request.
#[test]
fn a_stop_beside_a_waiter_that_runs_a_callback_that_submits() {
    explore(|| {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = engine(Dispatch::Anywhere, Mode::Ring, 2);
        let thread = completion_thread(&engine);
        let (again, called, ended) = (Arc::clone(&engine), calls.clone(), ends.clone());
        let ask = Ask::new(Fate::AtOnce, 1, &ends).then(move |_| {
            let next = Ask::new(Fate::AtOnce, 2, &ended).then(move |_| called.one_more());
            // By the way that an engine closed to the outside leaves open.
            assert!(again.submit(next).is_ok());
        });
        assert!(engine.submit(ask).is_ok());
        engine.stop(false);
        join(thread);
        assert_eq!((ends.get(), calls.get()), (2, 1));
    });
}

fn a_request_that_goes_on(end_of_it: impl Fn(&Engine, JoinHandle<()>) + Send + Sync + 'static) {
    explore_less(move || {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = engine(Dispatch::Thread, Mode::Ring, 2);
        let thread = completion_thread(&engine);
        let waiter = {
            let (engine, ends) = (Arc::clone(&engine), ends.clone());
            thread::spawn(move || {
                let ask = Ask::new(Fate::AtOnce, 4, &ends).in_two_parts();
                if let Ok(answer) = engine.submit_and_wait(ask) {
                    assert_eq!(answer, 4);
                }
            })
        };
        let called = calls.clone();
        let ask = Ask::new(Fate::AtOnce, 2, &ends).then(move |_| called.one_more());
        assert!(engine.submit(ask).is_ok());
        end_of_it(&engine, thread);
        join(waiter);
        assert_eq!((ends.get(), calls.get()), (2, 1));
    });
}

#[test]
fn a_drain_beside_a_request_that_goes_on() {
    a_request_that_goes_on(|engine, thread| {
        engine.drain(None).expect("silent");
        end(engine, thread);
    });
}

// ---- Dispatch::Manual ----

fn a_poll_beside_a_waiter(mode: Mode) {
    explore(move || {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = engine(Dispatch::Manual, mode, 2);
        let called = calls.clone();
        let ask = Ask::new(Fate::AtOnce, 1, &ends).then(move |_| called.one_more());
        assert!(engine.submit(ask).is_ok());
        let waiter = waiter(&engine, Fate::AtOnce, 2, &ends);
        engine.drain(None).expect("silent");
        assert_eq!(calls.get(), 1);
        join(waiter);
        assert_eq!(ends.get(), 2);
    });
}

#[test]
fn a_poll_beside_a_waiter_by_the_ring() {
    a_poll_beside_a_waiter(Mode::Ring);
}

#[test]
fn a_poll_beside_a_waiter_by_syscalls() {
    a_poll_beside_a_waiter(Mode::Syscalls);
}

#[test]
fn the_end_beside_a_poll() {
    explore(|| {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = engine(Dispatch::Manual, Mode::Ring, 2);
        let called = calls.clone();
        let ask = Ask::new(Fate::AtOnce, 1, &ends).then(move |_| called.one_more());
        assert!(engine.submit(ask).is_ok());
        let poller = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || engine.poll(1, 1, None).expect("manual"))
        };
        engine.shut_down(None).expect("silent");
        join(poller);
        assert_eq!((ends.get(), calls.get()), (1, 1));
    });
}

// ---- The backlog ----

/// Late, if it had to queue first.
fn refused_at_once_or_late(engine: &Engine, refused: Ask) {
    match engine.submit_and_wait(refused) {
        Ok(result) => assert_eq!(result, i64::from(-libc::EBADF)),
        Err((error, _)) => assert_eq!(error.raw_os_error(), Some(libc::EBADF)),
    }
}

#[test]
fn behind_full_slots_somebody_pumps() {
    explore(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let other = waiter(&engine, Fate::AtOnce, 1, &ends);
        wait(&engine, Fate::AtOnce, 2, &ends);
        join(other);
        assert_eq!((ends.get(), engine.outstanding()), (2, 0));
    });
}

#[test]
fn behind_a_request_that_is_refused_somebody_pumps() {
    explore(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let other = waiter(&engine, Fate::AtOnce, 1, &ends);
        let refused = Ask::new(Fate::AtOnce, 2, &ends).refused(libc::EBADF);
        refused_at_once_or_late(&engine, refused);
        join(other);
        assert_eq!((ends.get(), engine.outstanding()), (2, 0));
    });
}

#[test]
fn one_threads_requests_reach_the_kernel_in_order() {
    explore(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let other = waiter(&engine, Fate::AtOnce, 9, &ends);
        let mut watches = Vec::new();
        for name in 1..=2 {
            let watch = engine.start(Ask::new(Fate::AtOnce, name, &ends));
            watches.push(watch.expect("accepted"));
        }
        for mut watch in watches {
            assert!(engine.wait_for(&mut watch, None));
            watch.take().expect("done");
        }
        join(other);
        let own: Vec<_> = engine
            .kernel
            .accepted()
            .into_iter()
            .filter(|name| *name != 9)
            .collect();
        assert_eq!((own, ends.get()), (vec![1, 2], 3));
    });
}

// ---- The end ----

#[test]
fn a_submitter_beside_a_shutdown_is_served_or_refused() {
    explore(|| {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let thread = completion_thread(&engine);
        let submitter = {
            let (engine, called, ends) = (Arc::clone(&engine), calls.clone(), ends.clone());
            thread::spawn(move || {
                let ask = Ask::new(Fate::AtOnce, 1, &ends).then(move |_| called.one_more());
                engine.submit(ask).is_ok()
            })
        };
        engine.close();
        engine.drain(None).expect("silent");
        end(&engine, thread);
        let accepted = join(submitter);
        assert_eq!((calls.get(), ends.get()), (usize::from(accepted), 1));
    });
}

#[test]
fn a_waiter_beside_a_shutdown_is_served_or_refused() {
    explore(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let thread = completion_thread(&engine);
        let waiter = {
            let (engine, ends) = (Arc::clone(&engine), ends.clone());
            thread::spawn(move || {
                let _ = engine.submit_and_wait(Ask::new(Fate::AtOnce, 1, &ends));
            })
        };
        engine.close();
        engine.drain(None).expect("silent");
        end(&engine, thread);
        join(waiter);
        assert_eq!(ends.get(), 1);
    });
}

#[test]
fn a_drain_hears_of_the_silence_after_a_pump() {
    explore(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let waiters = [
            waiter(&engine, Fate::AtOnce, 1, &ends),
            waiter(&engine, Fate::AtOnce, 2, &ends),
        ];
        engine.drain(None).expect("silent");
        waiters.into_iter().for_each(join);
    });
}

/// Rule 3: who leads for a request that is refused late hears of it although no event comes.
#[test]
fn a_leader_whose_request_is_refused_late_wakes() {
    explore(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let first = engine
            .start(Ask::new(Fate::Held, 1, &ends))
            .expect("accepted");
        let refused = {
            let (engine, ends) = (Arc::clone(&engine), ends.clone());
            thread::spawn(move || {
                let ask = Ask::new(Fate::AtOnce, 2, &ends).refused(libc::EBADF);
                refused_at_once_or_late(&engine, ask);
            })
        };
        engine.kernel.complete(Next::Oldest);
        let mut first = first;
        assert!(engine.wait_for(&mut first, None));
        first.take().expect("done");
        join(refused);
        assert_eq!((ends.get(), engine.outstanding()), (2, 0));
    });
}
