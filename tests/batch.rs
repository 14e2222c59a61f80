//! Batches: many requests in one system call, each with a fate of its own.

mod common;

use common::*;
use kiocb::op::{Read, ReadV, Write, WriteV};
use kiocb::{Aio, AioError, Batch, Dispatch, Iocb, PollFlags, SubmitError, Ticket};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

fn of(dispatch: Dispatch, depth: u32) -> Aio {
    build(Aio::builder().dispatch(dispatch).depth(depth))
}

fn errno<T>(error: &SubmitError<T>) -> i32 {
    error.error().raw_os_error().expect("an errno")
}

fn unavailable(error: &io::Error) -> Option<AioError> {
    error.get_ref()?.downcast_ref().copied()
}

/// A callback that counts, on a request that the kernel takes.
fn good(batch: &mut Batch<'_>, fates: &Fates) -> Ticket<impl kiocb::op::Submit + use<>> {
    let write = Iocb::alloc().init_rw(fates.file(null()), Write, fates.buffer(vec![0; 8]), 0);
    batch.push_callback(write.init_callback(fates.callback()))
}

/// The same for one that it refuses with EBADF.
fn bad(batch: &mut Batch<'_>, fates: &Fates) -> Ticket<impl kiocb::op::Submit + use<>> {
    let read_only = File::open("/dev/null").unwrap();
    let write = Iocb::alloc().init_rw(fates.file(read_only), Write, fates.buffer(vec![7; 8]), 0);
    batch.push_callback(write.init_callback(fates.callback()))
}

#[test]
fn sixty_four_requests_are_one_system_call() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch, 64);
        let bytes = pattern(1, 64 * 512);
        let file = Arc::new(file_of(&bytes));
        let mut batch = aio.batch();
        let reads: Vec<_> = (0..64)
            .map(|page| {
                let request = Iocb::alloc().init_rw(Arc::clone(&file), Read, [0; 512], page * 512);
                batch.push(request)
            })
            .collect();
        assert_eq!((batch.len(), batch.is_empty()), (64, false));
        assert!(batch.submit().is_empty());
        assert_eq!(aio.stats().submits, 1);
        for (read, expected) in reads.into_iter().zip(bytes.chunks(512)) {
            let done = read.wait();
            assert_eq!((done.result.unwrap(), &done.buf[..]), (512, expected));
        }
        assert_eq!((aio.stats().accepted, aio.stats().completed), (64, 64));
    }
}

#[test]
fn callbacks_of_a_batch_are_each_called_once() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, fates) = (of(dispatch, 64), Fates::default());
        let mut batch = aio.batch();
        for _ in 0..50 {
            let _ = good(&mut batch, &fates); // nobody has to keep the ticket
        }
        assert!(batch.submit().is_empty());
        aio.drain().unwrap();
        assert_eq!(fates.seen(), [50; 4]);
        assert_eq!(aio.stats().submits, 1);
    }
}

#[test]
fn all_kinds_of_requests_go_together() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, file) = (of(dispatch, 16), Arc::new(file_of(b"0123456789")));
        let (reader, writer) = io::pipe().unwrap();
        let mut batch = aio.batch();
        let read = batch.push(aio.alloc().init_rw(Arc::clone(&file), Read, [0; 4], 2));
        let pieces = vec![[0; 2], [0; 2]];
        let vectored = batch.push(aio.alloc().init_rw(Arc::clone(&file), ReadV, pieces, 5));
        let sync = batch.push(aio.alloc().init_fsync(Arc::clone(&file)));
        let data = batch.push(aio.alloc().init_fdsync(Arc::clone(&file)));
        let request = aio
            .alloc()
            .init_rw(OwnedFd::from(writer), WriteV, vec!["a", "bc"], 0);
        let written = batch.push(request.write_all());
        let poll = batch.push(aio.alloc().init_poll(OwnedFd::from(reader), PollFlags::IN));
        let (send, receive) = mpsc::channel();
        let request = aio.alloc().init_rw(Arc::clone(&file), Read, [0; 1], 9);
        batch.push_callback(request.init_callback(move |done| send.send(done.buf).unwrap()));
        assert!(batch.submit().is_empty());
        assert_eq!(&read.wait().buf, b"2345");
        assert_eq!(vectored.wait().buf.concat(), b"5678");
        assert_eq!(sync.wait().result.unwrap() + data.wait().result.unwrap(), 0);
        assert_eq!(written.wait().result.unwrap(), 3);
        assert!(poll.wait().result.unwrap().contains(PollFlags::IN));
        aio.drain().unwrap();
        assert_eq!(&receive.recv().unwrap(), b"9");
        assert_eq!(aio.stats().submits, 1);
    }
}

