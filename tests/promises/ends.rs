//! Every context ends: its memory, its share of the machine's quota and its callbacks, however it was let go.

use crate::common::modes::in_both_modes;
use crate::common::*;
use crate::hostile::*;
use kiocb::op::Read;
use kiocb::{Aio, Batch, Dispatch};
use std::io::{self, PipeWriter};
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);

fn manual(depth: u32) -> Aio {
    build(Aio::builder().depth(depth).dispatch(Dispatch::Manual))
}

/// A request with a callback that is in flight until somebody writes into the pipe: a thread is inside
/// `io_submit` with it.
fn in_flight(aio: &Aio, calls: &Counter) -> (PipeWriter, JoinHandle<()>) {
    let (reader, writer) = io::pipe().unwrap();
    let count = calls.clone();
    let request = aio.alloc().init_rw(OwnedFd::from(reader), Read, [0; 1], 0);
    let request = request.init_callback(move |done| {
        assert_eq!(done.result.unwrap(), 1);
        count.add();
    });
    let submitter = named("in-flight", move || request.submit().unwrap());
    until_submitting("in-flight");
    (writer, submitter)
}

/// A context of its own kind that is past the deadline of its shutdown, with one request in flight and four
/// queued.
fn past_its_deadline(calls: &Counter) -> (Aio, PipeWriter, JoinHandle<()>) {
    let aio = manual(1);
    let (writer, submitter) = in_flight(&aio, calls);
    submit_counted(&aio, calls, 4);
    assert_too_late(aio.shutdown(SHORT));
    (aio, writer, submitter)
}

/// As [`past_its_deadline`]; then the first request has been completed, and the others may go on.
fn completed_past_its_deadline(calls: &Counter) -> Aio {
    let (aio, writer, submitter) = past_its_deadline(calls);
    poke(&writer);
    submitter.join().unwrap();
    aio
}

#[test]
fn a_manual_context_dropped_past_its_deadline_ends() {
    in_both_modes(|| {
        let calls = Counter::default();
        let (aio, writer, submitter) = past_its_deadline(&calls);
        drop(aio);
        poke(&writer);
        submitter.join().unwrap();
        calls.until(5);
        until(|| count_contexts() == 0);
    });
}

#[test]
fn a_manual_context_completed_past_its_deadline_ends() {
    in_both_modes(|| {
        let calls = Counter::default();
        let aio = completed_past_its_deadline(&calls);
        drop(aio);
        calls.until(5);
        until(|| count_contexts() == 0);
    });
}

#[test]
fn a_manual_context_drained_past_its_deadline_ends() {
    in_both_modes(|| {
        let calls = Counter::default();
        let aio = completed_past_its_deadline(&calls);
        aio.drain().unwrap();
        assert_eq!(calls.get(), 5);
        drop(aio);
        until(|| count_contexts() == 0);
    });
}

#[test]
fn a_manual_context_whose_waiter_came_past_its_deadline_ends() {
    in_both_modes(|| {
        let aio = manual(1);
        let occupied = occupy(&aio);
        until_any_submitting(); // it has been let in
        assert_too_late(aio.shutdown(SHORT));
        drop(occupied); // the thread has taken its own event
        aio.drain().unwrap();
        drop(aio);
        until(|| count_contexts() == 0);
    });
}

#[test]
fn a_manual_context_polled_past_its_deadline_ends() {
    in_both_modes(|| {
        let calls = Counter::default();
        let aio = completed_past_its_deadline(&calls);
        while calls.get() < 5 {
            aio.poll(1, 1, None).unwrap();
        }
        drop(aio);
        until(|| count_contexts() == 0);
    });
}

#[test]
fn a_manual_context_shut_down_twice_ends() {
    in_both_modes(|| {
        let calls = Counter::default();
        let aio = completed_past_its_deadline(&calls);
        let second = aio.shutdown(Duration::from_secs(3600));
        drop((second, aio));
        calls.until(5);
        until(|| count_contexts() == 0);
    });
}

#[test]
fn a_manual_context_that_nobody_polls_ends_when_it_is_dropped() {
    in_both_modes(|| {
        let (aio, calls) = (manual(2), Counter::default());
        submit_counted(&aio, &calls, 100);
        drop(aio);
        assert_eq!(calls.get(), 100);
        until(|| count_contexts() == 0);
    });
}

#[test]
fn a_manual_context_ends_in_a_destructor() {
    in_both_modes(|| {
        let (aio, calls, fates) = (manual(1), Counter::default(), Fates::default());
        let occupied = occupy(&aio);
        // The abandoned request owns the last handle, and whoever waits for the other one reaps it.
        let last = aio.clone();
        let buf = DeedBuf::new(At::Dropped, once(move || drop(last)));
        drop(
            aio.alloc()
                .init_rw(fates.file(null()), Read, buf, 0)
                .start()
                .unwrap(),
        );
        let waited = nothing(&aio).start().unwrap();
        submit_counted(&aio, &calls, 4);
        drop(aio);
        drop(occupied);
        assert_eq!(waited.wait().result.unwrap(), 0);
        calls.until(4);
        until(|| count_contexts() == 0);
        assert_eq!(fates.seen(), [1, 0, 0, 0]);
    });
}

