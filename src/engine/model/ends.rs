//! The backlog and the end: some thread pumps, and every request is served or refused.

use super::*;

/// Late, if it had to queue first.
fn refused_at_once_or_late(engine: &Engine, refused: TestOp) {
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
        let other = waiter(&engine, Behaviour::AtOnce, 1, &ends);
        wait(&engine, Behaviour::AtOnce, 2, &ends);
        join(other);
        assert_eq!((ends.get(), engine.outstanding()), (2, 0));
    });
}

#[test]
fn behind_a_request_that_is_refused_somebody_pumps() {
    explore(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let other = waiter(&engine, Behaviour::AtOnce, 1, &ends);
        let refused = TestOp::new(Behaviour::AtOnce, 2, &ends).refused(libc::EBADF);
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
        let other = waiter(&engine, Behaviour::AtOnce, 9, &ends);
        let mut watches = Vec::new();
        for name in 1..=2 {
            let watch = engine.start(TestOp::new(Behaviour::AtOnce, name, &ends));
            watches.push(watch.expect("accepted"));
        }
        for mut watch in watches {
            assert!(engine.wait(&mut watch, None));
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

#[test]
fn a_submitter_beside_a_shutdown_is_served_or_refused() {
    explore(|| {
        let (ends, calls) = (Count::new(), Count::new());
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let thread = completion_thread(&engine);
        let submitter = {
            let (engine, called, ends) = (Arc::clone(&engine), calls.clone(), ends.clone());
            thread::spawn(move || {
                let ask = TestOp::new(Behaviour::AtOnce, 1, &ends).then(move |_| called.one_more());
                engine.submit(ask).is_ok()
            })
        };
        engine.close();
        engine.drain(None).expect("idle");
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
                let _ = engine.submit_and_wait(TestOp::new(Behaviour::AtOnce, 1, &ends));
            })
        };
        engine.close();
        engine.drain(None).expect("idle");
        end(&engine, thread);
        join(waiter);
        assert_eq!(ends.get(), 1);
    });
}

#[test]
fn a_drain_hears_of_an_idle_engine_after_a_pump() {
    explore(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let waiters = [
            waiter(&engine, Behaviour::AtOnce, 1, &ends),
            waiter(&engine, Behaviour::AtOnce, 2, &ends),
        ];
        engine.drain(None).expect("idle");
        waiters.into_iter().for_each(join);
    });
}

/// Rule 3: the leader of a request that is refused late is woken although no event comes.
#[test]
fn a_leader_whose_request_is_refused_late_wakes() {
    explore(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 1);
        let first = engine
            .start(TestOp::new(Behaviour::Held, 1, &ends))
            .expect("accepted");
        let refused = {
            let (engine, ends) = (Arc::clone(&engine), ends.clone());
            thread::spawn(move || {
                let ask = TestOp::new(Behaviour::AtOnce, 2, &ends).refused(libc::EBADF);
                refused_at_once_or_late(&engine, ask);
            })
        };
        engine.kernel.complete(Next::Oldest);
        let mut first = first;
        assert!(engine.wait(&mut first, None));
        first.take().expect("done");
        join(refused);
        assert_eq!((ends.get(), engine.outstanding()), (2, 0));
    });
}

/// A drain on the one thread while the other gives a free slot away: what is in flight is always seen.
#[test]
fn a_slot_that_is_ceded_hides_no_request_from_a_drain() {
    explore(|| {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, Mode::Ring, 2);
        let first = engine
            .start(TestOp::new(Behaviour::Held, 1, &ends))
            .expect("accepted");
        let giver = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || {
                assert!(engine.reserve_slot());
                engine.end_reservation(true);
            })
        };
        assert!(engine.outstanding() >= 1);
        join(giver);
        assert_eq!(engine.outstanding(), 1);
        engine.kernel.complete(Next::Oldest);
        let mut first = first;
        assert!(engine.wait(&mut first, None));
        first.take().expect("done");
        assert_eq!((ends.get(), engine.outstanding()), (1, 0));
    });
}

/// And the drain that sleeps for the slot alone is woken.
#[test]
fn a_drain_wakes_when_a_slot_is_ceded() {
    explore(|| {
        let engine = engine(Dispatch::Thread, Mode::Ring, 2);
        assert!(engine.reserve_slot());
        let giver = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || engine.end_reservation(true))
        };
        assert_eq!(engine.await_idle(None), Ok(()));
        join(giver);
    });
}