#[test]
fn what_is_refused_comes_back_by_its_ticket_and_harms_nobody_else() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        for refused_places in [
            vec![0],
            vec![3],
            vec![7],
            vec![0, 1, 4, 7],
            (0..8).collect(),
        ] {
            let (aio, fates, strangers) = (of(dispatch, 16), Fates::default(), Fates::default());
            let mut batch = aio.batch();
            let (mut bads, mut goods) = (Vec::new(), Vec::new());
            for place in 0..8 {
                if refused_places.contains(&place) {
                    bads.push(bad(&mut batch, &fates));
                } else {
                    goods.push(good(&mut batch, &strangers));
                }
            }
            let mut refused = batch.submit();
            assert_eq!(refused.len(), bads.len());
            let reasons: Vec<_> = refused.errors().map(io::Error::raw_os_error).collect();
            assert_eq!(reasons, vec![Some(libc::EBADF); bads.len()]);
            for ticket in goods {
                assert!(refused.take(ticket).is_none(), "it was accepted");
            }
            let count = bads.len();
            for (taken, ticket) in bads.into_iter().rev().enumerate() {
                let error = refused.take(ticket).unwrap();
                assert_eq!(
                    (errno(&error), refused.len()),
                    (libc::EBADF, count - taken - 1)
                );
                assert_eq!(fates.seen(), [taken, taken, taken, 0]);
                drop(error);
            }
            aio.drain().unwrap();
            assert_eq!(strangers.seen(), [8 - count; 4]);
            assert_eq!(fates.seen(), [count, count, count, 0]);
        }
    }
}

#[test]
fn a_refused_request_is_whole_and_can_be_submitted_again() {
    let _watchdog = watchdog();
    let aio = aio();
    let mut batch = aio.batch();
    let calls = Counter::default();
    let counted = calls.clone();
    let read_only = File::open("/dev/null").unwrap();
    let write = aio.alloc().init_rw(read_only, Write, vec![1, 2, 3], 0);
    let ticket = batch.push_callback(write.init_callback(move |_| {
        counted.add();
    }));
    let error = batch.submit().take(ticket).unwrap();
    let (request, callback) = error.into_request().into_parts();
    let (_file, buf) = request.into_parts();
    assert_eq!((&buf[..], calls.get()), (&[1, 2, 3][..], 0));
    let again = aio.alloc().init_rw(null(), Write, buf, 0);
    let again = again.init_callback(move |done: kiocb::Completion<Arc<File>, Vec<u8>>| {
        assert_eq!(done.result.unwrap(), 3);
        drop(callback);
    });
    again.submit().unwrap();
    aio.drain().unwrap();
    assert_eq!((calls.get(), aio.stats().panics), (0, 0));
}

#[test]
fn what_is_refused_and_not_asked_for_is_dropped_with_the_refusals() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, fates) = (of(dispatch, 16), Fates::default());
        let mut batch = aio.batch();
        let _tickets = [(); 3].map(|()| bad(&mut batch, &fates));
        let refused = batch.submit();
        assert_eq!(fates.seen(), [0; 4]);
        drop(refused);
        assert_eq!(fates.seen(), [3, 3, 3, 0]);
        assert_eq!((aio.stats().accepted, aio.stats().completed), (0, 0));
    }
}

