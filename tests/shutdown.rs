//! The end of an `Aio`: dropped, forgotten, drained or shut down, by whomever and in every state of its
//! requests. Each test that counts contexts or threads runs in a process of its own.

mod common;

use common::*;
use kiocb::op::{Read, Rw, Write};
use kiocb::{Aio, AioError, Dispatch, Iocb};
use std::fs::File;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

fn request(aio: &Aio) -> Iocb<Rw<Arc<File>, Write, [u8; 4]>> {
    aio.alloc().init_rw(null(), Write, [0; 4], 0)
}

/// Submits requests that count what becomes of them.
fn submit(aio: &Aio, fates: &Fates, count: usize) {
    for _ in 0..count {
        let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
        let request = aio.alloc().init_rw(file, Write, buf, 0);
        request.init_callback(fates.callback()).submit().unwrap();
    }
}

fn reason(error: &io::Error) -> AioError {
    let inner = error.get_ref().expect("no errno but a reason");
    *inner.downcast_ref().expect("a reason of ours")
}

fn assert_is_shut_down(aio: &Aio) {
    let refused = request(aio).init_callback(|_| unreachable!()).submit();
    let refused = refused.unwrap_err();
    assert_eq!(reason(refused.error()), AioError::ShutDown);
    drop(refused.into_request());
    let refused = request(aio).wait().unwrap_err();
    assert_eq!(reason(refused.error()), AioError::ShutDown);
    let refused = request(aio).start().unwrap_err();
    assert_eq!(reason(refused.error()), AioError::ShutDown);
}

/// How an `Aio` ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Drop,
    Shutdown,
    Drain,
    Forget,
}

const ENDS: [End; 4] = [End::Drop, End::Shutdown, End::Drain, End::Forget];

impl End {
    fn put_to(self, aio: Aio) {
        match self {
            End::Drop => drop(aio),
            End::Shutdown => {
                aio.shutdown(LONG).unwrap();
                assert_is_shut_down(&aio);
            }
            End::Drain => aio.drain().unwrap(),
            End::Forget => std::mem::forget(aio),
        }
    }
}

#[test]
fn whatever_was_submitted_is_completed_however_it_ends() {
    let _watchdog = watchdog();
    for end in ENDS {
        for depth in [1, 8, 128] {
            for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
                if matches!((end, dispatch), (End::Forget, Dispatch::Manual)) {
                    continue; // nobody polls any more
                }
                let aio = build(Aio::builder().depth(depth).dispatch(dispatch));
                let fates = Fates::default();
                submit(&aio, &fates, 300);
                end.put_to(aio);
                if matches!(end, End::Forget) {
                    fates.calls.until(300);
                    until(|| fates.seen() == [300; 4]);
                }
                assert_eq!(
                    fates.seen(),
                    [300; 4],
                    "{end:?}, depth {depth}, {dispatch:?}"
                );
            }
        }
    }
}

/// All of them are in flight or queued, and one is being dispatched, when the end begins.
#[test]
fn an_end_waits_for_what_is_dispatched_in_flight_and_queued() {
    let _watchdog = watchdog();
    for end in ENDS {
        let aio = build(Aio::builder().depth(4));
        let (fates, busy) = (Fates::default(), keep_busy(&aio));
        submit(&aio, &fates, 50);
        let stats = aio.stats();
        assert_eq!(stats.queued, 46);
        let (begin, begun) = mpsc::channel();
        let ender = thread::spawn(move || {
            begin.send(()).unwrap();
            end.put_to(aio);
        });
        begun.recv().unwrap();
        assert_eq!(fates.seen(), [0; 4]);
        busy.release();
        ender.join().unwrap();
        if matches!(end, End::Forget) {
            until(|| fates.seen() == [50; 4]);
        }
        assert_eq!(fates.seen(), [50; 4], "{end:?}");
    }
}

