//! Where callbacks run: on the completion thread, on whichever thread finds the completion, or only in
//! `poll`.

mod common;

use common::*;
use kiocb::op::{Read, Rw, Write};
use kiocb::{Aio, Dispatch, Iocb};
use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

fn request(aio: &Aio) -> Iocb<Rw<Arc<File>, Write, [u8; 4]>> {
    aio.alloc().init_rw(null(), Write, [0; 4], 0)
}

fn anywhere() -> Aio {
    build(Aio::builder().dispatch(Dispatch::Anywhere))
}

fn manual(depth: u32) -> Aio {
    build(Aio::builder().depth(depth).dispatch(Dispatch::Manual))
}

#[test]
fn anywhere_calls_back_inside_submit_or_on_the_completion_thread() {
    let _watchdog = watchdog();
    let aio = anywhere();
    let (here, elsewhere) = (Counter::default(), Counter::default());
    let me = thread::current().id();
    for _ in 0..1000 {
        let (here, elsewhere) = (here.clone(), elsewhere.clone());
        let submitted = request(&aio).init_callback(move |_| {
            if thread::current().id() == me {
                here.add();
            } else {
                assert_eq!(thread::current().name(), Some("kiocb"));
                elsewhere.add();
            }
        });
        submitted.submit().unwrap();
    }
    aio.drain().unwrap();
    assert_eq!(
        (here.get() + elsewhere.get(), aio.stats().panics),
        (1000, 0)
    );
    // A write to /dev/null is complete before io_submit returns.
    assert!(here.get() > 0, "none of 1000 was called inside submit");
}

/// Submits the next in the callback: with nothing to wait for, all of it happens inside the first `submit`.
fn hop(aio: Arc<Aio>, file: Arc<File>, left: u64, over: mpsc::Sender<u64>) {
    let request = aio.alloc().init_rw(file, Read, [0; 1], 0);
    let request = request.init_callback(move |done| match left {
        0 => over.send(0).unwrap(),
        _ => hop(aio, done.file, left - 1, over),
    });
    request.submit().unwrap();
}

#[test]
fn a_chain_of_a_million_synchronous_completions_needs_no_deeper_stack() {
    let _watchdog = watchdog();
    let hops = if cfg!(debug_assertions) {
        300_000
    } else {
        1_000_000
    };
    for aio in [anywhere(), manual(4), aio()].map(Arc::new) {
        let small = thread::Builder::new().stack_size(128 * 1024);
        let chain = small.spawn(move || {
            let (send, receive) = mpsc::channel();
            hop(aio.clone(), null(), hops, send);
            while aio.poll(1, 1000, None).is_ok_and(|count| count > 0) {}
            assert_eq!(receive.recv().unwrap(), 0);
        });
        chain.unwrap().join().unwrap();
    }
}

#[test]
fn anywhere_holds_no_lock_of_its_own_while_a_callback_runs() {
    let _watchdog = watchdog();
    let aio = anywhere();
    let (send, receive) = mpsc::channel();
    let inner = aio.clone();
    // Inside a callback, wherever it runs, everything works: submit, wait, start, stats.
    let submitted = request(&aio).init_callback(move |_| {
        let started = request(&inner).start().unwrap();
        assert_eq!(request(&inner).wait().unwrap().result.unwrap(), 4);
        assert_eq!(started.wait().result.unwrap(), 4);
        assert!(inner.stats().accepted > 0);
        let submitted = request(&inner).init_callback(move |_| send.send(()).unwrap());
        submitted.submit().unwrap();
    });
    submitted.submit().unwrap();
    receive.recv().unwrap();
}

#[test]
fn anywhere_lets_other_threads_work_while_one_callback_blocks() {
    let _watchdog = watchdog();
    let aio = anywhere();
    let (inside, gate) = (Latch::default(), Latch::default());
    thread::scope(|scope| {
        let (there, go_on) = (inside.clone(), gate.clone());
        let blocked = request(&aio).init_callback(move |_| {
            there.open();
            go_on.wait();
        });
        scope.spawn(|| blocked.submit().unwrap());
        inside.wait();
        for _ in 0..100 {
            assert_eq!(request(&aio).wait().unwrap().result.unwrap(), 4);
            let (send, receive) = mpsc::channel();
            let submitted = request(&aio).init_callback(move |_| send.send(()).unwrap());
            submitted.submit().unwrap();
            receive.recv().unwrap();
        }
        gate.open();
    });
    aio.drain().unwrap();
}

