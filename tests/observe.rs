//! Observed requests: where a dump sees them, what their times are, and what is counted without that.

#![allow(unsafe_code, reason = "a buffer that looks when it is dropped")]

mod common;

use common::*;
use kiocb::buf::IoBuf;
use kiocb::observe::{Dump, Place};
use kiocb::op::{Read, Write};
use kiocb::{Aio, Dispatch, PollFlags, Stats};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

fn observed(dispatch: Dispatch) -> Aio {
    let aio = build(Aio::builder().depth(2).dispatch(dispatch));
    aio.observe(1);
    aio
}

fn places(dump: &Dump) -> Vec<Place> {
    dump.requests()
        .iter()
        .map(|request| request.place)
        .collect()
}

fn submit(aio: &Aio) {
    let request = aio.alloc().init_rw(null(), Write, [0; 4], 0);
    request.init_callback(drop).submit().unwrap();
}

#[test]
fn a_dump_says_which_requests_the_kernel_has_and_which_are_queued() {
    let _watchdog = watchdog();
    let aio = observed(Dispatch::Manual);
    let (reader, mut writer) = io::pipe().unwrap();
    let fd = reader.as_raw_fd();
    let poll = aio
        .alloc()
        .init_poll(reader, PollFlags::IN)
        .start()
        .unwrap();
    (0..3).for_each(|_| submit(&aio));
    let dump = aio.dump().unwrap();
    assert_eq!(
        places(&dump),
        [Place::Kernel, Place::Kernel, Place::Queued, Place::Queued]
    );
    let oldest = dump.oldest().unwrap();
    assert_eq!(
        (oldest.operation(), oldest.fd, oldest.length),
        ("poll", fd, 0)
    );
    let second = &dump.requests()[1];
    assert_eq!((second.operation(), second.length), ("pwrite", 4));
    assert!(oldest.age >= second.age && oldest.age >= oldest.there);
    let text = dump.to_string();
    assert_eq!(text.lines().count(), 5);
    assert!(
        text.starts_with("kiocb: 2 in flight, 2 queued, depth 2; 4 observed\n"),
        "{text}"
    );
    assert!(text.contains(&format!(": poll fd {fd}\n")), "{text}");
    assert!(text.contains(" s old, queued for "), "{text}");
    writer.write_all(b"!").unwrap();
    assert!(poll.wait().result.is_ok());
    aio.drain().unwrap();
    assert_eq!(places(&aio.dump().unwrap()), []);
}

#[test]
fn a_dump_inside_a_callback_sees_it_and_what_it_submitted() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let aio = build(Aio::builder().dispatch(dispatch));
        aio.observe(1);
        let (own, (send, dumps)) = (aio.clone(), channel());
        let request = aio.alloc().init_rw(null(), Write, [0; 7], 5);
        let request = request.init_callback(move |_| {
            submit(&own);
            send.send(own.dump()).unwrap();
            drop(own);
        });
        request.submit().unwrap();
        aio.drain().unwrap();
        let dump = dumps.recv().unwrap().unwrap();
        assert_eq!(places(&dump), [Place::Callback, Place::Gathered]);
        let running = dump.oldest().unwrap();
        assert_eq!((running.length, running.offset), (7, 5));
        assert_eq!(aio.dump().unwrap().oldest().map(|left| left.place), None);
    }
}

#[test]
fn a_request_whose_callback_is_due_is_deferred() {
    let _watchdog = watchdog();
    let aio = aio();
    let busy = keep_busy(&aio);
    aio.observe(1);
    submit(&aio);
    let read = aio.alloc().init_rw(null(), Read, [0; 1], 0);
    assert_eq!(read.wait().unwrap().result.unwrap(), 0); // the waiting thread takes both events
    until(|| places(&aio.dump().unwrap()) == [Place::Deferred]);
    busy.release();
    aio.drain().unwrap();
    assert_eq!(places(&aio.dump().unwrap()), []);
}

/// Dumps when it is dropped.
struct DumpingBuf(Vec<u8>, Aio, Sender<Dump>);

// SAFETY: the vector's own promise.
unsafe impl IoBuf for DumpingBuf {
    fn buf_ptr(&self) -> *const u8 {
        self.0.buf_ptr()
    }

    fn buf_len(&self) -> usize {
        self.0.len()
    }
}

impl Drop for DumpingBuf {
    fn drop(&mut self) {
        self.2.send(self.1.dump().unwrap()).unwrap();
    }
}

