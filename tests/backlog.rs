//! More requests than the kernel has slots: they queue without limit, reach the kernel in the order of their
//! thread, and complete once.
//!
//! The order is read from a file opened for appending: such a write is carried out inside `io_submit`, so
//! that the records lie in the file as the kernel got them.

mod common;

use common::*;
use kiocb::op::{Read, Write};
use kiocb::{Aio, AioBuilder, Dispatch};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

/// A file to which every write appends, and the same for reading.
fn log() -> (Arc<File>, File) {
    let dir = disk_dir();
    let path = dir.path().join("log");
    let writer = File::options().create(true).append(true).open(&path);
    (Arc::new(writer.unwrap()), File::open(&path).unwrap())
}

/// Writer and number of the requests, in the order in which the kernel got them.
fn records(file: &File) -> Vec<(u32, u32)> {
    let len = usize::try_from(file.metadata().unwrap().len()).unwrap();
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let records = bytes
        .chunks(8)
        .map(|record| (number(&record[..4]), number(&record[4..])));
    records.collect()
}

fn record(writer: u32, number: u32) -> [u8; 8] {
    let mut record = [0; 8];
    record[..4].copy_from_slice(&writer.to_le_bytes());
    record[4..].copy_from_slice(&number.to_le_bytes());
    record
}

/// Each writer's numbers must be 0, 1, 2, …
fn assert_in_order(records: &[(u32, u32)], writers: u32, each: u32) {
    let mut next = vec![0; writers as usize];
    for (writer, number) in records {
        let expected = &mut next[*writer as usize];
        assert_eq!(
            number, expected,
            "writer {writer}: {number} where {expected} was due"
        );
        *expected += 1;
    }
    assert_eq!(next, vec![each; writers as usize]);
}

fn append(
    aio: &Aio,
    log: &Arc<File>,
    writer: u32,
    number: u32,
    calls: &Arc<[AtomicU8]>,
    index: usize,
) {
    let calls = calls.clone();
    aio.alloc()
        .init_rw(log.clone(), Write, record(writer, number), 0)
        .init_callback(move |done| {
            assert_eq!(done.result.unwrap(), 8);
            calls[index].fetch_add(1, Ordering::Relaxed);
        })
        .submit()
        .unwrap();
}

/// 200 000 requests from `writers` threads; with `at_once` all are submitted before the first completes.
fn flood(builder: AioBuilder, writers: u32, at_once: bool) {
    const ALL: u32 = 200_000;
    let aio = build(builder.depth(8));
    let each = ALL / writers;
    let calls: Arc<[AtomicU8]> = (0..ALL).map(|_| AtomicU8::new(0)).collect();
    let (log, reader) = log();
    let (busy, start) = (
        at_once.then(|| keep_busy(&aio)),
        Barrier::new(writers as usize),
    );
    thread::scope(|scope| {
        for writer in 0..writers {
            let (aio, log, calls, start) = (&aio, &log, &calls, &start);
            scope.spawn(move || {
                start.wait();
                for number in 0..each {
                    let index = (writer * each + number) as usize;
                    append(aio, log, writer, number, calls, index);
                }
            });
        }
    });
    if let Some(busy) = busy {
        let stats = aio.stats();
        // The one whose callback keeps the thread busy is not at its end either.
        assert_eq!((stats.queued, stats.in_flight), (u64::from(ALL) - 8, 8 + 1));
        assert_eq!(records(&reader).len(), 8);
        busy.release();
    }
    aio.drain().unwrap();
    assert!(calls.iter().all(|calls| calls.load(Ordering::Relaxed) == 1));
    assert_in_order(&records(&reader), writers, each);
    let stats = aio.stats();
    assert_eq!(
        (stats.accepted, stats.queued, stats.in_flight),
        (stats.completed, 0, 0)
    );
    assert_eq!((stats.refused_late, stats.panics), (0, 0));
}

#[test]
fn two_hundred_thousand_requests_from_one_thread_complete_in_order() {
    let _watchdog = watchdog();
    flood(Aio::builder(), 1, true);
}

#[test]
fn two_hundred_thousand_requests_from_eight_threads_complete_in_order() {
    let _watchdog = watchdog();
    flood(Aio::builder(), 8, true);
}

#[test]
fn a_flood_that_is_reaped_meanwhile_stays_in_order() {
    let _watchdog = watchdog();
    flood(Aio::builder(), 1, false);
    flood(Aio::builder(), 8, false);
}

#[test]
fn a_flood_reaped_by_its_submitters_stays_in_order() {
    let _watchdog = watchdog();
    flood(Aio::builder().dispatch(Dispatch::Anywhere), 8, false);
}