#[test]
fn a_lock_may_be_held_across_submit_where_a_thread_runs_the_callbacks() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Manual] {
        let aio = build(Aio::builder().depth(2).dispatch(dispatch));
        let sum = Arc::new(Mutex::new(0));
        for _ in 0..500 {
            let held = sum.lock().unwrap();
            let sum = sum.clone();
            let submitted = request(&aio).init_callback(move |done| {
                *sum.lock().unwrap() += done.result.unwrap();
            });
            submitted.submit().unwrap();
            let started = request(&aio).start().unwrap();
            drop(held);
            drop(started.wait());
        }
        aio.drain().unwrap();
        assert_eq!(*sum.lock().unwrap(), 2000);
    }
}

#[test]
fn manual_makes_no_thread_and_calls_back_only_in_poll() {
    alone("manual_makes_no_thread_and_calls_back_only_in_poll", || {
        let threads = count_threads();
        let aio = manual(16);
        let (called, me) = (Counter::default(), thread::current().id());
        for _ in 0..40 {
            let called = called.clone();
            let submitted = request(&aio).init_callback(move |_| {
                assert_eq!(thread::current().id(), me);
                called.add();
            });
            submitted.submit().unwrap();
        }
        assert_eq!(request(&aio).wait().unwrap().result.unwrap(), 4);
        drop(request(&aio).start().unwrap().wait());
        assert_eq!(called.get(), 0, "a wait runs no callbacks");
        while called.get() < 40 {
            assert!(aio.poll(1, 64, None).unwrap() > 0);
        }
        assert_eq!((aio.stats().panics, count_threads()), (0, threads));
    });
}

#[test]
fn poll_delivers_at_least_min_and_at_most_max() {
    let _watchdog = watchdog();
    for depth in [3, 64] {
        let aio = manual(depth);
        let called = Counter::default();
        let submit = || {
            let called = called.clone();
            let counted = request(&aio).init_callback(move |_| {
                called.add();
            });
            counted.submit().unwrap();
        };
        assert_eq!(aio.poll(1, 10, None).unwrap(), 0, "nothing can come");
        (0..20).for_each(|_| submit());
        assert_eq!(aio.poll(0, 0, None).unwrap(), 0);
        assert_eq!(aio.poll(1, 1, None).unwrap(), 1);
        assert_eq!(aio.poll(4, 4, Some(Duration::from_secs(60))).unwrap(), 4);
        assert_eq!(called.get(), 5);
        let count = aio.poll(7, 9, None).unwrap();
        assert!((7..=9).contains(&count), "{count}");
        assert_eq!(called.get(), 5 + count);
        // More than there are: all that can come.
        assert_eq!(aio.poll(100, usize::MAX, None).unwrap(), 15 - count);
        assert_eq!(aio.stats().completed, 20);
    }
}

#[test]
fn poll_ends_when_its_time_is_over() {
    let _watchdog = watchdog();
    let aio = manual(2);
    let occupied = occupy(&aio);
    assert_eq!(aio.poll(1, 10, Some(Duration::ZERO)).unwrap(), 0);
    assert_eq!(aio.poll(1, 10, Some(Duration::from_millis(5))).unwrap(), 0);
    // Not even this sleeps.
    assert_eq!(aio.poll(0, usize::MAX, None).unwrap(), 0);
    drop(occupied);
}

#[test]
fn poll_wakes_up_for_what_another_thread_submits() {
    let _watchdog = watchdog();
    let aio = manual(4);
    let called = Counter::default();
    // Something is outstanding, so that `poll` has something to sleep for.
    let occupied = occupy(&aio);
    thread::scope(|scope| {
        scope.spawn(|| {
            until(|| aio.stats().waits > 0);
            for _ in 0..10 {
                let called = called.clone();
                let submitted = request(&aio).init_callback(move |_| {
                    called.add();
                });
                submitted.submit().unwrap();
            }
        });
        while called.get() < 10 {
            aio.poll(1, 64, None).unwrap();
        }
    });
    drop(occupied);
}