#[test]
fn a_refused_handle_says_so_as_its_result() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch, 16);
        let mut batch = aio.batch();
        let read_only = File::open("/dev/null").unwrap();
        let refused = batch.push(aio.alloc().init_rw(read_only, Write, vec![7; 8], 0));
        let other = batch.push(aio.alloc().init_rw(null(), Write, vec![7; 8], 0));
        let impossible = batch.push(aio.alloc().init_poll(scratch(), PollFlags::PRI));
        assert!(!refused.is_complete());
        assert!(batch.submit().is_empty(), "a handle keeps its own bad news");
        assert!(refused.is_complete());
        let done = refused.wait();
        assert_eq!(done.result.unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(done.buf, [7; 8]);
        let error = impossible.wait().result.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert_eq!(other.wait().result.unwrap(), 8);
        let stats = aio.stats();
        assert_eq!((stats.accepted, stats.completed), (stats.completed, 1));
    }
}

#[test]
fn an_unsubmitted_batch_is_dropped_whole_and_its_handles_say_so() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, fates) = (of(dispatch, 16), Fates::default());
        let mut batch = aio.batch();
        let _ticket = good(&mut batch, &fates);
        let write = || {
            let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 8]));
            aio.alloc().init_rw(file, Write, buf, 0)
        };
        let kept = batch.push(write());
        drop(batch.push(write()));
        assert_eq!(fates.seen(), [0; 4]);
        drop(batch);
        assert_eq!(fates.seen(), [2, 2, 1, 0]);
        let done = kept.wait();
        let error = done.result.as_ref().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
        drop(done);
        assert_eq!(fates.seen(), [3, 3, 1, 0]);
        assert_eq!((aio.stats().accepted, aio.stats().submits), (0, 0));
    }
}

#[test]
fn a_forgotten_batch_leaks_and_harms_nobody() {
    let _watchdog = watchdog();
    let (aio, fates) = (aio(), Fates::default());
    let mut batch = aio.batch();
    let _ticket = good(&mut batch, &fates);
    let handle = batch.push(aio.alloc().init_rw(null(), Write, [0; 8], 0));
    std::mem::forget(batch);
    assert!(handle.wait_timeout(Duration::from_millis(2)).is_err());
    assert_eq!(fates.seen(), [0; 4]);
    aio.drain().unwrap();
}

#[test]
fn handles_dropped_before_the_batch_is_submitted_are_done_all_the_same() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, fates) = (of(dispatch, 16), Fates::default());
        let file = Arc::new(scratch());
        let mut batch = aio.batch();
        for place in 0..8 {
            let buf = fates.buffer(vec![b'x'; 1]);
            drop(batch.push(aio.alloc().init_rw(Arc::clone(&file), Write, buf, place)));
        }
        assert!(batch.submit().is_empty());
        aio.drain().unwrap();
        assert_eq!(fates.buffers.get(), 8);
        assert_eq!(file.metadata().unwrap().len(), 8);
    }
}

#[test]
fn more_than_there_are_slots_goes_through_in_order() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch, 4);
        let (reader, writer) = io::pipe().unwrap();
        let writer = Arc::new(OwnedFd::from(writer));
        let numbers: Vec<u16> = (0..1000).collect();
        let mut batch = aio.batch();
        let mut writes = Vec::new();
        for number in &numbers {
            let buf = number.to_ne_bytes();
            writes.push(batch.push(aio.alloc().init_rw(Arc::clone(&writer), Write, buf, 0)));
        }
        assert!(batch.submit().is_empty());
        for write in writes {
            assert_eq!(write.wait().result.unwrap(), 2);
        }
        let read = aio
            .alloc()
            .init_rw(OwnedFd::from(reader), Read, vec![0; 2000], 0);
        let bytes = read.read_exact().wait().unwrap().buf;
        let arrived: Vec<u16> = bytes
            .chunks(2)
            .map(|b| u16::from_ne_bytes([b[0], b[1]]))
            .collect();
        assert_eq!(arrived, numbers);
    }
}

