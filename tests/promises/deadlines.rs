//! What has a deadline keeps it, whatever else is stuck; what never sleeps does not; and what is counted are
//! requests.

use crate::common::modes::in_both_modes;
use crate::common::*;
use crate::hostile::*;
use kiocb::op::{Read, Write};
use kiocb::{Aio, Dispatch, PollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(100);

fn manual(depth: u32) -> Aio {
    build(Aio::builder().depth(depth).dispatch(Dispatch::Manual))
}

/// A context whose completion thread is inside a waker until the gate opens. The handle's result is there.
fn stuck_in_a_waker() -> (Aio, Latch, Readable) {
    let (aio, block) = (aio(), block());
    let mut readable = readable(&aio);
    leave(&mut readable.pending, &waker(block.deed));
    poke(&readable.writer);
    block.inside.wait();
    (aio, block.go_on, readable)
}

#[test]
fn shutdown_keeps_its_deadline_while_a_waker_is_stuck() {
    in_both_modes(|| {
        let (aio, go_on, _readable) = stuck_in_a_waker();
        let _ = aio.shutdown(SHORT); // it may find the context idle, or not
        go_on.open();
        drop(aio);
        until(|| count_contexts() == 0);
    });
}

#[test]
fn drain_keeps_its_deadline_while_a_waker_is_stuck() {
    in_both_modes(|| {
        let (aio, go_on, readable) = stuck_in_a_waker();
        let _ = aio.drain_timeout(SHORT);
        assert!(readable.pending.wait_timeout(SHORT).is_ok());
        go_on.open();
        aio.drain().unwrap();
    });
}

/// Submits a read of one byte. Blocks if nobody has written one, unless it is queued.
fn submit_read(aio: &Aio, reader: PipeReader, calls: &Counter) {
    let count = calls.clone();
    let read = aio.alloc().init_rw(OwnedFd::from(reader), Read, [0; 1], 0);
    let read = read.init_callback(move |done| {
        assert_eq!(done.result.unwrap(), 1);
        count.add();
    });
    read.submit().unwrap();
}

/// A context of one slot, in the backlog of which a read of an empty pipe comes first: who takes the
/// readiness and submits it is blocked. Then a handle.
fn blocked_behind(dispatch: Dispatch) -> (Aio, Readable, PipeWriter, Counter) {
    let aio = build(Aio::builder().depth(1).dispatch(dispatch));
    let first = readable(&aio);
    let ((reader, writer), calls) = (io::pipe().unwrap(), Counter::default());
    submit_read(&aio, reader, &calls);
    (aio, first, writer, calls)
}

/// Lets the pipe be read, and sees to it that everything is done.
fn release(aio: &Aio, writer: &PipeWriter, calls: &Counter) {
    poke(writer);
    aio.drain().unwrap();
    assert_eq!(calls.get(), 1);
}

const ALL: [Dispatch; 3] = [Dispatch::Manual, Dispatch::Thread, Dispatch::Anywhere];

#[test]
fn a_wait_keeps_its_deadline_while_a_submission_blocks() {
    in_both_modes(|| {
        for dispatch in ALL {
            let (aio, first, writer, calls) = blocked_behind(dispatch);
            let last = nothing(&aio).start().unwrap();
            poke(&first.writer);
            let last = last.wait_timeout(SHORT).expect_err("it is behind the pipe");
            release(&aio, &writer, &calls);
            assert_eq!(last.wait().result.unwrap(), 0);
        }
    });
}

#[test]
fn drain_keeps_its_deadline_while_a_submission_blocks() {
    in_both_modes(|| {
        for dispatch in ALL {
            let (aio, first, writer, calls) = blocked_behind(dispatch);
            poke(&first.writer);
            assert_too_late(aio.drain_timeout(SHORT));
            release(&aio, &writer, &calls);
        }
    });
}

#[test]
fn poll_keeps_its_deadline_while_a_submission_blocks() {
    in_both_modes(|| {
        let (aio, first, writer, calls) = blocked_behind(Dispatch::Manual);
        poke(&first.writer);
        let end = Instant::now() + 3 * SHORT;
        while Instant::now() < end {
            aio.poll(1, usize::MAX, Some(SHORT)).unwrap();
        }
        assert_eq!(calls.get(), 0);
        release(&aio, &writer, &calls);
    });
}

#[test]
fn shutdown_keeps_its_deadline_while_a_submission_blocks() {
    in_both_modes(|| {
        for dispatch in ALL {
            let (aio, first, writer, calls) = blocked_behind(dispatch);
            poke(&first.writer);
            assert_too_late(aio.shutdown(SHORT));
            poke(&writer);
            drop(aio);
            calls.until(1);
            until(|| count_contexts() == 0);
        }
    });
}

/// Submits a read that wants two bytes, of which the pipe has one, "1"; the other is to be a "2".
fn submit_read_in_two_parts(aio: &Aio) -> (PipeWriter, Counter) {
    let ((reader, mut writer), calls) = (io::pipe().unwrap(), Counter::default());
    writer.write_all(b"1").unwrap();
    let read = aio.alloc().init_rw(OwnedFd::from(reader), Read, [0; 2], 0);
    let count = calls.clone();
    let read = read.read_exact().init_callback(move |done| {
        assert_eq!((done.result.unwrap(), done.buf), (2, *b"12"));
        count.add();
    });
    read.submit().unwrap();
    (writer, calls)
}

#[test]
fn a_poll_keeps_its_deadline_while_the_second_part_blocks() {
    in_both_modes(|| {
        let aio = manual(4);
        let last = nothing(&aio);
        let (mut writer, calls) = submit_read_in_two_parts(&aio);
        let _ = aio.poll(1, usize::MAX, Some(SHORT)).unwrap();
        let last = last.start().unwrap();
        let _ = last.wait_timeout(SHORT);
        assert_too_late(aio.drain_timeout(SHORT));
        writer.write_all(b"2").unwrap();
        aio.drain().unwrap();
        assert_eq!(calls.get(), 1);
    });
}

/// In a callback, submits a read of an empty pipe and then does `after`. Returns the pipe and a counter of
/// the read's callback.
fn submits_what_blocks(
    aio: &Aio,
    after: impl FnOnce(&Aio) + Send + 'static,
) -> (PipeWriter, Counter) {
    let ((reader, writer), calls) = (io::pipe().unwrap(), Counter::default());
    let (inner, count) = (aio.clone(), calls.clone());
    let request = nothing(aio).init_callback(move |_| {
        submit_read(&inner, reader, &count);
        after(&inner);
    });
    request.submit().unwrap();
    (writer, calls)
}

#[test]
fn drain_keeps_its_deadline_while_what_a_callback_submitted_blocks() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Manual, Dispatch::Thread] {
            let aio = build(Aio::builder().depth(4).dispatch(dispatch));
            let (writer, calls) = submits_what_blocks(&aio, |_| ());
            assert_too_late(aio.drain_timeout(SHORT));
            release(&aio, &writer, &calls);
        }
    });
}

