//! Requests of a queue: its user sleeps for so many of them, and other threads reap.

use super::*;
use crate::engine::request::{Completed, Completions, List};

fn push(engine: &Engine, queue: &Completions<TestOp>, asks: impl IntoIterator<Item = TestOp>) {
    let mut list = List::new();
    asks.into_iter()
        .for_each(|ask| list.push(queue.request(ask)));
    engine.submit_queued(list, true, queue);
}

/// What has arrived, in order.
fn results(mut arrived: Completed<TestOp>) -> Vec<i64> {
    let one = || {
        let result = arrived.pop()?.finish();
        Some(result)
    };
    std::iter::from_fn(one).collect()
}

/// Other threads reap while the user falls asleep: as leader, or in a parker behind one. So many
/// requests of theirs are completed at the end.
fn a_user_beside(
    left: usize,
    others: impl Fn(&Arc<Engine>, &Count) -> Vec<JoinHandle<()>> + Send + Sync + 'static,
) {
    explore_less(move || {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 3);
        let queue = Completions::new();
        push(
            &engine,
            &queue,
            (1..=2).map(|name| TestOp::new(Behaviour::Held, name, &ends)),
        );
        let others = others(&engine, &ends);
        engine
            .wait_for_arrivals(&queue, 2, None)
            .expect("they come");
        assert_eq!(results(queue.take()), [1, 2]);
        (0..left).for_each(|_| engine.kernel.complete(Next::Oldest));
        others.into_iter().for_each(join);
        assert_eq!(engine.outstanding(), 0);
        assert_eq!(queue.close().len(), 0);
    });
}

#[test]
fn the_user_of_a_queue_wakes_beside_a_bystander() {
    a_user_beside(0, |engine, _| {
        let engine = Arc::clone(engine);
        let bystander = thread::spawn(move || {
            engine.kernel.complete(Next::Oldest);
            engine.help();
            engine.kernel.complete(Next::Oldest);
            engine.help();
        });
        vec![bystander]
    });
}

/// It sleeps on for a request of its own when it has reaped for the user.
#[test]
fn the_user_of_a_queue_wakes_behind_a_leader() {
    a_user_beside(1, |engine, ends| {
        let leader = waiter(engine, Behaviour::Held, 3, ends);
        vec![device(engine, 2), leader]
    });
}

/// What arrives after the user has gone is dropped by the thread that reaps it.
#[test]
fn a_queue_that_is_closed_leaves_the_rest_to_the_reaper() {
    explore(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 2);
        let queue = Completions::new();
        push(&engine, &queue, [TestOp::new(Behaviour::Held, 1, &ends)]);
        let reaper = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || {
                engine.kernel.complete(Next::Oldest);
                engine.help();
            })
        };
        let arrived = queue.close();
        drop(queue);
        assert!(results(arrived).len() <= 1);
        join(reaper);
        assert_eq!((ends.get(), engine.outstanding()), (1, 0));
    });
}