/// What queues is refused late: as its result, whether it has a callback or a handle.
#[test]
fn what_queues_and_is_then_refused_has_the_refusal_as_its_result() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch, 1);
        let occupied = occupy(&aio);
        let mut batch = aio.batch();
        let read_only = || File::open("/dev/null").unwrap();
        let (send, receive) = mpsc::channel();
        let request = aio.alloc().init_rw(read_only(), Write, [0; 8], 0);
        let ticket =
            batch.push_callback(request.init_callback(move |done| send.send(done.result).unwrap()));
        let handle = batch.push(aio.alloc().init_rw(read_only(), Write, [0; 8], 0));
        let mut refused = batch.submit();
        assert!(refused.is_empty() && refused.take(ticket).is_none());
        drop(occupied);
        let result = handle.wait().result;
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
        aio.drain().unwrap();
        let result = receive.recv().unwrap();
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(aio.stats().refused_late, 2);
    }
}

#[test]
fn an_empty_batch_is_nothing() {
    let _watchdog = watchdog();
    let aio = aio();
    let batch = aio.batch();
    assert!(batch.is_empty() && batch.submit().is_empty());
    drop(aio.batch());
    assert_eq!((aio.stats().submits, aio.stats().accepted), (0, 0));
}

/// Both ways: a batch of the callback's own context, and one of another.
#[test]
fn a_callback_may_submit_a_batch_and_wait_for_it() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, other) = (of(dispatch, 8), of(Dispatch::Thread, 8));
        let done = Counter::default();
        for target in [aio.clone(), other] {
            let counted = done.clone();
            let first = aio.alloc().init_rw(null(), Read, [0; 1], 0);
            first
                .init_callback(move |_| {
                    let mut batch = target.batch();
                    let writes: Vec<_> = (0..4)
                        .map(|_| batch.push(target.alloc().init_rw(null(), Write, [0; 8], 0)))
                        .collect();
                    assert!(batch.submit().is_empty());
                    for write in writes {
                        assert_eq!(write.wait().result.unwrap(), 8);
                        counted.add();
                    }
                })
                .submit()
                .unwrap();
            aio.drain().unwrap();
        }
        assert_eq!((done.get(), aio.stats().panics), (8, 0));
    }
}

/// The batch comes after what the callback has submitted before it.
#[test]
fn a_batch_in_a_callback_does_not_overtake() {
    let _watchdog = watchdog();
    let aio = aio();
    let (reader, writer) = io::pipe().unwrap();
    let writer = Arc::new(OwnedFd::from(writer));
    let inner = aio.clone();
    let first = aio.alloc().init_rw(null(), Read, [0; 1], 0);
    first
        .init_callback(move |_| {
            let write = |byte: u8| inner.alloc().init_rw(Arc::clone(&writer), Write, [byte], 0);
            write(b'1').init_callback(drop).submit().unwrap();
            let mut batch = inner.batch();
            let _ = batch.push_callback(write(b'2').init_callback(drop));
            drop(batch.push(write(b'3')));
            assert!(batch.submit().is_empty());
            write(b'4').init_callback(drop).submit().unwrap();
        })
        .submit()
        .unwrap();
    let read = aio
        .alloc()
        .init_rw(OwnedFd::from(reader), Read, [0; 4], 0)
        .read_exact();
    assert_eq!(&read.wait().unwrap().buf, b"1234");
}

