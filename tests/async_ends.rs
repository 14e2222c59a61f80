//! Draining and shutting down from async code: no thread is blocked, and a future may be dropped at any time.
#![allow(unsafe_code, reason = "forks")]

mod common;

use common::*;
use kiocb::op::Write;
use kiocb::{Aio, AioError, Dispatch, PollFlags};
use std::io::{self, PipeWriter, Write as _};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];
const LONG: Duration = Duration::from_secs(600);

fn of(dispatch: Dispatch) -> Aio {
    build(Aio::builder().dispatch(dispatch))
}

/// Counts what completes, when the pipe whose end it returns is written to.
fn outstanding(aio: &Aio, completed: &Counter) -> PipeWriter {
    let (reader, writer) = io::pipe().unwrap();
    let (ready, count) = (OwnedFd::from(reader), completed.clone());
    let wait = aio.alloc().init_poll(ready, PollFlags::IN);
    let wait = wait.init_callback(move |_| _ = count.add());
    wait.submit().unwrap();
    writer
}

fn counting(counter: &Counter) -> Waker {
    let counter = counter.clone();
    waker_that(move || _ = counter.add())
}

fn is_refused(aio: &Aio) -> bool {
    let request = aio.alloc().init_rw(null(), Write, "x", 0);
    let refused = request.init_callback(drop).submit().err();
    refused.is_some_and(|error| reason(error.error()) == Some(AioError::ShutDown))
}

/// Lets a context without a thread do what is due.
fn turn(aio: &Aio, dispatch: Dispatch) {
    if dispatch == Dispatch::Manual {
        aio.poll(0, usize::MAX, None).unwrap();
    }
}

#[test]
fn draining_ends_when_nothing_is_outstanding() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, completed, woken) = (of(dispatch), Counter::default(), Counter::default());
        block_on(aio.drain_async()).unwrap();
        let mut pipe = outstanding(&aio, &completed);
        let mut drained = aio.drain_async();
        assert!(poll_with(&mut drained, &counting(&woken)).is_pending());
        turn(&aio, dispatch);
        assert_eq!((completed.get(), woken.get()), (0, 0));
        pipe.write_all(b"x").unwrap();
        until(|| {
            turn(&aio, dispatch);
            woken.get() == 1
        });
        assert_eq!(completed.get(), 1, "the callback has returned");
        assert!(matches!(
            poll_with(&mut drained, Waker::noop()),
            Poll::Ready(Ok(()))
        ));
        let again = aio.alloc().init_rw(null(), Write, "goes on", 0).wait();
        assert_eq!(again.unwrap().result.unwrap(), 7);
    }
}

/// Threads and tasks wait for the same moment, and each is woken.
#[test]
fn threads_and_tasks_drain_together() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
        let (aio, completed) = (of(dispatch), Counter::default());
        let mut pipe = outstanding(&aio, &completed);
        let started = Counter::default();
        thread::scope(|threads| {
            for number in 0..6 {
                let (aio, started, completed) = (&aio, &started, &completed);
                threads.spawn(move || {
                    started.add();
                    match number % 2 {
                        0 => aio.drain().unwrap(),
                        _ => block_on(aio.drain_async()).unwrap(),
                    }
                    assert_eq!(completed.get(), 1);
                });
            }
            started.until(6);
            pipe.write_all(b"x").unwrap();
        });
    }
}

#[test]
fn draining_goes_round_until_no_shard_has_submitted_to_another() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().shards(3));
    for _ in 0..50 {
        let (last, inside) = (Counter::default(), aio.clone());
        let count = last.clone();
        let first = aio
            .alloc()
            .init_rw(null(), Write, "x", 0)
            .init_callback(move |_| {
                let hop = move || {
                    let next = inside.alloc().init_rw(null(), Write, "y", 0);
                    next.init_callback(move |_| _ = count.add())
                        .submit()
                        .unwrap();
                };
                thread::spawn(hop).join().unwrap();
            });
        first.submit().unwrap();
        block_on(aio.drain_async()).unwrap();
        assert_eq!(last.get(), 1);
    }
}