/// A callback's submissions are part of what is waited for, although they leave only after it.
#[test]
fn an_end_waits_for_what_callbacks_have_plugged() {
    let _watchdog = watchdog();
    for end in [End::Drop, End::Drain, End::Forget] {
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
            let aio = build(Aio::builder().depth(4).dispatch(dispatch));
            let fates = Fates::default();
            let (inside, gate) = (Latch::default(), Latch::default());
            let (there, go_on, counted, inner) =
                (inside.clone(), gate.clone(), fates.clone(), aio.clone());
            // Under Anywhere it may run on this thread, which must not wait for itself.
            let submitted = request(&aio).init_callback(move |_| {
                submit(&inner, &counted, 20);
                there.open();
                go_on.wait_timeout(Duration::from_millis(20));
            });
            submitted.submit().unwrap();
            inside.wait();
            gate.open();
            end.put_to(aio);
            until(|| fates.seen() == [20; 4]);
        }
    }
}

#[test]
fn requests_never_submitted_outlive_their_context() {
    let _watchdog = watchdog();
    let aio = aio();
    let other = aio.clone();
    let fates = Fates::default();
    let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
    let unsubmitted = aio.alloc().init_rw(file, Write, buf, 0);
    aio.shutdown(LONG).unwrap();
    drop((aio, other));
    let refused = unsubmitted.wait().unwrap_err();
    assert_eq!(reason(refused.error()), AioError::ShutDown);
    assert_eq!(fates.seen(), [0; 4]);
    drop(refused);
    assert_eq!(fates.seen(), [1, 1, 0, 0]);
}

#[test]
fn a_handle_of_a_started_request_outlives_its_context() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Manual] {
        let aio = build(Aio::builder().dispatch(dispatch));
        let pending: Vec<_> = (0..10).map(|_| request(&aio).start().unwrap()).collect();
        drop(aio);
        for pending in pending {
            assert!(pending.is_complete());
            assert_eq!(pending.wait().result.unwrap(), 4);
        }
    }
}

#[test]
fn contexts_and_threads_are_gone_after_the_last_drop() {
    alone("contexts_and_threads_are_gone_after_the_last_drop", || {
        let (contexts, threads) = (count_contexts(), count_threads());
        for round in 0..20 {
            let dispatch = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual][round % 3];
            let aio = build(Aio::builder().shards(2).dispatch(dispatch));
            let other = aio.clone();
            submit(&aio, &Fates::default(), 100);
            assert_eq!(count_contexts(), contexts + 2);
            drop(aio);
            assert_eq!(count_contexts(), contexts + 2, "another handle is left");
            if round % 2 == 0 {
                other.shutdown(LONG).unwrap();
            }
            drop(other);
            assert_eq!(count_contexts(), contexts);
            until(|| count_threads() == threads);
        }
    });
}

#[test]
fn the_machines_count_of_slots_is_given_back() {
    let _watchdog = watchdog();
    let used = || -> u64 {
        let text = std::fs::read_to_string("/proc/sys/fs/aio-nr").unwrap();
        text.trim().parse().unwrap()
    };
    // Others on this machine use it too: three thousand slots are more than their comings and goings, and it
    // is tried until it is seen.
    until(|| {
        let before = used();
        let Ok(aio) = Aio::builder().depth(3000).build() else {
            return false;
        };
        let depth = aio.stats().depth;
        let during = used();
        submit(&aio, &Fates::default(), 10);
        drop(aio);
        let after = used();
        depth == 3000 && during >= before + 3001 && after + 3001 <= during
    });
}

#[test]
fn a_callback_may_drop_the_last_handle() {
    alone("a_callback_may_drop_the_last_handle", || {
        let (contexts, threads) = (count_contexts(), count_threads());
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
            for depth in [1, 64] {
                let aio = build(Aio::builder().depth(depth).dispatch(dispatch));
                let fates = Fates::default();
                // Under Anywhere callbacks run inside `submit`, as they come.
                let busy = (dispatch == Dispatch::Thread).then(|| keep_busy(&aio));
                for _ in 0..20 {
                    let (last, callback) = (aio.clone(), fates.callback());
                    let request =
                        aio.alloc()
                            .init_rw(fates.file(null()), Write, fates.buffer(vec![0; 4]), 0);
                    let request = request.init_callback(move |done| {
                        callback(done);
                        drop(last);
                    });
                    request.submit().unwrap();
                }
                drop(aio);
                drop(busy);
                until(|| fates.seen() == [20; 4]);
                until(|| count_contexts() == contexts && count_threads() == threads);
            }
        }
    });
}