#[test]
fn a_wait_in_a_callback_keeps_its_deadline_though_others_block() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Manual, Dispatch::Thread] {
            let aio = build(Aio::builder().depth(4).dispatch(dispatch));
            let Readable { pending, writer } = readable(&aio);
            let (over, waited) = std::sync::mpsc::channel();
            let (pipe, calls) = submits_what_blocks(&aio, move |_| {
                let unfinished = pending.wait_timeout(SHORT);
                over.send(unfinished.expect_err("it is not readable"))
                    .unwrap();
            });
            let _ = aio.poll(1, usize::MAX, Some(SHORT));
            let pending = waited.recv().unwrap();
            poke(&writer);
            pending.wait().result.unwrap();
            release(&aio, &pipe, &calls);
        }
    });
}

#[test]
fn a_drain_without_a_deadline_is_never_too_late() {
    in_both_modes(|| {
        for dispatch in ALL {
            let aio = build(Aio::builder().depth(4).dispatch(dispatch));
            let over = Counter::default();
            // They come and go all the time: there are moments with nothing outstanding.
            let reader = {
                let (aio, over, file) = (aio.clone(), over.clone(), null());
                std::thread::spawn(move || {
                    while over.get() == 0 {
                        assert_eq!(aio.read_at(&file, &mut [0], 0).unwrap(), 0);
                    }
                })
            };
            for _ in 0..50_000 {
                aio.drain().unwrap();
            }
            over.add();
            reader.join().unwrap();
        }
    });
}

/// One destruction after the other takes 64 times as long as one. What `end` returns is dropped outside its
/// time.
#[track_caller]
fn assert_shards_end_as_one<R>(end: impl Fn(Aio) -> R) {
    let time = |shards: usize| {
        let aio = build(Aio::builder().depth(1).shards(shards));
        let began = Instant::now();
        let rest = end(aio);
        let time = began.elapsed();
        drop(rest);
        time
    };
    let median = |shards: usize| {
        let mut times = [(); 3].map(|()| time(shards));
        times.sort();
        times[1]
    };
    let (one, many) = (median(1), median(64));
    assert!(many < 20 * one, "one: {one:?}, 64: {many:?}");
}

#[test]
fn many_idle_shards_are_shut_down_as_one() {
    in_both_modes(|| {
        assert_shards_end_as_one(|aio| {
            let _ = aio.shutdown(Duration::from_millis(10));
            aio
        });
    });
}

#[test]
fn many_idle_shards_are_dropped_as_one() {
    in_both_modes(|| {
        assert_shards_end_as_one(drop);
    });
}

/// A thread of the name "poller" that polls for one request.
fn poller(aio: &Aio) -> JoinHandle<usize> {
    let aio = aio.clone();
    named("poller", move || aio.poll(1, usize::MAX, None).unwrap())
}

#[test]
fn a_poll_for_nothing_does_not_wait_for_another_poller() {
    in_both_modes(|| {
        let aio = manual(4);
        let never = readable(&aio);
        let poller = poller(&aio);
        until_leading("poller");
        for _ in 0..100 {
            let _ = aio.poll(0, usize::MAX, None).unwrap();
            let _ = aio
                .poll(0, usize::MAX, Some(Duration::from_secs(3600)))
                .unwrap();
        }
        poke(&never.writer);
        assert_eq!(poller.join().unwrap(), 1);
        never.pending.wait().result.unwrap();
    });
}