/// What a waker owns is dropped with the future that left it, or by the waker that takes its place.
#[test]
fn a_dropped_future_leaves_no_waker() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, completed) = (of(dispatch), Counter::default());
        let mut pipe = outstanding(&aio, &completed);
        let owned = Arc::new(());
        let mut drained = aio.drain_async();
        for _ in 0..3 {
            let token = Arc::clone(&owned);
            let owns =
                waker_that(move || assert_eq!(Arc::strong_count(&token), 0, "it was dropped"));
            assert!(poll_with(&mut drained, &owns).is_pending());
        }
        assert_eq!(Arc::strong_count(&owned), 2, "the last one is kept");
        drop(drained);
        assert_eq!(Arc::strong_count(&owned), 1);
        pipe.write_all(b"x").unwrap();
        aio.drain().unwrap();
        assert_eq!((completed.get(), aio.stats().panics), (1, 0));
    }
}

/// One that is forgotten costs its waker, and disturbs nothing.
#[test]
fn a_forgotten_future_is_woken_for_nothing() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, completed, woken) = (of(dispatch), Counter::default(), Counter::default());
        let mut pipe = outstanding(&aio, &completed);
        let mut drained = aio.drain_async();
        assert!(poll_with(&mut drained, &counting(&woken)).is_pending());
        std::mem::forget(drained);
        pipe.write_all(b"x").unwrap();
        aio.drain().unwrap();
        until(|| {
            turn(&aio, dispatch);
            woken.get() == 1
        });
        drop(aio);
    }
}

#[test]
fn wakers_that_panic_or_use_the_context_disturb_no_other() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, completed, woken) = (of(dispatch), Counter::default(), Counter::default());
        let mut pipe = outstanding(&aio, &completed);
        let mut futures: Vec<_> = (0..3).map(|_| aio.drain_async()).collect();
        let (inside, seen) = (aio.clone(), completed.clone());
        let uses = waker_that(move || {
            assert_eq!(
                reason(&inside.drain().unwrap_err()),
                Some(AioError::WouldDeadlock)
            );
            let count = seen.clone();
            let request = inside.alloc().init_rw(null(), Write, "x", 0);
            request
                .init_callback(move |_| _ = count.add())
                .submit()
                .unwrap();
        });
        let wakers = [waker_that(|| panic!("on purpose")), uses, counting(&woken)];
        for (future, waker) in futures.iter_mut().zip(&wakers) {
            assert!(poll_with(future, waker).is_pending());
        }
        pipe.write_all(b"x").unwrap();
        until(|| {
            turn(&aio, dispatch);
            woken.get() == 1 && completed.get() == 2
        });
        assert_eq!(aio.stats().panics, 1);
    }
}

#[test]
fn inside_a_callback_a_future_is_pending_and_blocks_nothing() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, woken, polled) = (of(dispatch), Counter::default(), Counter::default());
        let (inside, count, seen) = (aio.clone(), counting(&woken), polled.clone());
        let request = aio.alloc().init_rw(null(), Write, "x", 0);
        let request = request.init_callback(move |_| {
            let mut drained = inside.drain_async();
            assert!(
                poll_with(&mut drained, &count).is_pending(),
                "it is this callback"
            );
            std::mem::forget(drained);
            seen.add();
        });
        request.submit().unwrap();
        aio.drain().unwrap();
        until(|| {
            turn(&aio, dispatch);
            woken.get() == 1
        });
        assert_eq!(polled.get(), 1);
    }
}

#[test]
fn shutting_down_completes_what_was_accepted_and_refuses_the_rest() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, completed) = (of(dispatch), Counter::default());
        let blocked = occupy(&aio);
        drop(aio.shutdown_async());
        assert!(
            !is_refused(&aio),
            "nothing has happened before the first poll"
        );
        for _ in 0..100 {
            let (request, count) = (
                aio.alloc().init_rw(null(), Write, "x", 0),
                completed.clone(),
            );
            request
                .init_callback(move |_| _ = count.add())
                .submit()
                .unwrap();
        }
        let mut ends = aio.shutdown_async();
        assert!(poll_with(&mut ends, Waker::noop()).is_pending());
        assert!(is_refused(&aio));
        drop(blocked);
        block_on(&mut ends).unwrap();
        assert!(matches!(
            poll_with(&mut ends, Waker::noop()),
            Poll::Ready(Ok(()))
        ));
        drop(ends);
        assert_eq!(completed.get(), 100);
        block_on(aio.shutdown_async()).unwrap();
        aio.shutdown(LONG).unwrap();
    }
}

/// A process of its own, as it counts contexts and threads.
#[test]
fn a_shutdown_that_is_let_go_ends_in_the_background() {
    alone("a_shutdown_that_is_let_go_ends_in_the_background", || {
        let (contexts, threads) = (count_contexts(), count_threads());
        for dispatch in KINDS {
            for shards in [1, 3] {
                let aio = build(Aio::builder().dispatch(dispatch).shards(shards));
                let blocked = occupy(&aio);
                let mut ends = aio.shutdown_async();
                assert!(poll_with(&mut ends, Waker::noop()).is_pending());
                drop(ends);
                drop(aio); // returns, though a request is outstanding
                drop(blocked);
            }
        }
        until(|| (count_contexts(), count_threads()) == (contexts, threads));
    });
}

