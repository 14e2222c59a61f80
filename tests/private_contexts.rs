//! Threads that wait beside others get contexts of their own, and nobody can tell but by the speed: order, depth,
//! statistics and ends are those of one context.

#![allow(unsafe_code, reason = "destroys a context behind the crate's back")]

mod common;

use common::modes::in_both_modes;
use common::*;
use kiocb::op::{Read, Write};
use kiocb::{Aio, AioBuilder, AioError, Dispatch, PollFlags, sys};
use nix::sys::resource::Resource;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, PipeWriter, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Barrier, LazyLock, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

/// What is logged from now on. A process has one logger.
fn warnings() -> Arc<Mutex<Vec<String>>> {
    static LINES: LazyLock<Arc<Mutex<Vec<String>>>> =
        LazyLock::new(|| logged(log::LevelFilter::Warn));
    Arc::clone(&LINES)
}

/// Waits so often beside others that this thread has a private context afterwards.
fn meet(aio: &Aio) {
    let null = null();
    for _ in 0..=64 {
        assert_eq!(aio.read_at(&null, &mut [0], 0).unwrap(), 0);
    }
}

/// A context with one request in flight, as long as the pipe is not written to, and one private context: that of
/// this thread.
fn with_a_private_one(builder: AioBuilder) -> (Aio, Occupied) {
    let aio = build(builder);
    let occupied = occupy(&aio);
    assert_eq!(count_contexts(), 1);
    meet(&aio);
    assert_eq!(count_contexts(), 2);
    (aio, occupied)
}

/// A thread that waits on its private context, inside `io_submit`, until the pipe is written to.
fn wait_on_a_private_one(aio: &Aio) -> (JoinHandle<io::Result<usize>>, PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    let (inner, before) = (aio.clone(), aio.stats().in_flight);
    let met = Latch::default();
    let ready = met.clone();
    let waiter = thread::spawn(move || {
        meet(&inner);
        ready.open();
        inner.read_at(&OwnedFd::from(reader), &mut [0], 0)
    });
    met.wait();
    until(|| aio.stats().in_flight > before);
    (waiter, writer)
}

#[test]
fn a_wait_beside_others_gets_a_context_of_its_own_once() {
    in_both_modes(|| {
        let (aio, occupied) = with_a_private_one(Aio::builder());
        for _ in 0..10 {
            assert_eq!(aio.write_at(&null(), &[0; 7], 0).unwrap(), 7);
            let done = aio.alloc().init_rw(null(), Write, [0; 9], 0).wait();
            assert_eq!(done.unwrap().result.unwrap(), 9);
        }
        assert_eq!(count_contexts(), 2);
        drop(occupied);
        aio.drain().unwrap();
        let stats = aio.stats();
        let counted = (stats.accepted, stats.completed, stats.in_flight);
        assert_eq!(counted, (86, 86, 0));
        assert_eq!(stats.depth, 128);
        drop(aio);
        assert_eq!(count_contexts(), 0);
    });
}

#[test]
fn a_thread_alone_shares_the_one_context() {
    in_both_modes(|| {
        let aio = aio();
        // One that meets others now and then, too.
        let occupied = occupy(&aio);
        for _ in 0..64 {
            assert_eq!(aio.read_at(&null(), &mut [0], 0).unwrap(), 0);
        }
        drop(occupied);
        for _ in 0..100 {
            assert_eq!(aio.write_at(&null(), &[0; 7], 0).unwrap(), 7);
        }
        assert_eq!(count_contexts(), 1);
    });
}

