//! The completion thread, its callbacks, and drains beside them.

use super::*;

fn one_callback(dispatch: Dispatch, mode: Mode, fate: Behaviour) {
    explore(move || {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = engine(dispatch, mode, 2);
        let thread = completion_thread(&engine);
        let called = calls.clone();
        let ask = TestOp::new(fate, 1, &ends).then(move |result| {
            assert_eq!(result, 1);
            called.one_more();
        });
        assert!(engine.submit(ask).is_ok());
        if fate == Behaviour::Held {
            engine.kernel.complete(Next::Oldest);
        }
        engine.drain(None).expect("idle");
        assert_eq!((ends.get(), calls.get()), (1, 1));
        end(&engine, thread);
    });
}

#[test]
fn the_completion_thread_wakes_for_a_callback() {
    one_callback(Dispatch::Thread, Mode::Ring, Behaviour::AtOnce);
}

#[test]
fn the_completion_thread_sleeps_until_the_device_is_done() {
    one_callback(Dispatch::Thread, Mode::Ring, Behaviour::Held);
}

#[test]
fn the_completion_thread_by_syscalls() {
    one_callback(Dispatch::Thread, Mode::Syscalls, Behaviour::Held);
}

#[test]
fn a_callback_anywhere() {
    one_callback(Dispatch::Anywhere, Mode::Ring, Behaviour::AtOnce);
}

/// The waiter may take the callback's event, but may not run the callback. Only the waiter may take its own
/// event while it leads.
fn a_callback_beside_a_waiter(dispatch: Dispatch, mode: Mode) {
    explore(move || {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = engine(dispatch, mode, 2);
        let thread = completion_thread(&engine);
        let called = calls.clone();
        let ask = TestOp::new(Behaviour::AtOnce, 1, &ends).then(move |_| called.one_more());
        assert!(engine.submit(ask).is_ok());
        wait(&engine, Behaviour::AtOnce, 2, &ends);
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

/// The engine must not be seen idle in the gap between a callback and what it submits.
fn a_drain_beside_a_callback_that_submits(dispatch: Dispatch, depth: u32, fate: Behaviour) {
    explore(move || {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = engine(dispatch, Mode::Ring, depth);
        let thread = completion_thread(&engine);
        let device = (fate == Behaviour::Held).then(|| device(&engine, 1));
        let (again, called, ended) = (Arc::clone(&engine), calls.clone(), ends.clone());
        let ask = TestOp::new(Behaviour::AtOnce, 1, &ends).then(move |_| {
            let last = called.clone();
            let next = TestOp::new(fate, 2, &ended).then(move |_| last.one_more());
            assert!(again.submit(next).is_ok());
            called.one_more();
        });
        assert!(engine.submit(ask).is_ok());
        engine.drain(None).expect("idle");
        assert_eq!((ends.get(), calls.get()), (2, 2));
        device.map(join);
        end(&engine, thread);
    });
}

#[test]
fn a_drain_sees_what_a_callback_has_submitted() {
    a_drain_beside_a_callback_that_submits(Dispatch::Thread, 1, Behaviour::AtOnce);
}

#[test]
fn a_drain_sees_what_a_callback_has_submitted_and_the_device_has() {
    a_drain_beside_a_callback_that_submits(Dispatch::Thread, 2, Behaviour::Held);
}

#[test]
fn a_drain_sees_what_a_callback_has_submitted_anywhere() {
    a_drain_beside_a_callback_that_submits(Dispatch::Anywhere, 2, Behaviour::AtOnce);
}

/// The thread must not end while another thread runs a callback that submits, or resumes a request.
#[test]
fn a_stop_beside_a_waiter_that_runs_a_callback_that_submits() {
    explore(|| {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = engine(Dispatch::Anywhere, Mode::Ring, 2);
        let thread = completion_thread(&engine);
        let (again, called, ended) = (Arc::clone(&engine), calls.clone(), ends.clone());
        let ask = TestOp::new(Behaviour::AtOnce, 1, &ends).then(move |_| {
            let next = TestOp::new(Behaviour::AtOnce, 2, &ended).then(move |_| called.one_more());
            // By the way that an engine closed to the outside leaves open.
            assert!(again.submit(next).is_ok());
        });
        assert!(engine.submit(ask).is_ok());
        engine.stop();
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
                let ask = TestOp::new(Behaviour::AtOnce, 4, &ends).in_two_parts();
                if let Ok(answer) = engine.submit_and_wait(ask) {
                    assert_eq!(answer, 4);
                }
            })
        };
        let called = calls.clone();
        let ask = TestOp::new(Behaviour::AtOnce, 2, &ends).then(move |_| called.one_more());
        assert!(engine.submit(ask).is_ok());
        end_of_it(&engine, thread);
        join(waiter);
        assert_eq!((ends.get(), calls.get()), (2, 1));
    });
}

#[test]
fn a_drain_beside_a_request_that_goes_on() {
    a_request_that_goes_on(|engine, thread| {
        engine.drain(None).expect("idle");
        end(engine, thread);
    });
}