/// The drop that follows is in no danger to block, on whatever thread the executor lets it happen.
#[test]
fn after_a_shutdown_nothing_is_left_of_a_context() {
    alone("after_a_shutdown_nothing_is_left_of_a_context", || {
        let contexts = count_contexts();
        for dispatch in KINDS {
            for shards in [1, 3] {
                let aio = build(Aio::builder().dispatch(dispatch).shards(shards));
                let request = aio.alloc().init_rw(null(), Write, "x", 0);
                request.init_callback(drop).submit().unwrap();
                block_on(aio.shutdown_async()).unwrap();
                assert_eq!(count_contexts(), contexts, "{dispatch:?}, {shards} shards");
                assert!(is_refused(&aio));
            }
        }
    });
}

#[test]
fn tasks_and_threads_may_shut_down_together() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        for _ in 0..10 {
            let aio = of(dispatch);
            thread::scope(|threads| {
                threads.spawn(|| block_on(aio.shutdown_async()).unwrap());
                threads.spawn(|| aio.shutdown(LONG).unwrap());
                threads.spawn(|| block_on(aio.shutdown_async()).unwrap());
                block_on(aio.drain_async()).unwrap();
            });
        }
    }
}

#[test]
fn in_a_forked_child_the_ends_are_the_parents() {
    alone("in_a_forked_child_the_ends_are_the_parents", || {
        for dispatch in KINDS {
            let (aio, completed) = (of(dispatch), Counter::default());
            let mut pipe = outstanding(&aio, &completed);
            let (mut drained, mut ends) = (aio.drain_async(), aio.shutdown_async());
            assert!(poll_with(&mut drained, Waker::noop()).is_pending());
            // SAFETY: the child uses what a fork leaves usable: glibc's allocator, and its own memory.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                let passed = catch_unwind(AssertUnwindSafe(|| {
                    let forked = |answer| match answer {
                        Poll::Ready(Err(error)) => reason(&error) == Some(AioError::Forked),
                        _ => false,
                    };
                    assert!(forked(poll_with(&mut drained, Waker::noop())));
                    assert!(forked(poll_with(&mut ends, Waker::noop())));
                    assert!(forked(poll_with(&mut aio.drain_async(), Waker::noop())));
                    drop((drained, ends));
                }));
                // SAFETY: ends this process without running what belongs to the parent.
                unsafe { libc::_exit(i32::from(passed.is_err())) }
            }
            let mut status = 0;
            // SAFETY: `status` is valid for the write.
            let ended = unsafe { libc::waitpid(pid, &raw mut status, 0) };
            assert_eq!((ended, status), (pid, 0));
            assert!(!is_refused(&aio), "the child has closed nothing");
            pipe.write_all(b"x").unwrap();
            aio.drain().unwrap();
            assert!(matches!(
                poll_with(&mut drained, Waker::noop()),
                Poll::Ready(Ok(()))
            ));
            block_on(&mut ends).unwrap();
        }
    });
}

/// As on a machine where the executor's threads go before the completion thread: the task has registered again by
/// the time that its waker returns.
#[test]
fn a_task_that_comes_back_at_once_does_not_hold_up_the_end() {
    let _watchdog = watchdog();
    let (aio, completed) = (of(Dispatch::Thread), Counter::default());
    let _pipe = outstanding(&aio, &completed);
    let mut drained = aio.drain_async(); // it listens as long as it lives
    assert!(poll_with(&mut drained, Waker::noop()).is_pending());
    let ((woken, wakes), (polled, polls)) = (mpsc::channel(), mpsc::channel());
    let polls = Mutex::new(polls);
    let waker = waker_that(move || {
        woken.send(()).unwrap();
        let _ = polls.lock().unwrap().recv(); // until it was polled
    });
    let mut shutdown = aio.shutdown_async();
    // It may be over before the first poll of it returns.
    let mut is_over = poll_with(&mut shutdown, &waker).is_ready();
    while !is_over {
        wakes.recv().unwrap();
        is_over = poll_with(&mut shutdown, &waker).is_ready();
        let _ = polled.send(());
    }
    assert_eq!(completed.get(), 1, "the poll was cancelled");
}