#[test]
fn a_poll_for_nothing_does_not_wait_for_a_callback() {
    in_both_modes(|| {
        let aio = manual(4);
        let Block {
            deed,
            inside,
            go_on,
        } = block();
        let request = nothing(&aio).init_callback(move |_| deed());
        request.submit().unwrap();
        let poller = poller(&aio);
        inside.wait();
        for _ in 0..100 {
            let _ = aio.poll(0, usize::MAX, None).unwrap();
        }
        assert_eq!(aio.poll(1, usize::MAX, Some(SHORT)).unwrap(), 0);
        go_on.open();
        assert_eq!(poller.join().unwrap(), 1);
    });
}

#[test]
fn poll_counts_a_request_at_its_end() {
    in_both_modes(|| {
        let aio = manual(4);
        let (mut writer, calls) = submit_read_in_two_parts(&aio);
        let feeder = std::thread::spawn(move || {
            // It need not be late: the first byte was read by itself.
            writer.write_all(b"2").unwrap();
            writer
        });
        assert_eq!(aio.poll(1, usize::MAX, None).unwrap(), 1);
        assert_eq!(calls.get(), 1);
        drop(feeder.join().unwrap());
    });
}

#[test]
fn poll_never_brings_more_than_it_was_asked_for() {
    in_both_modes(|| {
        let (aio, calls) = (manual(64), Counter::default());
        submit_counted(&aio, &calls, 100);
        let mut sum = 0;
        while sum < 100 {
            let brought = aio.poll(1, 7, None).unwrap();
            assert!((1..=7).contains(&brought), "{brought}");
            sum += brought;
            assert_eq!(calls.get(), sum);
        }
    });
}

fn eventfd() -> (Arc<OwnedFd>, EventFd) {
    let eventfd = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
    let fd: OwnedFd = eventfd.into();
    let look = fd.try_clone().unwrap();
    // SAFETY: a descriptor of an eventfd, which is ours.
    (Arc::new(fd), unsafe { EventFd::from_owned_fd(look) })
}

#[test]
fn an_eventfd_counts_one_for_a_request_in_parts() {
    in_both_modes(|| {
        let (aio, (fd, count)) = (aio(), eventfd());
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"1").unwrap();
        let read = aio.alloc().init_rw(OwnedFd::from(reader), Read, [0; 3], 0);
        let feeder = std::thread::spawn(move || {
            for byte in [b"2", b"3"] {
                writer.write_all(byte).unwrap();
            }
            writer
        });
        let done = read.eventfd(fd).read_exact().wait().unwrap();
        assert_eq!(done.result.unwrap(), 3);
        drop(feeder.join().unwrap());
        assert_eq!(count.read().unwrap(), 1);
    });
}

#[test]
fn an_eventfd_counts_a_request_that_was_offloaded_once() {
    in_both_modes(|| {
        let (aio, (fd, count)) = (aio(), eventfd());
        let (reader, writer) = io::pipe().unwrap();
        let read = aio.alloc().init_rw(OwnedFd::from(reader), Read, [0; 1], 0);
        let pending = read.eventfd(fd).nowait_or_offload().start().unwrap();
        poke(&writer);
        assert_eq!(pending.wait().result.unwrap(), 1);
        assert_eq!(count.read().unwrap(), 1);
    });
}

#[test]
fn an_eventfd_counts_a_request_that_was_refused_late() {
    in_both_modes(|| {
        let (aio, (fd, count)) = (build(Aio::builder().depth(1)), eventfd());
        let occupied = occupy(&aio);
        let unwritable = File::open("/dev/null").unwrap();
        let write = aio
            .alloc()
            .init_rw(unwritable, Write, [0; 4], 0)
            .eventfd(fd);
        let pending = write.start().unwrap();
        drop(occupied);
        let refused = pending.wait().result.unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EBADF));
        assert_eq!(count.read().unwrap(), 1);
    });
}

#[track_caller]
fn assert_a_cancelled_poll_counts_one(aio: &Aio) {
    let ((fd, count), (reader, _writer)) = (eventfd(), io::pipe().unwrap());
    let poll = aio.alloc().init_poll(OwnedFd::from(reader), PollFlags::IN);
    let pending = poll.eventfd(fd).start().unwrap();
    assert!(pending.cancel());
    assert!(is_cancelled(&pending.wait().result));
    assert_eq!(count.read().unwrap(), 1);
}

#[test]
fn an_eventfd_counts_a_poll_cancelled_while_it_was_queued() {
    in_both_modes(|| {
        let aio = build(Aio::builder().depth(1));
        let occupied = occupy(&aio);
        assert_a_cancelled_poll_counts_one(&aio);
        drop(occupied);
        aio.drain().unwrap();
    });
}

#[test]
fn an_eventfd_counts_a_poll_cancelled_in_flight() {
    in_both_modes(|| assert_a_cancelled_poll_counts_one(&aio()));
}