#[test]
fn after_shutdown_all_is_refused() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, fates) = (of(dispatch, 8), Fates::default());
        let mut batch = aio.batch();
        let tickets = [(); 3].map(|()| good(&mut batch, &fates));
        let handle = batch.push(aio.alloc().init_rw(null(), Write, [0; 8], 0));
        aio.shutdown(Duration::from_secs(60)).unwrap();
        let mut refused = batch.submit();
        assert_eq!(refused.len(), 3);
        for ticket in tickets {
            let error = refused.take(ticket).unwrap();
            assert_eq!(unavailable(error.error()), Some(AioError::ShutDown));
        }
        let error = handle.wait().result.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
        assert_eq!(fates.seen(), [3, 3, 3, 0]);
        let late = aio.batch().submit();
        assert!(late.is_empty());
    }
}

#[test]
fn the_ticket_of_another_batch_never_matches() {
    let _watchdog = watchdog();
    let (aio, fates) = (aio(), Fates::default());
    for _ in 0..100 {
        // The second's cells are where the first's were.
        let mut first = aio.batch();
        let old = bad(&mut first, &fates);
        drop(first.submit());
        let mut second = aio.batch();
        let new = bad(&mut second, &fates);
        let mut refused = second.submit();
        assert!(refused.take(old).is_none());
        assert_eq!(refused.len(), 1);
        assert!(refused.take(new).is_some());
    }
    assert_eq!(fates.seen(), [200, 200, 200, 0]);
}

#[test]
fn batches_of_several_threads_are_all_done() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
        let (aio, fates, refusals) = (of(dispatch, 16), Fates::default(), Fates::default());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..100 {
                        let mut batch = aio.batch();
                        for place in 0..round % 40 {
                            let _ = good(&mut batch, &fates);
                            if place % 8 == 3 {
                                let _ = bad(&mut batch, &refusals);
                            }
                        }
                        let write = aio.alloc().init_rw(null(), Write, [0; 8], 0);
                        let handle = batch.push(write);
                        drop(batch.submit());
                        assert_eq!(handle.wait().result.unwrap(), 8);
                    }
                });
            }
        });
        aio.drain().unwrap();
        let per_thread: usize = (0..100).map(|round| round % 40).sum();
        assert_eq!(fates.seen(), [4 * per_thread; 4]);
        // Refused at once, and never called; or refused late, and called.
        let [files, buffers, closures, calls] = refusals.seen();
        assert!(files == buffers && files == closures);
        assert_eq!(calls as u64, aio.stats().refused_late);
    }
}

#[test]
fn a_batch_may_be_filled_by_one_thread_and_submitted_by_another() {
    let _watchdog = watchdog();
    let (aio, fates) = (aio(), Fates::default());
    let batch = Mutex::new(Some(aio.batch()));
    let ticket = bad(batch.lock().unwrap().as_mut().unwrap(), &fates);
    thread::scope(|scope| {
        scope.spawn(|| {
            let batch = batch.lock().unwrap().take().unwrap();
            assert!(batch.submit().take(ticket).is_some());
        });
    });
    assert_eq!(fates.seen(), [1, 1, 1, 0]);
}

/// Submits `before` good requests, a bad one and `behind` good ones, alternately with a callback and with a
/// handle, and stops at the first refusal. Returns how many callbacks were called, where the errors are, and
/// how many handles say that their request was not submitted.
fn stop_at_a_bad_one(aio: &Aio, before: usize, behind: usize) -> (usize, Vec<usize>, usize) {
    let read_only = Arc::new(File::open("/dev/null").unwrap());
    let (calls, mut batch, mut handles) = (Counter::default(), aio.batch(), Vec::new());
    for at in 0..=before + behind {
        let file = if at == before { &read_only } else { &null() };
        let write = aio.alloc().init_rw(Arc::clone(file), Write, [0; 4], 0);
        if at % 2 == before % 2 {
            let count = calls.clone();
            let _ticket = batch.push_callback(write.init_callback(move |_| _ = count.add()));
        } else {
            handles.push(batch.push(write));
        }
    }
    let errors = batch.submit_until_refused();
    let (places, reasons): (Vec<_>, Vec<_>) = errors.positions().unzip();
    assert_eq!(reasons[0].raw_os_error(), Some(libc::EBADF));
    let behind = &reasons[1..];
    assert!(
        behind
            .iter()
            .all(|error| reason(error) == Some(AioError::NotSubmitted))
    );
    aio.drain().unwrap();
    let results = handles.into_iter().map(|handle| handle.wait().result);
    let stopped = results.filter(|result| match result {
        Ok(count) => *count != 4,
        Err(error) => reason(error) == Some(AioError::NotSubmitted),
    });
    let stopped = stopped.count();
    (calls.get(), places, stopped)
}

