//! The helper thread, which submits for threads that must not block.

use super::*;
use crate::sync::now;
use std::time::Instant;

/// Over at the first look: a model has no clock.
fn at_once() -> Option<Instant> {
    Some(now())
}

/// A thread with a deadline frees the slot; the helper thread submits what waits for it.
#[test]
fn the_helper_pumps_for_a_thread_with_a_deadline() {
    explore(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let start = |name| engine.start(TestOp::new(Behaviour::Held, name, &ends));
        let mut first = start(1).expect("accepted");
        let mut second = start(2).expect("queued");
        engine.kernel.complete(Next::Oldest);
        while !engine.wait(&mut first, at_once()) {}
        engine.kernel.complete(Next::Oldest); // waits for the helper thread
        assert!(engine.wait(&mut second, None));
        let results = [first, second].map(|watch| watch.take().expect("done"));
        assert_eq!((results, ends.get()), ([1, 2], 2));
        engine
            .await_idle(None)
            .expect("the helper thread has done its part");
    });
}

/// The helper thread is about to end, or has just been started by the other one.
#[test]
fn what_would_block_is_submitted_again_by_the_helper() {
    explore_less(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 2);
        let other = {
            let (engine, ends) = (Arc::clone(&engine), ends.clone());
            thread::spawn(move || {
                let ask = TestOp::new(Behaviour::AtOnce, 1, &ends).offloaded();
                engine.submit_and_wait(ask).expect("accepted")
            })
        };
        let ask = TestOp::new(Behaviour::AtOnce, 2, &ends).offloaded();
        assert_eq!(engine.submit_and_wait(ask).expect("accepted"), 2);
        assert_eq!(join(other), 1);
        assert_eq!(ends.get(), 2);
    });
}

/// What the helper thread has is outstanding.
#[test]
fn a_drain_sees_what_the_helper_has() {
    explore_less(|| {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let thread = completion_thread(&engine);
        let called = calls.clone();
        let ask = TestOp::new(Behaviour::AtOnce, 1, &ends).offloaded();
        let ask = ask.then(move |result| {
            assert_eq!(result, 1);
            called.one_more();
        });
        assert!(engine.submit(ask).is_ok());
        engine.drain(None).expect("idle");
        assert_eq!((ends.get(), calls.get()), (1, 1));
        end(&engine, thread);
    });
}
