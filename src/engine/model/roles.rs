//! Leader and followers: which thread sleeps in the kernel, and which event each thread may take.

use super::*;

fn two_waiters(mode: Mode, first: Next) {
    explore_less(move || {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, mode, 2);
        let waiters = [
            waiter(&engine, Behaviour::Held, 1, &ends),
            waiter(&engine, Behaviour::Held, 2, &ends),
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
        let waiter = waiter(&engine, Behaviour::Held, 1, &ends);
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
        let other = waiter(&engine, Behaviour::AtOnce, 1, &ends);
        wait(&engine, Behaviour::AtOnce, 2, &ends);
        join(other);
        assert_eq!((ends.get(), engine.outstanding()), (2, 0));
    });
}

fn a_poll_beside_a_waiter(mode: Mode) {
    explore(move || {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = engine(Dispatch::Manual, mode, 2);
        let called = calls.clone();
        let ask = TestOp::new(Behaviour::AtOnce, 1, &ends).then(move |_| called.one_more());
        assert!(engine.submit(ask).is_ok());
        let waiter = waiter(&engine, Behaviour::AtOnce, 2, &ends);
        engine.drain(None).expect("idle");
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
        let ask = TestOp::new(Behaviour::AtOnce, 1, &ends).then(move |_| called.one_more());
        assert!(engine.submit(ask).is_ok());
        let poller = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || engine.poll(1, 1, None).expect("manual"))
        };
        engine.close();
        engine.drain(None).expect("idle");
        engine.stop();
        assert!(engine.await_end(None));
        join(poller);
        assert_eq!((ends.get(), calls.get()), (1, 1));
    });
}