#[test]
fn several_threads_may_poll_in_turn_and_at_once() {
    let _watchdog = watchdog();
    let aio = manual(8);
    let delivered = AtomicUsize::new(0);
    let called = Counter::default();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..300 {
                    let called = called.clone();
                    let submitted = request(&aio).init_callback(move |_| {
                        called.add();
                    });
                    submitted.submit().unwrap();
                    let count = aio.poll(0, 2, Some(Duration::from_millis(1))).unwrap();
                    delivered.fetch_add(count, Ordering::Relaxed);
                }
            });
        }
    });
    while delivered.load(Ordering::Relaxed) < 900 {
        delivered.fetch_add(aio.poll(1, 100, None).unwrap(), Ordering::Relaxed);
    }
    assert_eq!((called.get(), delivered.into_inner()), (900, 900));
}

#[test]
fn waiters_beside_a_blocked_callback_get_their_results() {
    let _watchdog = watchdog();
    let aio = aio();
    let busy = keep_busy(&aio);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert_eq!(request(&aio).wait().unwrap().result.unwrap(), 4);
                    let (one, two) = (request(&aio).start(), request(&aio).start());
                    assert_eq!(two.unwrap().wait().result.unwrap(), 4);
                    assert_eq!(one.unwrap().wait().result.unwrap(), 4);
                }
            });
        }
    });
    busy.release();
}

#[test]
fn the_kinds_of_waiting_can_be_mixed_on_one_context() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        for depth in [1, 3, 128] {
            let aio = build(Aio::builder().depth(depth).dispatch(dispatch));
            let fates = Fates::default();
            let bytes = pattern(4, 4096);
            let file = Arc::new(file_of(&bytes));
            thread::scope(|scope| {
                for seed in 0..4 {
                    let (aio, fates, file, bytes) = (&aio, &fates, &file, &bytes);
                    scope.spawn(move || {
                        let mut random = Random(seed);
                        for _ in 0..300 {
                            let at = random.below(4000);
                            let read = aio.alloc().init_rw(file.clone(), Read, [0; 64], at as u64);
                            let expected = &bytes[at..at + 64];
                            match random.below(5) {
                                0 => assert_eq!(read.wait().unwrap().buf, expected),
                                1 => assert_eq!(read.start().unwrap().wait().buf, expected),
                                2 => drop(read.start().unwrap()),
                                3 => match read.start().unwrap().wait_timeout(Duration::ZERO) {
                                    Ok(done) => assert_eq!(done.buf, expected),
                                    Err(pending) => assert_eq!(pending.wait().buf, expected),
                                },
                                _ => {
                                    let count = fates.callback();
                                    let expected = expected.to_vec();
                                    let submitted = read.init_callback(move |done| {
                                        assert_eq!(done.buf[..], expected);
                                        count(());
                                    });
                                    submitted.submit().unwrap();
                                }
                            }
                        }
                    });
                }
            });
            aio.drain().unwrap();
            assert_eq!(fates.calls.get(), fates.closures.get());
            assert_eq!((aio.stats().accepted, aio.stats().panics), (1200, 0));
        }
    }
}

#[test]
fn run_once_delivers_what_has_come_and_waits_for_one_at_most() {
    let _watchdog = watchdog();
    let aio = manual(4);
    assert_eq!(aio.run_once(None).unwrap(), 0, "nothing is outstanding");
    for _ in 0..3 {
        request(&aio).init_callback(drop).submit().unwrap();
    }
    assert_eq!(aio.run_once(None).unwrap(), 3, "all that have come");
    let (reader, _writer) = std::io::pipe().unwrap();
    let never = aio.alloc().init_poll(reader, kiocb::PollFlags::IN);
    let never = never.start().unwrap();
    assert_eq!(aio.run_once(Some(Duration::ZERO)).unwrap(), 0);
    assert!(!never.is_complete());
}