#[test]
fn a_callback_in_poll_may_drop_the_last_handle() {
    alone("a_callback_in_poll_may_drop_the_last_handle", || {
        let contexts = count_contexts();
        let aio = build(Aio::builder().dispatch(Dispatch::Manual));
        let (fates, (send, receive)) = (Fates::default(), mpsc::channel::<Aio>());
        submit(&aio, &fates, 5);
        let submitted = request(&aio).init_callback(move |_| drop(receive.recv().unwrap()));
        submitted.submit().unwrap();
        submit(&aio, &fates, 5);
        // `poll` borrows a handle; the callback drops the only other one, and the borrowed one goes
        // afterwards.
        send.send(aio.clone()).unwrap();
        assert_eq!(aio.poll(11, 100, None).unwrap(), 11);
        drop(aio);
        assert_eq!((fates.seen(), count_contexts()), ([10; 4], contexts));
    });
}

/// A chain whose links own the `Aio` they run on: nobody else does.
fn next(aio: Aio, left: usize, fates: Fates) {
    let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
    let callback = fates.callback();
    let request = aio.alloc().init_rw(file, Write, buf, 0);
    let request = request.init_callback(move |done| {
        callback(done);
        if left > 1 {
            next(aio, left - 1, fates);
        }
    });
    request.submit().unwrap();
}

#[test]
fn a_cycle_of_callbacks_that_own_their_context_ends_with_the_last() {
    alone(
        "a_cycle_of_callbacks_that_own_their_context_ends_with_the_last",
        || {
            let (contexts, threads) = (count_contexts(), count_threads());
            for depth in [1, 64] {
                let fates = Fates::default();
                next(build(Aio::builder().depth(depth)), 1000, fates.clone());
                until(|| fates.seen() == [1000; 4]);
                until(|| count_contexts() == contexts && count_threads() == threads);
            }
        },
    );
}

#[test]
fn another_threads_callback_may_drop_the_last_handle() {
    alone("another_threads_callback_may_drop_the_last_handle", || {
        let (contexts, threads) = (count_contexts(), count_threads());
        let (here, there) = (aio(), aio());
        let fates = Fates::default();
        submit(&there, &fates, 100);
        let submitted = request(&here).init_callback(move |_| drop(there));
        submitted.submit().unwrap();
        drop(here);
        until(|| fates.seen() == [100; 4]);
        until(|| count_contexts() == contexts && count_threads() == threads);
    });
}

#[test]
fn what_would_wait_for_the_callback_itself_says_so() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let aio = build(Aio::builder().dispatch(dispatch));
        let (inner, (send, receive)) = (aio.clone(), mpsc::channel());
        let submitted = request(&aio).init_callback(move |_| {
            let answers = [
                inner.drain(),
                inner.drain_timeout(LONG),
                inner.shutdown(LONG),
                inner.poll(1, 1, None).map(drop),
            ];
            send.send((answers, request(&inner).wait().map(drop)))
                .unwrap();
        });
        submitted.submit().unwrap();
        while dispatch == Dispatch::Manual && aio.poll(1, 64, None).unwrap() > 0 {}
        let (answers, submission) = receive.recv().unwrap();
        let polling = match dispatch {
            Dispatch::Manual => AioError::WouldDeadlock,
            _ => AioError::NotManual,
        };
        let expected = [
            AioError::WouldDeadlock,
            AioError::WouldDeadlock,
            AioError::WouldDeadlock,
            polling,
        ];
        let seen = answers.map(|answer| reason(&answer.unwrap_err()));
        assert_eq!(seen, expected, "{dispatch:?}");
        // But it was shut down all the same.
        let refused = submission.unwrap_err();
        assert_eq!(reason(refused.error()), AioError::ShutDown);
        aio.drain().unwrap();
    }
}

#[test]
fn a_drain_that_is_too_short_says_so_and_changes_nothing() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let aio = build(Aio::builder().depth(1).dispatch(dispatch));
        let (fates, occupied) = (Fates::default(), occupy(&aio));
        submit(&aio, &fates, 10);
        for timeout in [Duration::ZERO, Duration::from_millis(5)] {
            let error = aio.drain_timeout(timeout).unwrap_err();
            assert_eq!(reason(&error), AioError::TimedOut);
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!(fates.seen(), [0; 4]);
        drop(occupied);
        aio.drain_timeout(LONG).unwrap();
        assert_eq!(fates.seen(), [10; 4]);
    }
}

