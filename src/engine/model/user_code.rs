//! What a thread finds while user code runs on it is put off (I12), and is called all the same.

use super::*;
use crate::engine::account::IdleTask;
use crate::user_code;
use std::task::{Poll, Wake};

/// A task's waker, which counts.
struct Counting(Count);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.one_more();
    }
}

fn task(wakes: &Count) -> Waker {
    Waker::from(Arc::new(Counting(wakes.clone())))
}

/// Completes what is held, and takes its event inside of user code.
fn reap_inside_user_code(engine: &Arc<Engine>) -> JoinHandle<()> {
    let engine = Arc::clone(engine);
    thread::spawn(move || {
        engine.kernel.complete(Next::Oldest);
        user_code::call("a destructor", || engine.help());
    })
}

#[test]
fn a_waker_that_is_put_off_is_called_before_the_end() {
    explore_less(|| {
        let (ends, wakes) = (Count::new(), Count::new());
        let engine = engine(Dispatch::Thread, Mode::Ring, 2);
        let mut watch = engine
            .start(TestOp::new(Behaviour::Held, 1, &ends))
            .expect("accepted");
        assert!(watch.register_waker(&task(&wakes)));
        let thread = completion_thread(&engine);
        let other = reap_inside_user_code(&engine);
        end(&engine, thread);
        join(other);
        assert_eq!(watch.take().expect("done"), 1);
        assert_eq!((ends.get(), wakes.get()), (1, 1));
    });
}

#[test]
fn what_is_abandoned_and_put_off_is_dropped_before_the_end() {
    explore_less(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 2);
        let watch = engine.start(TestOp::new(Behaviour::Held, 1, &ends));
        engine.abandon(watch.expect("accepted"));
        let thread = completion_thread(&engine);
        let other = reap_inside_user_code(&engine);
        end(&engine, thread);
        assert_eq!(ends.get(), 1);
        join(other);
    });
}

/// The thread that finds the engine idle hands the tasks to the dispatcher, whose last look is that of the end.
#[test]
fn a_task_that_waits_for_an_idle_engine_is_woken_before_the_end() {
    explore_less(|| {
        let (ends, wakes) = (Count::new(), Count::new());
        let engine = engine(Dispatch::Thread, Mode::Ring, 2);
        let watch = engine.start(TestOp::new(Behaviour::Held, 1, &ends));
        let mut idle = IdleTask::default();
        let poll = engine.poll_idle(&mut idle, &task(&wakes));
        assert_eq!(poll, Poll::Pending);
        let thread = completion_thread(&engine);
        let other = reap_inside_user_code(&engine);
        end(&engine, thread);
        join(other);
        assert!(wakes.get() > 0);
        engine.forget_idle(&mut idle);
        assert_eq!(watch.expect("accepted").take().expect("done"), 1);
    });
}