#[test]
fn threads_that_read_at_once_read_the_right_bytes() {
    in_both_modes(|| {
        const THREADS: usize = 70; // more than there are places: some share one
        let content = pattern(1, 512 * THREADS);
        let (aio, file) = (aio(), file_of(&content));
        let begin = Barrier::new(THREADS);
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (aio, file, content, begin) = (&aio, &file, &content, &begin);
                scope.spawn(move || {
                    begin.wait();
                    for _ in 0..200 {
                        let mut buf = [0; 512];
                        let offset = number * 512;
                        aio.read_exact_at(file, &mut buf, offset as u64).unwrap();
                        assert_eq!(buf, content[offset..offset + 512]);
                    }
                });
            }
        });
        aio.drain().unwrap();
        let stats = aio.stats();
        let expected = 200 * THREADS as u64;
        assert_eq!((stats.accepted, stats.completed), (expected, expected));
        assert_eq!((stats.in_flight, stats.queued, stats.panics), (0, 0, 0));
        assert!(count_contexts() <= 1 + 32);
        aio.shutdown(LONG).unwrap();
        assert_eq!(count_contexts(), 0);
    });
}

#[test]
fn a_private_context_takes_over_a_slot_of_the_shared_one() {
    in_both_modes(|| {
        let (aio, occupied) = with_a_private_one(Aio::builder().depth(32));
        let (waiter, mut waits) = wait_on_a_private_one(&aio);
        assert_eq!(count_contexts(), 3);
        let (reader, mut writer) = io::pipe().unwrap();
        let reader = Arc::new(OwnedFd::from(reader));
        let polls: Vec<_> = (0..40)
            .map(|_| aio.alloc().init_poll(Arc::clone(&reader), PollFlags::IN))
            .map(|poll| poll.start().unwrap())
            .collect();
        // 32 slots: two ceded, of which one is in use, and one occupied.
        let stats = aio.stats();
        assert_eq!((stats.in_flight, stats.queued), (31, 11));
        waits.write_all(b"!").unwrap();
        assert_eq!(waiter.join().unwrap().unwrap(), 1);
        writer.write_all(b"!").unwrap();
        for poll in polls {
            poll.wait().result.unwrap();
        }
        drop(occupied);
    });
}

#[test]
fn polls_on_all_slots_that_are_left_are_warned_of() {
    in_both_modes(|| {
        let lines = warnings();
        lines.lock().unwrap().clear();
        let (aio, occupied) = with_a_private_one(Aio::builder().depth(32));
        drop(occupied);
        aio.drain().unwrap();
        let (reader, _writer) = io::pipe().unwrap();
        let reader = Arc::new(OwnedFd::from(reader));
        let polls: Vec<_> = (0..31)
            .map(|_| aio.alloc().init_poll(Arc::clone(&reader), PollFlags::IN))
            .map(|poll| poll.start().unwrap())
            .collect();
        let waits = aio.alloc().init_rw(null(), Read, [0; 1], 0).start();
        assert_eq!(aio.stats().queued, 1);
        let said = lines.lock().unwrap().clone();
        assert!(said[0].contains("31 waits for readiness"), "{said:?}");
        assert!(polls.iter().all(|poll| poll.cancel()));
        waits.unwrap().wait().result.unwrap();
    });
}

#[test]
fn a_wait_goes_behind_what_its_thread_has_queued() {
    in_both_modes(|| {
        let (aio, occupied) = with_a_private_one(Aio::builder().depth(32));
        let (reader, mut writer) = io::pipe().unwrap();
        let reader = Arc::new(OwnedFd::from(reader));
        let polls: Vec<_> = (0..30)
            .map(|_| aio.alloc().init_poll(Arc::clone(&reader), PollFlags::IN))
            .map(|poll| poll.start().unwrap())
            .collect();
        let file = Arc::new(scratch());
        let first = aio.alloc().init_rw(Arc::clone(&file), Write, *b"first", 0);
        let first = first.start().unwrap();
        assert_eq!(aio.stats().queued, 1);
        thread::scope(|scope| {
            // The slots come free when this thread waits already, or before.
            scope.spawn(|| {
                until(|| aio.stats().queued != 1);
                writer.write_all(b"!").unwrap();
            });
            assert_eq!(aio.write_at(&*file, b"later", 0).unwrap(), 5);
        });
        assert_eq!(first.wait().result.unwrap(), 5);
        let mut content = [0; 5];
        file.read_exact_at(&mut content, 0).unwrap();
        assert_eq!(&content, b"later");
        polls.into_iter().for_each(|poll| _ = poll.wait().result);
        drop(occupied);
    });
}

