//! What was accepted completes, whoever submitted it and wherever: the thread that must hear of it does.

use crate::common::modes::in_both_modes;
use crate::common::*;
use crate::hostile::*;
use kiocb::op::{PollReady, Read, Write};
use kiocb::{Aio, BufPool, Dispatch, Pending};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

const THREAD: &str = "completions";

/// A context whose completion thread is kept busy until it is let go by [`let_it_park`]: what completes
/// meanwhile is found by others.
fn busy(depth: u32) -> (Aio, Busy) {
    let aio = build(Aio::builder().depth(depth).thread_name(THREAD));
    let busy = keep_busy(&aio);
    (aio, busy)
}

/// Waits inline for other things, in which this thread takes the event.
fn read_until_complete(aio: &Aio, pending: &Pending<PollReady<OwnedFd>>) {
    while !pending.is_complete() {
        assert_eq!(aio.read_at(&null(), &mut [0], 0).unwrap(), 0);
    }
}

/// Has `deed` done by a waker, in a wait of this thread if no other is free. The handle's result is there.
fn do_in_a_waker(aio: &Aio, deed: impl FnOnce() + Send + 'static) -> Readable {
    let mut readable = readable(aio);
    leave(&mut readable.pending, &waker(once(deed)));
    poke(&readable.writer);
    read_until_complete(aio, &readable.pending);
    readable
}

/// Returns when the completion thread has found nothing to do and sleeps.
fn let_it_park(busy: Busy) {
    busy.release();
    until_asleep(THREAD);
    // It lingers a little before it parks, if it ever does.
    thread::sleep(Duration::from_millis(50));
}

#[test]
fn what_a_waker_submits_is_completed_while_the_thread_is_idle() {
    in_both_modes(|| {
        let ((aio, busy), calls) = (busy(8), Counter::default());
        let (inner, count) = (aio.clone(), calls.clone());
        let _handle = do_in_a_waker(&aio, move || {
            let_it_park(busy);
            submit_counted(&inner, &count, 1);
        });
        calls.until(1);
        aio.drain().unwrap();
    });
}

#[test]
fn what_a_destructor_submits_is_completed_while_the_thread_is_idle() {
    in_both_modes(|| {
        let ((aio, busy), calls) = (busy(1), Counter::default());
        let occupied = occupy(&aio);
        let (inner, count, dropped) = (aio.clone(), calls.clone(), Latch::default());
        let was_dropped = dropped.clone();
        let deed = once(move || {
            let_it_park(busy);
            submit_counted(&inner, &count, 1);
            dropped.open();
        });
        let buf = DeedBuf::new(At::Dropped, deed);
        drop(aio.alloc().init_rw(null(), Read, buf, 0).start().unwrap());
        let last = nothing(&aio).start().unwrap();
        drop(occupied);
        last.wait().result.unwrap();
        was_dropped.wait();
        calls.until(1);
        aio.drain().unwrap();
    });
}

#[test]
fn what_a_waker_submits_while_the_thread_looks_away_is_completed() {
    // The same without a gate, many times: the found program.
    in_both_modes(|| {
        let (aio, calls) = (build(Aio::builder().depth(8)), Counter::default());
        for round in 1..=300 {
            let (inner, count) = (aio.clone(), calls.clone());
            let _handle = do_in_a_waker(&aio, move || submit_counted(&inner, &count, 1));
            calls.until(round);
        }
        aio.drain().unwrap();
    });
}

#[test]
fn what_user_code_starts_and_leaves_is_completed() {
    in_both_modes(|| {
        let ((aio, busy), fates) = (busy(8), Fates::default());
        let (inner, count) = (aio.clone(), fates.clone());
        let _handle = do_in_a_waker(&aio, move || {
            let_it_park(busy);
            let (file, buf) = (count.file(null()), count.buffer(vec![0; 4]));
            drop(inner.alloc().init_rw(file, Read, buf, 0).start().unwrap());
        });
        until(|| fates.seen() == [1, 1, 0, 0]);
        aio.drain().unwrap();
    });
}

#[test]
fn a_batch_that_a_waker_submits_is_completed() {
    in_both_modes(|| {
        let ((aio, busy), calls) = (busy(8), Counter::default());
        let (inner, count) = (aio.clone(), calls.clone());
        let _handle = do_in_a_waker(&aio, move || {
            let_it_park(busy);
            let mut batch = inner.batch();
            for _ in 0..20 {
                let count = count.clone();
                let _ = batch.push_callback(nothing(&inner).init_callback(move |_| {
                    count.add();
                }));
            }
            assert!(batch.submit().is_empty());
        });
        calls.until(20);
        aio.drain().unwrap();
    });
}

/// In a callback of a context, with a write into a pipe held back, does `deed`, which blocks until the other
/// end of the pipe is read from.
fn after_a_gathered_write(deed: impl FnOnce(&Aio, io::PipeReader) + Send + 'static) {
    let (aio, done) = (aio(), Latch::default());
    let (reader, writer) = io::pipe().unwrap();
    let (inner, finished) = (aio.clone(), done.clone());
    let request = nothing(&aio).init_callback(move |_| {
        let write = inner
            .alloc()
            .init_rw(OwnedFd::from(writer), Write, [b'!'; 1], 0);
        let write = write.init_callback(|done| assert_eq!(done.result.unwrap(), 1));
        write.submit().unwrap();
        deed(&inner, reader);
        finished.open();
    });
    request.submit().unwrap();
    done.wait();
    aio.drain().unwrap();
    assert_eq!(aio.stats().panics, 0, "the write's callback");
}

/// A pool whose only buffer comes back when the other end of the pipe has been written to.
fn empty_until_read(mut reader: io::PipeReader) -> BufPool {
    let pool = BufPool::new(1, 4096).unwrap();
    let only = pool.take();
    thread::spawn(move || {
        reader.read_exact(&mut [0]).unwrap();
        drop(only);
    });
    pool
}