#[test]
fn a_request_whose_handle_was_dropped_is_abandoned() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(1).dispatch(Dispatch::Manual));
    let (reader, mut writer) = io::pipe().unwrap();
    let poll = aio
        .alloc()
        .init_poll(reader, PollFlags::IN)
        .start()
        .unwrap();
    aio.observe(1);
    let (send, dumps) = channel();
    let buf = DumpingBuf(vec![0; 3], aio.clone(), send);
    let write = aio.alloc().init_rw(null(), Write, buf, 0).start().unwrap();
    let state = |dump: Dump| dump.oldest().map(|oldest| (oldest.place, oldest.abandoned));
    assert_eq!(state(aio.dump().unwrap()), Some((Place::Queued, false)));
    drop(write);
    assert_eq!(state(aio.dump().unwrap()), Some((Place::Queued, true)));
    let text = aio.dump().unwrap().to_string();
    assert!(text.ends_with(", 3 at 0, abandoned"), "{text}");
    writer.write_all(b"!").unwrap();
    assert!(poll.wait().result.is_ok());
    aio.drain().unwrap();
    assert_eq!(state(dumps.recv().unwrap()), Some((Place::Callback, true)));
    assert_eq!(state(aio.dump().unwrap()), None);
    assert_eq!(aio.latencies().unwrap().callback.count(), 0);
}

#[test]
fn a_handle_dropped_before_its_batch_leaves_has_no_callback() {
    let _watchdog = watchdog();
    let aio = observed(Dispatch::Manual);
    let (send, dumps) = channel();
    let buf = DumpingBuf(vec![0; 3], aio.clone(), send);
    let mut batch = aio.batch();
    drop(batch.push(aio.alloc().init_rw(null(), Write, buf, 0)));
    assert!(batch.submit().is_empty());
    aio.drain().unwrap();
    assert!(dumps.recv().unwrap().oldest().unwrap().abandoned);
    let seen = aio.latencies().unwrap();
    assert_eq!(seen.kernel.count(), 1);
    assert_eq!((seen.delivery.count(), seen.callback.count()), (0, 0));
}

#[test]
fn what_is_refused_late_was_not_in_the_kernel() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(1).dispatch(Dispatch::Manual));
    let (reader, mut writer) = io::pipe().unwrap();
    let poll = aio.alloc().init_poll(reader, PollFlags::IN);
    let poll = poll.start().unwrap();
    aio.observe(1);
    let read_only = std::fs::File::open("/dev/null").unwrap();
    let write = aio.alloc().init_rw(read_only, Write, [0; 1], 0);
    let write = write.start().unwrap(); // queued
    writer.write_all(b"!").unwrap();
    assert!(poll.wait().result.is_ok());
    let refused = write.wait().result.unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EBADF));
    let seen = aio.latencies().unwrap();
    assert_eq!((seen.queued.count(), seen.kernel.count()), (1, 0));
}

#[test]
fn each_stay_of_an_observed_request_is_timed_once() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let aio = observed(dispatch);
        for _ in 0..20 {
            submit(&aio);
        }
        for _ in 0..10 {
            let read = aio.alloc().init_rw(null(), Read, [0; 1], 0);
            assert_eq!(read.wait().unwrap().result.unwrap(), 0);
        }
        aio.drain().unwrap();
        let seen = aio.latencies().unwrap();
        assert_eq!((seen.queued.count(), seen.kernel.count()), (30, 30));
        assert_eq!((seen.delivery.count(), seen.callback.count()), (20, 20));
        assert!(seen.callback.max() <= seen.callback.sum());
    }
}

#[test]
fn a_callback_that_panics_is_timed_and_no_longer_listed() {
    let _watchdog = watchdog();
    let aio = observed(Dispatch::Thread);
    let request = aio.alloc().init_rw(null(), Read, [0; 1], 0);
    let request = request.init_callback(|_| panic!("on purpose"));
    request.submit().unwrap();
    aio.drain().unwrap();
    assert_eq!(aio.latencies().unwrap().callback.count(), 1);
    assert_eq!(places(&aio.dump().unwrap()), []);
}

#[test]
fn one_of_so_many_requests_is_observed() {
    let _watchdog = watchdog();
    let aio = aio();
    for (every, count) in [(0, 0), (10, 10), (1, 110), (0, 110)] {
        aio.observe(every);
        (0..100).for_each(|_| submit(&aio));
        aio.drain().unwrap();
        assert_eq!(aio.latencies().unwrap().kernel.count(), count);
    }
}