#[test]
fn no_wait_gets_one_where_it_would_change_what_is_promised() {
    in_both_modes(|| {
        let waits = |aio: &Aio| {
            meet(aio);
            assert_eq!(count_contexts(), 1);
        };
        for dispatch in [Dispatch::Anywhere, Dispatch::Manual] {
            let aio = build(Aio::builder().dispatch(dispatch));
            let occupied = occupy(&aio);
            waits(&aio);
            drop(occupied);
        }
        let small = build(Aio::builder().depth(31));
        let occupied = occupy(&small);
        waits(&small);
        drop(occupied);
        drop(small);
        // User code, a poll, and what a helper thread may have to submit.
        let aio = aio();
        let occupied = occupy(&aio);
        let (inner, (send, seen)) = (aio.clone(), std::sync::mpsc::channel());
        let request = aio.alloc().init_rw(null(), Read, [0; 1], 0);
        request
            .init_callback(move |_| {
                let results = (0..100).map(|_| inner.read_at(&null(), &mut [0], 0));
                let answered = results.filter(Result::is_ok).count();
                send.send((answered, count_contexts())).unwrap();
            })
            .submit()
            .unwrap();
        assert_eq!(seen.recv().unwrap(), (100, 1));
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"!").unwrap();
        let reader = Arc::new(OwnedFd::from(reader));
        for _ in 0..100 {
            let poll = aio.alloc().init_poll(Arc::clone(&reader), PollFlags::IN);
            poll.wait().unwrap().result.unwrap();
            let offload = aio.alloc().init_rw(null(), Write, [0; 3], 0);
            let done = offload.nowait_or_offload().wait().unwrap();
            assert_eq!(done.result.unwrap(), 3);
        }
        assert_eq!(count_contexts(), 1);
        drop(occupied);
    });
}

#[test]
fn a_drain_waits_for_private_contexts_too() {
    in_both_modes(|| {
        let (aio, occupied) = with_a_private_one(Aio::builder());
        let (waiter, mut waits) = wait_on_a_private_one(&aio);
        drop(occupied);
        let late = aio.drain_timeout(Duration::from_millis(20)).unwrap_err();
        assert_eq!(reason(&late), Some(AioError::TimedOut));
        let mut drained = aio.drain_async();
        assert!(poll_once(&mut drained).is_pending());
        let writer = thread::spawn(move || waits.write_all(b"!").unwrap());
        block_on(drained).unwrap();
        assert_eq!(waiter.join().unwrap().unwrap(), 1);
        writer.join().unwrap();
        aio.drain().unwrap();
        let occupied = occupy(&aio);
        let (waiter, mut waits) = wait_on_a_private_one(&aio);
        drop(occupied);
        let writer = thread::spawn(move || waits.write_all(b"!").unwrap());
        aio.drain().unwrap();
        assert_eq!(waiter.join().unwrap().unwrap(), 1);
        writer.join().unwrap();
    });
}

/// After this end no context is left, and all clones refuse.
fn ends(end: impl Fn(&Aio)) {
    let (aio, occupied) = with_a_private_one(Aio::builder());
    drop(occupied);
    end(&aio);
    until(|| count_contexts() == 0);
    let refused = aio.read_at(&null(), &mut [0], 0).unwrap_err();
    assert_eq!(reason(&refused), Some(AioError::ShutDown));
    let threads = thread::spawn(move || aio.read_at(&null(), &mut [0], 0).unwrap_err());
    let refused = threads.join().unwrap();
    assert_eq!(reason(&refused), Some(AioError::ShutDown));
    assert_eq!(count_contexts(), 0);
}