#[test]
fn a_batch_may_stop_at_the_first_refusal_as_io_submit_does() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let aio = build(Aio::builder().dispatch(dispatch).depth(2000));
        assert_eq!(stop_at_a_bad_one(&aio, 0, 0), (0, vec![0], 0));
        assert_eq!(stop_at_a_bad_one(&aio, 2, 3), (1, vec![2, 4], 2));
        assert_eq!(stop_at_a_bad_one(&aio, 4, 80).0, 2);
        // Behind it more than one call of io_submit takes.
        let (calls, places, stopped) = stop_at_a_bad_one(&aio, 2, 1500);
        assert_eq!((calls, places.len(), stopped), (1, 751, 750));
    }
}

#[test]
fn a_batch_that_stops_also_stops_what_found_no_slot() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(4));
    let (calls, places, stopped) = stop_at_a_bad_one(&aio, 2, 20);
    assert_eq!((calls, places.len(), stopped), (1, 11, 10));
    assert_eq!(aio.stats().in_flight + aio.stats().queued, 0);
}

#[test]
fn a_batch_stops_at_what_is_refused_before_the_kernel_sees_it() {
    let _watchdog = watchdog();
    let aio = aio();
    let mut batch = aio.batch();
    let write = || aio.alloc().init_rw(null(), Write, [0; 4], 0);
    let first = batch.push(write());
    let no_eventfd = Arc::new(OwnedFd::from(new_null()));
    let bad = batch.push(write().write_all().eventfd(no_eventfd));
    let last = batch.push(write());
    assert!(batch.submit_until_refused().is_empty());
    assert_eq!(first.wait().result.unwrap(), 4);
    let bad = bad.wait().result.unwrap_err();
    assert_eq!(bad.raw_os_error(), Some(libc::EINVAL));
    let last = last.wait().result.unwrap_err();
    assert_eq!(reason(&last), Some(AioError::NotSubmitted));
}

#[test]
fn a_batch_for_memory_is_due_when_thirty_two_are_together() {
    let aio = of(Dispatch::Manual, 128);
    let (reader, mut writer) = io::pipe().unwrap();
    let reader = Arc::new(OwnedFd::from(reader));
    // What waits for readiness says nothing about files.
    let mut waits = Vec::new();
    for _ in 0..16 {
        let mut batch = aio.batch();
        waits.push(batch.push(aio.alloc().init_poll(Arc::clone(&reader), PollFlags::IN)));
        assert!(batch.submit().is_empty());
    }
    let (file, mut batch) = (null(), aio.batch());
    assert!(!batch.is_due());
    let mut reads = Vec::new();
    for count in 1..=33 {
        reads.push(batch.push(aio.alloc().init_rw(Arc::clone(&file), Read, vec![0; 8], 0)));
        assert_eq!(batch.is_due(), count >= 32, "{count}");
    }
    assert!(batch.submit().is_empty());
    io::Write::write_all(&mut writer, b"!").unwrap();
    assert!(reads.into_iter().all(|read| read.wait().result.is_ok()));
    assert!(waits.into_iter().all(|wait| wait.wait().result.is_ok()));
}
