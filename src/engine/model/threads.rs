//! Ends of contexts with threads of their own, which the engine starts itself.

use super::*;
use crate::engine::Config;
use crate::engine::testing::TestCallback;

fn launch(dispatch: Dispatch) -> Arc<Engine> {
    let config = Config {
        depth: 2,
        exact_depth: false,
        dispatch,
        thread_name: "model".to_owned(),
        on_thread_start: None,
        force_syscalls: false,
    };
    Engine::launch(config).expect("simulated")
}

/// What the last drop does: it returns when the context is destroyed.
fn last_drop(engine: &Engine) {
    engine.close();
    engine.stop();
    assert!(engine.await_end(None));
}

fn callback(ends: &Count, calls: &Count) -> TestCallback<impl FnOnce(i64) + Send + use<>> {
    let called = calls.clone();
    TestOp::new(Behaviour::AtOnce, 1, ends).then(move |_| called.one_more())
}

#[test]
fn the_last_drop_waits_for_the_callbacks_and_the_thread() {
    explore(|| {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = launch(Dispatch::Thread);
        assert!(engine.submit(callback(&ends, &calls)).is_ok());
        last_drop(&engine);
        assert_eq!((ends.get(), calls.get()), (1, 1));
    });
}

/// Two handles: whichever is dropped last ends the context, after the callbacks of both.
#[test]
fn the_last_of_two_handles_ends_the_context() {
    explore_less(|| {
        let (ends, calls) = (Count::new(), Count::new());
        let handle = Handle(launch(Dispatch::Thread));
        let handle = Arc::new(handle);
        let (theirs, ask) = (Arc::clone(&handle), callback(&ends, &calls));
        let other = thread::spawn(move || assert!(theirs.0.submit(ask).is_ok()));
        drop(handle);
        join(other);
        assert_eq!((ends.get(), calls.get()), (1, 1));
    });
}

struct Handle(Arc<Engine>);

impl Drop for Handle {
    fn drop(&mut self) {
        last_drop(&self.0);
    }
}

/// Under `Dispatch::Manual` the end goes on by itself, while the program's thread goes on too.
#[test]
fn an_end_in_the_background_carries_out_what_is_left() {
    explore(|| {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = launch(Dispatch::Manual);
        assert!(engine.submit(callback(&ends, &calls)).is_ok());
        engine.close();
        engine.stop();
        engine.end_in_background();
        assert!(engine.await_end(None));
        assert_eq!((ends.get(), calls.get()), (1, 1));
    });
}

/// Two shards end at once, each on a thread of its own.
#[test]
fn shards_end_beside_each_other() {
    explore_less(|| {
        let (ends, calls) = (Count::new(), Count::new());
        let shards = [launch(Dispatch::Manual), launch(Dispatch::Manual)];
        for shard in &shards {
            assert!(shard.submit(callback(&ends, &calls)).is_ok());
        }
        shards.iter().for_each(|shard| shard.close());
        shards.iter().for_each(|shard| assert!(!shard.stop()));
        shards.iter().for_each(|shard| shard.end_in_background());
        assert!(shards.iter().all(|shard| shard.await_end(None)));
        assert_eq!((ends.get(), calls.get()), (2, 2));
    });
}

/// A callback has the last handle: its thread is the one that would have to be waited for.
#[test]
fn a_callback_that_drops_the_last_handle_does_not_wait_for_itself() {
    explore(|| {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = launch(Dispatch::Thread);
        let (last, called) = (Arc::clone(&engine), calls.clone());
        let ask = TestOp::new(Behaviour::AtOnce, 1, &ends).then(move |_| {
            assert!(crate::user_code::must_not_block());
            last.close();
            last.stop();
            last.end_in_background();
            called.one_more();
        });
        assert!(engine.submit(ask).is_ok());
        assert!(engine.await_end(None));
        assert_eq!((ends.get(), calls.get()), (1, 1));
    });
}