#[test]
fn every_end_is_the_end_of_private_contexts() {
    in_both_modes(|| {
        ends(|aio| aio.shutdown(LONG).unwrap());
        ends(|aio| block_on(aio.shutdown_async()).unwrap());
        ends(|aio| {
            let mut shutdown = aio.shutdown_async();
            let _ = poll_once(&mut shutdown).is_ready(); // goes on in the background
        });
        // The last drop, inside a callback too.
        drop(with_a_private_one(Aio::builder()));
        assert_eq!(count_contexts(), 0);
        let (aio, occupied) = with_a_private_one(Aio::builder());
        let last = Mutex::new(Some(aio.clone()));
        let request = aio.alloc().init_rw(null(), Read, [0; 1], 0);
        let request = request.init_callback(move |_| drop(last.lock().unwrap().take()));
        drop(occupied);
        drop(aio);
        request.submit().unwrap();
        until(|| count_contexts() == 0);
    });
}

#[test]
fn a_shutdown_past_its_time_lets_a_private_wait_go_on() {
    in_both_modes(|| {
        let (aio, occupied) = with_a_private_one(Aio::builder());
        let (waiter, mut waits) = wait_on_a_private_one(&aio);
        drop(occupied);
        let late = aio.shutdown(Duration::from_millis(20)).unwrap_err();
        assert_eq!(reason(&late), Some(AioError::TimedOut));
        waits.write_all(b"!").unwrap();
        assert_eq!(waiter.join().unwrap().unwrap(), 1);
        until(|| count_contexts() == 0);
    });
}

/// It says once how much goes on, not once for each of its contexts.
#[test]
fn a_shutdown_past_its_time_tells_of_what_is_outstanding_once() {
    let lines = warnings();
    in_both_modes(|| {
        lines.lock().unwrap().clear();
        let (aio, occupied) = with_a_private_one(Aio::builder());
        let (waiter, mut waits) = wait_on_a_private_one(&aio);
        drop(occupied);
        aio.shutdown(Duration::from_millis(20)).unwrap_err();
        let said = lines.lock().unwrap().clone();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("past its deadline: 1 request"), "{said:?}");
        waits.write_all(b"!").unwrap();
        assert_eq!(waiter.join().unwrap().unwrap(), 1);
    });
}

/// The ids of this process's contexts: the addresses of their rings.
fn contexts() -> BTreeSet<u64> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let rings = maps.lines().filter(|line| line.contains("[aio]"));
    let begin = rings.map(|line| line.split('-').next().unwrap());
    begin
        .map(|address| u64::from_str_radix(address, 16).unwrap())
        .collect()
}

/// Only where events are taken by system calls: a read of the ring, which is gone, would fault.
#[test]
fn a_shutdown_after_one_context_was_lost_ends_the_others() {
    let name = "a_shutdown_after_one_context_was_lost_ends_the_others";
    alone_with(name, &[("KIOCB_FORCE_SYSCALLS", "1")], || {
        let (aio, occupied) = with_a_private_one(Aio::builder());
        let before = contexts();
        let (waiter, mut waits) = wait_on_a_private_one(&aio);
        let lost: Vec<_> = contexts().difference(&before).copied().collect();
        assert_eq!(lost.len(), 1);
        let destroyer = thread::spawn(move || {
            // SAFETY: the kernel takes the number alone, and waits for what is in flight there.
            unsafe { sys::io_destroy(lost[0]) }.unwrap();
        });
        until(|| count_contexts() == 2);
        waits.write_all(b"!").unwrap();
        destroyer.join().unwrap();
        drop(occupied);
        let error = aio.shutdown(LONG).unwrap_err();
        assert_eq!(reason(&error), Some(AioError::ContextGone));
        until(|| count_contexts() == 0); // though `aio` lives on
        assert!(!waiter.is_finished()); // its event was lost
        drop(aio);
    });
}

#[test]
fn a_thread_whose_context_was_lost_hears_of_it_once() {
    in_both_modes(|| {
        let aio = aio();
        let occupied = occupy(&aio);
        let before = contexts();
        meet(&aio);
        let lost: Vec<_> = contexts().difference(&before).copied().collect();
        assert_eq!(lost.len(), 1);
        // SAFETY: nothing is in flight there, and the kernel takes the number alone.
        unsafe { sys::io_destroy(lost[0]) }.unwrap();
        let error = aio.read_at(&null(), &mut [0], 0).unwrap_err();
        assert_eq!(reason(&error), Some(AioError::ContextGone));
        for _ in 0..3 {
            assert_eq!(aio.read_at(&null(), &mut [0], 0).unwrap(), 0);
        }
        drop(occupied);
        let _ = aio.shutdown(LONG);
        until(|| count_contexts() == 0);
    });
}