#[test]
fn what_was_gathered_is_sent_before_a_pool_is_waited_for() {
    in_both_modes(|| {
        after_a_gathered_write(|_, reader| drop(empty_until_read(reader).take()));
    });
}

#[test]
fn what_was_gathered_is_sent_before_a_pool_is_waited_for_in_time() {
    in_both_modes(|| {
        after_a_gathered_write(|_, reader| {
            let pool = empty_until_read(reader);
            assert!(pool.take_timeout(Duration::from_secs(3600)).is_some());
        });
    });
}

#[test]
fn what_was_gathered_is_sent_before_another_context_is_waited_for() {
    in_both_modes(|| {
        after_a_gathered_write(|_, reader| {
            assert_eq!(aio().read_at(&reader, &mut [0], 0).unwrap(), 1);
        });
        after_a_gathered_write(|_, reader| {
            let reader = OwnedFd::from(reader);
            let other = aio();
            let poll = other.alloc().init_poll(reader, kiocb::PollFlags::IN);
            poll.start().unwrap().wait().result.unwrap();
        });
        after_a_gathered_write(|_, reader| {
            let mut byte = [0];
            aio().scope(|s| assert_eq!(s.read_at(&reader, &mut byte, 0).wait().unwrap(), 1));
        });
    });
}

#[test]
fn what_was_gathered_is_sent_before_another_context_submits() {
    in_both_modes(|| {
        after_a_gathered_write(|_, reader| {
            let other = aio();
            let mut batch = other.batch();
            let read = other
                .alloc()
                .init_rw(OwnedFd::from(reader), Read, [0; 1], 0);
            let read = batch.push(read);
            assert!(batch.submit().is_empty());
            assert_eq!(read.wait().result.unwrap(), 1);
        });
        after_a_gathered_write(|_, reader| {
            let other = aio();
            let read = other
                .alloc()
                .init_rw(OwnedFd::from(reader), Read, [0; 1], 0);
            let (send, results) = channel();
            read.init_callback(move |done| send.send(done.result).unwrap())
                .submit()
                .unwrap();
            assert_eq!(results.recv().unwrap().unwrap(), 1);
        });
    });
}

#[test]
fn what_was_gathered_is_sent_before_a_contexts_last_handle_goes() {
    in_both_modes(|| {
        let (send, results) = channel();
        after_a_gathered_write(|_, reader| {
            let other = build(Aio::builder().thread_name("other"));
            let read = other
                .alloc()
                .init_rw(OwnedFd::from(reader), Read, [0; 1], 0);
            let read = read.init_callback(move |done| send.send(done.result).unwrap());
            let submitter = named("submitter", move || drop(read.submit()));
            until_submitting("submitter");
            drop(other); // in the background
            drop(submitter);
        });
        assert_eq!(results.recv().unwrap().unwrap(), 1);
        until(|| count_contexts() == 0);
    });
}

#[test]
fn a_waiter_is_served_while_user_code_blocks() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
            let aio = build(Aio::builder().depth(4).dispatch(dispatch));
            let Block {
                deed,
                inside,
                go_on,
            } = block();
            let Readable {
                mut pending,
                writer,
            } = readable(&aio);
            leave(&mut pending, &waker(deed));
            let waiter = {
                let aio = aio.clone();
                thread::spawn(move || aio.drain().unwrap())
            };
            poke(&writer);
            // Whoever finds it is stuck in the waker; the others go on.
            let reader = {
                let (aio, inside) = (aio.clone(), inside.clone());
                thread::spawn(move || {
                    while !inside.wait_timeout(Duration::ZERO) {
                        assert_eq!(aio.read_at(&null(), &mut [0], 0).unwrap(), 0);
                    }
                })
            };
            inside.wait();
            for _ in 0..100 {
                let done = nothing(&aio).start().unwrap().wait();
                assert_eq!(done.result.unwrap(), 0);
            }
            go_on.open();
            reader.join().unwrap();
            waiter.join().unwrap();
            pending.wait().result.unwrap();
        }
    });
}

#[test]
fn an_abandoned_request_that_submits_for_ever_is_drained() {
    in_both_modes(|| {
        let (aio, calls) = (build(Aio::builder().depth(1)), Counter::default());
        let occupied = occupy(&aio);
        for _ in 0..50 {
            let (inner, count) = (aio.clone(), calls.clone());
            let deed: Deed = Arc::new(move || submit_counted(&inner, &count, 1));
            let buf = DeedBuf::new(At::Dropped, deed);
            drop(aio.alloc().init_rw(null(), Read, buf, 0).start().unwrap());
        }
        drop(occupied);
        aio.drain().unwrap();
        assert_eq!(calls.get(), 50);
    });
}

#[test]
fn a_waker_found_inside_another_one_is_called_elsewhere() {
    in_both_modes(|| {
        let (aio, busy) = busy(8);
        let ([mut first, mut second], woken) =
            ([(), ()].map(|()| readable(&aio)), Latch::default());
        let (inner, called) = (aio.clone(), woken.clone());
        leave(&mut second.pending, &waker(once(move || called.open())));
        let Readable {
            pending: second,
            writer,
        } = second;
        let (give, take) = channel();
        let deed = once(move || {
            // Taken by this thread, which is inside a waker.
            poke(&writer);
            read_until_complete(&inner, &second);
            busy.release();
            woken.wait();
            give.send(second).unwrap();
        });
        leave(&mut first.pending, &waker(deed));
        poke(&first.writer);
        read_until_complete(&aio, &first.pending);
        take.recv().unwrap().wait().result.unwrap();
        aio.drain().unwrap();
    });
}