#[test]
fn a_manual_context_ends_in_a_waker() {
    in_both_modes(|| {
        let (aio, calls) = (manual(1), Counter::default());
        let occupied = occupy(&aio);
        let last = aio.clone();
        let mut woken = nothing(&aio).start().unwrap();
        leave(&mut woken, &waker(once(move || drop(last))));
        let waited = nothing(&aio).start().unwrap();
        submit_counted(&aio, &calls, 4);
        drop(aio);
        drop(occupied);
        assert_eq!(waited.wait().result.unwrap(), 0);
        assert_eq!(woken.wait().result.unwrap(), 0);
        calls.until(4);
        until(|| count_contexts() == 0);
    });
}

#[test]
fn a_context_that_ends_in_its_own_callback_completes_the_rest() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
            let (aio, calls) = (
                build(Aio::builder().depth(1).dispatch(dispatch)),
                Counter::default(),
            );
            let occupied = occupy(&aio);
            let (last, count) = (aio.clone(), calls.clone());
            let request = nothing(&aio).init_callback(move |_| {
                submit_counted(&last, &count, 10);
                drop(last);
            });
            request.submit().unwrap();
            submit_counted(&aio, &calls, 10);
            let dropped = thread::spawn(move || drop(aio));
            drop(occupied);
            dropped.join().unwrap();
            calls.until(20);
            until(|| count_contexts() == 0);
        }
    });
}

#[test]
fn a_context_that_ends_in_anothers_callback_completes_the_rest() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
            let other = build(Aio::builder().depth(1).dispatch(dispatch));
            let calls = Counter::default();
            let (writer, submitter) = in_flight(&other, &calls);
            submit_counted(&other, &calls, 10);
            let (aio, done) = (aio(), Latch::default());
            let gone = done.clone();
            let request = nothing(&aio).init_callback(move |_| {
                drop(other); // goes on in the background
                gone.open();
            });
            request.submit().unwrap();
            done.wait();
            poke(&writer);
            submitter.join().unwrap();
            calls.until(11);
            drop(aio);
            until(|| count_contexts() == 0);
        }
    });
}

#[test]
fn a_wait_for_what_was_never_submitted_takes_no_processor() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Thread, Dispatch::Manual] {
            let aio = build(Aio::builder().dispatch(dispatch));
            let mut batch = aio.batch();
            let mut handle = batch.push(nothing(&aio));
            aio.drain().unwrap(); // it does not count
            for _ in 0..2 {
                let (time, before) = (Duration::from_millis(500), processor_time());
                let began = Instant::now();
                handle = handle.wait_timeout(time).expect_err("it was not submitted");
                let spent = processor_time() - before;
                assert!(began.elapsed() >= time, "it did not wait");
                assert!(spent < time / 2, "{spent:?} of {time:?}");
                // The second time round the context is gone.
                let _ = aio.shutdown(Duration::from_secs(3600));
            }
            drop(batch);
            assert!(is_cancelled(&handle.wait().result));
        }
    });
}

/// Shuts the context down while a thread waits, with a far deadline, for a request of the batch, which nobody
/// has submitted.
fn shut_down_beside_a_waiter(aio: &Aio, batch: &mut Batch<'_>) -> JoinHandle<io::Result<usize>> {
    let (handle, hour) = (batch.push(nothing(aio)), Duration::from_secs(3600));
    let waiter = named("waiter", move || {
        handle.wait_timeout(hour).ok().unwrap().result
    });
    until_asleep("waiter");
    aio.shutdown(hour).unwrap();
    waiter
}

#[test]
fn shutdown_does_not_wait_for_what_was_never_submitted() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
            let aio = build(Aio::builder().dispatch(dispatch));
            let mut batch = aio.batch();
            let waiter = shut_down_beside_a_waiter(&aio, &mut batch);
            drop(batch);
            assert!(is_cancelled(&waiter.join().unwrap()));
        }
    });
}

#[test]
fn a_batch_submitted_after_the_end_answers_who_waits() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
            let aio = build(Aio::builder().dispatch(dispatch));
            let mut batch = aio.batch();
            let waiter = shut_down_beside_a_waiter(&aio, &mut batch);
            assert!(batch.submit().is_empty());
            assert!(is_cancelled(&waiter.join().unwrap()));
        }
    });
}

#[test]
fn a_wait_takes_a_request_out_of_a_batch() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
            let (aio, fates) = (build(Aio::builder().dispatch(dispatch)), Fates::default());
            let mut batch = aio.batch();
            let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
            let handle = batch.push(aio.alloc().init_rw(file, Read, buf, 0));
            let other = batch.push(nothing(&aio));
            let done = handle.wait();
            done.result.as_ref().unwrap_err();
            assert_eq!(fates.seen(), [0; 4]); // both came back
            drop(done);
            assert!(batch.submit().is_empty());
            assert_eq!(other.wait().result.unwrap(), 0);
            aio.drain().unwrap();
            assert_eq!((fates.seen(), aio.stats().accepted), ([1, 1, 0, 0], 1));
        }
    });
}

#[test]
fn a_request_in_a_batch_that_was_forgotten_does_not_keep_the_context() {
    in_both_modes(|| {
        let aio = aio();
        let mut batch = aio.batch();
        let handle = batch.push(nothing(&aio));
        std::mem::forget(batch);
        aio.drain().unwrap();
        drop(aio);
        until(|| count_contexts() == 0);
        assert!(handle.wait_timeout(SHORT).is_err());
    });
}