#[test]
fn a_shutdown_past_its_deadline_frees_nothing_and_completes_later() {
    alone(
        "a_shutdown_past_its_deadline_frees_nothing_and_completes_later",
        || {
            let (contexts, threads) = (count_contexts(), count_threads());
            for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
                let aio = build(Aio::builder().depth(1).dispatch(dispatch));
                let (fates, occupied) = (Fates::default(), occupy(&aio));
                submit(&aio, &fates, 10);
                let abandoned = {
                    let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
                    aio.alloc().init_rw(file, Write, buf, 0).start().unwrap()
                };
                drop(abandoned);
                let error = aio.shutdown(Duration::from_millis(5)).unwrap_err();
                assert_eq!(reason(&error), AioError::TimedOut);
                assert_is_shut_down(&aio);
                // None of these waits for the request that hangs.
                let error = aio.shutdown(Duration::ZERO).unwrap_err();
                assert_eq!(reason(&error), AioError::TimedOut);
                drop(aio);
                assert_eq!(fates.seen(), [0; 4]);
                assert_eq!(count_contexts(), contexts + 1);
                drop(occupied);
                until(|| fates.seen() == [11, 11, 10, 10]);
                until(|| count_contexts() == contexts && count_threads() == threads);
            }
        },
    );
}

#[test]
fn many_threads_may_drain_and_shut_down_at_once() {
    let _watchdog = watchdog();
    for round in 0..20 {
        let aio = build(Aio::builder().depth(4));
        let fates = Fates::default();
        let accepted = Counter::default();
        thread::scope(|scope| {
            for part in 0..4 {
                let (aio, fates, accepted) = (&aio, &fates, &accepted);
                scope.spawn(move || {
                    for step in 0..100 {
                        let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
                        let request = aio.alloc().init_rw(file, Write, buf, 0);
                        match request.init_callback(fates.callback()).submit() {
                            Ok(()) => drop(accepted.add()),
                            Err(refused) => {
                                assert_eq!(reason(refused.error()), AioError::ShutDown);
                            }
                        }
                        if step == 30 + 10 * part {
                            aio.drain().unwrap();
                        }
                        if part >= 2 && step == 40 + round {
                            aio.shutdown(LONG).unwrap();
                        }
                    }
                });
            }
        });
        assert_is_shut_down(&aio);
        aio.drain().unwrap();
        assert_eq!(fates.seen(), [400, 400, 400, accepted.get()]);
        let stats = aio.stats();
        assert_eq!(
            (stats.accepted, stats.completed),
            (accepted.get() as u64, stats.accepted)
        );
    }
}

#[test]
fn a_second_shutdown_and_a_drain_of_nothing_succeed() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let aio = build(Aio::builder().dispatch(dispatch));
        aio.drain().unwrap();
        aio.drain_timeout(Duration::ZERO).unwrap();
        aio.shutdown(Duration::ZERO).unwrap();
        aio.shutdown(LONG).unwrap();
        aio.drain().unwrap();
        assert_is_shut_down(&aio);
    }
}

#[test]
fn the_shared_context_can_be_drained() {
    let _watchdog = watchdog();
    let fates = Fates::default();
    let aio = Aio::global().unwrap();
    for _ in 0..100 {
        let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
        let request = Iocb::alloc().init_rw(file, Read, buf, 0);
        request.init_callback(fates.callback()).submit().unwrap();
    }
    aio.drain().unwrap();
    assert_eq!(fates.seen(), [100; 4]);
}

#[test]
fn a_hundred_contexts_live_at_once() {
    let _watchdog = watchdog();
    let contexts: Vec<Aio> = (0..100).map(|_| build(Aio::builder().depth(1))).collect();
    let fates = Fates::default();
    contexts.iter().for_each(|aio| submit(aio, &fates, 10));
    // Each destruction takes the kernel 30 ms: let them do it together.
    thread::scope(|scope| {
        for aio in contexts {
            scope.spawn(move || drop(aio));
        }
    });
    assert_eq!(fates.seen(), [1000; 4]);
}

#[test]
fn a_thread_may_end_while_its_requests_are_outstanding() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(2));
    let (fates, busy) = (Fates::default(), keep_busy(&aio));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| submit(&aio, &fates, 25));
        }
    });
    busy.release();
    aio.drain().unwrap();
    assert_eq!(fates.seen(), [100; 4]);
}
