//! Polls that are cancelled while another thread submits them, or their event is on its way.

use super::*;

/// Whether this is the result of a poll that was cancelled: no events in the kernel, an errno in the backlog.
fn is_cancelled(result: i64) -> bool {
    result == 0 || result == -i64::from(libc::ECANCELED)
}

fn poll(name: u64, ends: &Count) -> TestOp {
    TestOp::new(Behaviour::Held, name, ends).cancellable()
}

/// Cancels it, and returns what it came to.
fn cancel(engine: &Engine, mut watch: Watch<TestOp>) -> i64 {
    assert!(engine.cancel(&watch), "nothing else ends it");
    assert!(engine.wait(&mut watch, None));
    watch.take().expect("done")
}

/// It is queued, in the hands of the thread that pumps, or in the kernel.
#[test]
fn a_poll_is_cancelled_wherever_it_is() {
    explore(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let other = waiter(&engine, Behaviour::AtOnce, 1, &ends);
        let watch = engine.start(poll(2, &ends)).expect("accepted");
        assert!(is_cancelled(cancel(&engine, watch)));
        join(other);
        assert_eq!((ends.get(), engine.outstanding()), (2, 0));
    });
}

/// Its event is on the ring, or the canceller is first.
#[test]
fn a_poll_that_fires_is_cancelled_or_has_fired() {
    explore(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let mut watch = engine.start(poll(1, &ends)).expect("accepted");
        let device = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || engine.kernel.complete_if_held())
        };
        let cancelled = engine.cancel(&watch);
        assert!(engine.wait(&mut watch, None));
        let result = watch.take().expect("done");
        assert_eq!(result, i64::from(!cancelled));
        assert_eq!(join(device), !cancelled);
        assert_eq!((ends.get(), engine.outstanding()), (1, 0));
    });
}

/// By its number, while the thread that submits it is not back yet.
#[test]
fn a_poll_with_a_callback_is_cancelled_beside_the_completion_thread() {
    explore_less(|| {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let thread = completion_thread(&engine);
        let called = calls.clone();
        let ask = poll(1, &ends).then(move |result| {
            assert!(is_cancelled(result));
            called.one_more();
        });
        let id = engine.submit(ask).ok().expect("accepted");
        assert!(engine.cancel_by_id(id));
        engine.drain(None).expect("idle");
        assert!(!engine.cancel_by_id(id), "it is over");
        assert_eq!((ends.get(), calls.get()), (1, 1));
        end(&engine, thread);
    });
}

/// The end cancels what is in the kernel, or queued, or on its way there: behind another one, if there are two.
fn the_end_cancels(polls: usize) {
    explore_less(move || {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let first = (polls > 1).then(|| engine.start(poll(1, &ends)).expect("accepted"));
        let thread = completion_thread(&engine);
        let waiter = {
            let (engine, ends) = (Arc::clone(&engine), ends.clone());
            thread::spawn(move || {
                if let Ok(result) = engine.submit_and_wait(poll(2, &ends)) {
                    assert!(is_cancelled(result));
                }
            })
        };
        end(&engine, thread);
        join(waiter);
        let first = first.map(|watch| watch.take().expect("done"));
        assert!(first.is_none_or(is_cancelled));
        assert_eq!((ends.get(), engine.outstanding()), (polls, 0));
    });
}

#[test]
fn the_end_cancels_a_poll_that_is_being_submitted() {
    the_end_cancels(1);
}

#[test]
fn the_end_cancels_a_poll_that_is_being_queued() {
    the_end_cancels(2);
}