/// Begins the end of a context wherever text about it is written.
struct EndsIt<'a>(&'a Aio);

impl fmt::Write for EndsIt<'_> {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        let _ = poll_once(&mut self.0.shutdown_async());
        Ok(())
    }
}

#[test]
fn what_a_context_is_written_to_for_debugging_may_end_it() {
    in_both_modes(|| {
        let _watchdog = watchdog();
        let (aio, occupied) = with_a_private_one(Aio::builder());
        drop(occupied);
        fmt::write(&mut EndsIt(&aio), format_args!("{aio:?}")).unwrap();
        until(|| count_contexts() == 0);
        assert!(format!("{aio:?}").contains("private"));
    });
}

#[test]
fn where_none_can_be_made_the_shared_context_serves() {
    in_both_modes(|| {
        let (aio, file) = (aio(), null());
        let occupied = occupy(&aio);
        let read = || {
            let reads = (0..100).map(|_| aio.read_at(&file, &mut [0], 0).unwrap());
            assert_eq!(reads.sum::<usize>(), 0);
        };
        let before = limit(Resource::RLIMIT_NOFILE, 0);
        read();
        limit(Resource::RLIMIT_NOFILE, before);
        read();
        assert_eq!((count_contexts(), aio.stats().depth), (1, 128));
        drop(occupied);
        // The slot was given back.
        let (reader, _writer) = io::pipe().unwrap();
        let reader = Arc::new(OwnedFd::from(reader));
        let polls = (0..128).map(|_| aio.alloc().init_poll(Arc::clone(&reader), PollFlags::IN));
        let polls: Vec<_> = polls.map(|poll| poll.start().unwrap()).collect();
        assert_eq!((aio.stats().in_flight, aio.stats().queued), (128, 0));
        polls.iter().for_each(|poll| assert!(poll.cancel()));
    });
}

#[test]
fn threads_that_write_at_once_while_the_end_comes_lose_nothing() {
    in_both_modes(|| {
        for _ in 0..20 {
            let (aio, accepted) = (aio(), Counter::default());
            let begin = Barrier::new(5);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        begin.wait();
                        write_until_refused(&aio, &null(), &accepted);
                    });
                }
                begin.wait();
                thread::yield_now();
                aio.shutdown(LONG).unwrap();
            });
            assert_eq!(count_contexts(), 0);
            assert_eq!(aio.stats().completed, accepted.get() as u64);
        }
    });
}

fn write_until_refused(aio: &Aio, file: &File, accepted: &Counter) {
    loop {
        match aio.write_at(file, &[0; 3], 0) {
            Ok(count) => {
                assert_eq!(count, 3);
                accepted.add();
            }
            Err(error) => return assert_eq!(reason(&error), Some(AioError::ShutDown)),
        }
    }
}

#[test]
fn private_contexts_are_observed_as_the_shared_one() {
    in_both_modes(|| {
        let (aio, occupied) = with_a_private_one(Aio::builder());
        let (waiter, mut waits) = wait_on_a_private_one(&aio); // before: it is not listed
        aio.observe(1);
        assert_eq!(aio.read_at(&null(), &mut [0], 0).unwrap(), 0);
        assert_eq!(aio.latencies().unwrap().kernel.count(), 1);
        let (later, mut waits_too) = wait_on_a_private_one(&aio); // made since
        let dump = aio.dump().unwrap();
        assert_eq!(dump.requests().len(), 1, "{dump}");
        assert_eq!(dump.stats().in_flight, 3);
        waits.write_all(b"!").unwrap();
        waits_too.write_all(b"!").unwrap();
        assert_eq!(
            waiter.join().unwrap().unwrap() + later.join().unwrap().unwrap(),
            2
        );
        drop(occupied);
    });
}