#[test]
fn callbacks_submits_waits_and_starts_of_one_thread_keep_their_order() {
    let _watchdog = watchdog();
    for depth in [1, 2, 8] {
        let aio = build(Aio::builder().depth(depth));
        let (log, reader) = log();
        thread::scope(|scope| {
            for writer in 0..4 {
                let (aio, log) = (&aio, &log);
                scope.spawn(move || {
                    let mut random = Random(writer.into());
                    let mut started = Vec::new();
                    for number in 0..3000 {
                        let buf = record(writer, number);
                        let request = aio.alloc().init_rw(log.clone(), Write, buf, 0);
                        match random.below(8) {
                            0 => drop(request.wait().unwrap()),
                            1..4 => started.push(request.start().unwrap()),
                            _ => request.init_callback(drop).submit().unwrap(),
                        }
                        if random.below(50) == 0 {
                            started.drain(..).for_each(|pending| drop(pending.wait()));
                        }
                    }
                });
            }
        });
        aio.drain().unwrap();
        assert_in_order(&records(&reader), 4, 3000);
    }
}

/// Appends in its callback what the next number is, several at a time.
fn append_from_callbacks(aio: &Aio, log: Arc<File>, number: u32, end: u32) {
    let (inner, file) = (aio.clone(), log.clone());
    let request = aio.alloc().init_rw(log, Write, record(0, number), 0);
    let submitted = request.init_callback(move |_| {
        if number + 50 >= end {
            return;
        }
        for next in number + 1..number + 50 {
            let request = inner
                .alloc()
                .init_rw(file.clone(), Write, record(0, next), 0);
            if next % 10 == 0 {
                assert!(request.wait().unwrap().result.is_ok());
            } else {
                request.init_callback(drop).submit().unwrap();
            }
        }
        append_from_callbacks(&inner, file, number + 50, end);
    });
    submitted.submit().unwrap();
}

#[test]
fn what_callbacks_submit_keeps_its_order() {
    let _watchdog = watchdog();
    for depth in [1, 4, 128] {
        let aio = build(Aio::builder().depth(depth));
        let (log, reader) = log();
        append_from_callbacks(&aio, log, 0, 5000);
        aio.drain().unwrap();
        let records = records(&reader);
        assert_in_order(&records, 1, u32::try_from(records.len()).unwrap());
        assert_eq!(records.len(), 4951);
    }
}

#[test]
fn refused_requests_in_the_queue_leave_the_order_of_the_others() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(4));
    let (log, reader) = log();
    let unwritable = Arc::new(File::open("/dev/null").unwrap());
    let refused = Counter::default();
    let busy = keep_busy(&aio);
    let mut good = 0;
    let mut random = Random(5);
    for number in 0..3000 {
        // The first fill the slots: what is refused then is refused at once.
        if number > 10 && random.below(3) > 0 {
            let refused = refused.clone();
            aio.alloc()
                .init_rw(unwritable.clone(), Write, [1], 0)
                .init_callback(move |done| {
                    assert_eq!(done.result.unwrap_err().raw_os_error(), Some(libc::EBADF));
                    refused.add();
                })
                .submit()
                .unwrap();
        } else {
            let request = aio.alloc().init_rw(log.clone(), Write, record(0, good), 0);
            request.init_callback(drop).submit().unwrap();
            good += 1;
        }
    }
    busy.release();
    aio.drain().unwrap();
    assert_in_order(&records(&reader), 1, good);
    assert_eq!(refused.get(), 3000 - good as usize);
    assert_eq!(aio.stats().refused_late, 3000 - u64::from(good));
}

#[test]
fn a_queued_request_keeps_its_file_open() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(1));
    let occupied = occupy(&aio);
    let fates = Fates::default();
    let bytes = pattern(9, 64);
    let request = aio
        .alloc()
        .init_rw(fates.file(file_of(&bytes)), Read, [0; 64], 0);
    let pending = request.start().unwrap();
    assert_eq!((aio.stats().queued, fates.files.get()), (1, 0));
    drop(occupied);
    let done = pending.wait();
    assert_eq!(done.result.unwrap(), 64);
    assert_eq!(done.buf[..], bytes);
    assert_eq!(fates.files.get(), 0);
}

#[test]
fn others_go_on_while_a_submission_blocks() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(3));
    // One slot and one thread are stuck inside io_submit.
    let occupied = occupy(&aio);
    let called = Counter::default();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let called = called.clone();
                    let request = aio.alloc().init_rw(null(), Write, [0; 4], 0);
                    let counted = request.init_callback(move |_| {
                        called.add();
                    });
                    counted.submit().unwrap();
                    let request = aio.alloc().init_rw(null(), Write, [0; 4], 0);
                    assert_eq!(request.wait().unwrap().result.unwrap(), 4);
                }
            });
        }
    });
    called.until(400);
    // The last batch of callbacks is in flight until all of them have returned.
    until(|| aio.stats().in_flight == 1);
    drop(occupied);
    aio.drain().unwrap();
}