#[test]
fn a_refused_request_is_not_observed_any_more() {
    let _watchdog = watchdog();
    let aio = observed(Dispatch::Thread);
    let read_only = std::fs::File::open("/dev/null").unwrap();
    let write = aio.alloc().init_rw(read_only, Write, [0; 1], 0);
    let back = write.wait().unwrap_err().into_request();
    assert_eq!(places(&aio.dump().unwrap()), []);
    let mut batch = aio.batch();
    let ticket = batch.push_callback(back.init_callback(drop));
    let mut errors = batch.submit();
    assert!(errors.take(ticket).is_some());
    assert_eq!(places(&aio.dump().unwrap()), []);
    assert_eq!(aio.latencies().unwrap().kernel.count(), 0);
}

#[test]
fn what_goes_on_after_a_short_transfer_is_one_request() {
    let _watchdog = watchdog();
    let aio = observed(Dispatch::Thread);
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(b"a").unwrap();
    let copy = aio.clone();
    let thread = std::thread::spawn(move || {
        let read = copy.alloc().init_rw(reader, Read, [0; 2], 0);
        read.read_exact().wait().unwrap().result.unwrap()
    });
    until(|| aio.stats().submits >= 2);
    writer.write_all(b"b").unwrap();
    assert_eq!(thread.join().unwrap(), 2);
    let seen = aio.latencies().unwrap();
    assert_eq!((seen.queued.count(), seen.kernel.count()), (1, 1));
    assert_eq!(places(&aio.dump().unwrap()), []);
}

#[test]
fn what_was_pushed_into_a_queue_is_observed() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Manual] {
        let aio = observed(dispatch);
        let queue = aio.queue();
        for tag in 0..5 {
            let request = aio.alloc().init_rw(null(), Write, [0; 4], 0);
            queue.push(request, tag).unwrap();
        }
        let done = queue
            .wait(5, None)
            .unwrap()
            .map(|(tag, _)| tag)
            .sum::<i32>();
        assert_eq!(done, 10);
        assert_eq!(aio.latencies().unwrap().kernel.count(), 5);
        assert_eq!(aio.dump().unwrap().requests().len(), 0);
        aio.shutdown(Duration::from_secs(3600)).unwrap();
        let request = aio.alloc().init_rw(null(), Write, [0; 4], 0);
        queue.push(request, 0).unwrap_err();
        assert_eq!(aio.dump().unwrap().requests().len(), 0);
    }
}

#[test]
fn shards_are_dumped_together() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().shards(2).dispatch(Dispatch::Manual));
    aio.observe(1);
    submit(&aio);
    let other = aio.clone();
    // Threads are numbered as they come: one of a few has the other shard.
    until(|| {
        let other = other.clone();
        std::thread::spawn(move || submit(&other)).join().unwrap();
        let dump = aio.dump().unwrap();
        let mut shards: Vec<_> = dump
            .requests()
            .iter()
            .map(|request| request.shard)
            .collect();
        shards.sort_unstable();
        shards.dedup();
        shards == [0, 1]
    });
    aio.drain().unwrap();
    assert!(aio.latencies().unwrap().kernel.count() >= 2);
}

#[test]
fn the_longest_backlog_is_remembered() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(2).dispatch(Dispatch::Manual));
    (0..7).for_each(|_| submit(&aio));
    aio.drain().unwrap();
    assert_eq!((aio.stats().longest_backlog, aio.stats().queued), (5, 0));
    submit(&aio);
    aio.drain().unwrap();
    assert_eq!(aio.stats().longest_backlog, 5);
    let mut other = Stats::default();
    other.longest_backlog = 9;
    assert_eq!((aio.stats() + other).longest_backlog, 9);
    assert_eq!((aio.stats() - other).longest_backlog, 5);
}

#[test]
fn a_submission_that_blocked_is_counted_with_its_time() {
    let _watchdog = watchdog();
    let aio = aio();
    let occupied = occupy(&aio);
    assert_eq!(aio.stats().blocked, 0);
    std::thread::sleep(Duration::from_millis(250)); // what is counted is what took more than 100
    drop(occupied);
    let stats = aio.stats();
    assert_eq!(stats.blocked, 1);
    assert!(stats.blocked_millis >= 100, "{stats:?}");
}
