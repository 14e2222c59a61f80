//! A panic of user code that the engine calls is caught, counted and logged, and loses nothing. One inside
//! the caller's own call reaches the caller, and the memory that it had passed in is dropped.

use crate::common::modes::in_both_modes;
use crate::common::*;
use crate::hostile::*;
use crate::logger;
use kiocb::op::Read;
use kiocb::{Aio, Dispatch, SyncGroup, SyncKind};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::Waker;
use std::thread;

const BLOCKED: &str = "io_submit blocked";

#[test]
fn a_logger_that_panics_frees_no_memory_of_a_scope() {
    in_both_modes(|| {
        logger::on(BLOCKED, || burst());
        let aio = build(Aio::builder().depth(1));
        let (slow, file) = (slow_pipe(b"!"), file_of(&pattern(1, 4096)));
        let (mut byte, mut page) = ([0], vec![0; 4096]);
        aio.scope(|s| {
            let byte = s.read_at(&slow, &mut byte, 0);
            let page = s.read_at(&file, &mut page, 0); // queued behind
            s.submit();
            assert_eq!((byte.wait().unwrap(), page.wait().unwrap()), (1, 4096));
        });
        assert_eq!((byte, page), ([b'!'], pattern(1, 4096)));
    });
}

#[test]
fn a_logger_that_panics_does_not_disturb_a_read() {
    in_both_modes(|| {
        logger::on(BLOCKED, || burst());
        let aio = aio();
        let mut byte = [0];
        assert_eq!(aio.read_at(&slow_pipe(b"!"), &mut byte, 0).unwrap(), 1);
        assert_eq!(byte, [b'!']);
        let done = aio
            .alloc()
            .init_rw(null(), Read, vec![0; 4], 0)
            .wait()
            .unwrap();
        assert_eq!(done.result.unwrap(), 0);
        aio.drain().unwrap();
    });
}

#[test]
fn a_logger_that_panics_leaves_the_completion_thread_alive() {
    in_both_modes(|| {
        logger::on(BLOCKED, || burst());
        let (aio, calls) = (aio(), Counter::default());
        let (inner, count) = (aio.clone(), calls.clone());
        let request = nothing(&aio).init_callback(move |_| {
            for bytes in [&b"!"[..], b"?"] {
                let slow = inner.alloc().init_rw(slow_pipe(bytes), Read, [0; 1], 0);
                let count = count.clone();
                let counted = slow.init_callback(move |done| {
                    assert_eq!(done.result.unwrap(), 1);
                    count.add();
                });
                counted.submit().unwrap();
            }
        });
        request.submit().unwrap();
        calls.until(2);
        aio.drain().unwrap();
    });
}

#[test]
fn a_logger_that_panics_leaves_the_helper_thread_alive() {
    in_both_modes(|| {
        logger::on(BLOCKED, || burst());
        let (aio, calls) = (aio(), Counter::default());
        for _ in 0..4 {
            let read = aio.alloc().init_rw(slow_pipe(b"!"), Read, [0; 1], 0);
            let calls = calls.clone();
            let read = read.nowait_or_offload().init_callback(move |done| {
                assert_eq!(done.result.unwrap(), 1);
                calls.add();
            });
            read.submit().unwrap();
        }
        calls.until(4);
        aio.drain().unwrap();
    });
}

#[test]
fn a_waker_whose_drop_panics_leaves_nobody_asleep() {
    in_both_modes(|| {
        let aio = build(Aio::builder().dispatch(Dispatch::Manual));
        let [leading, evil, following] = [(), (), ()].map(|()| readable(&aio));
        let leader = named("leader", move || leading.pending.wait().result.unwrap());
        until_leading("leader");
        let mut pending = evil.pending;
        leave(&mut pending, &waker_with_drop(Arc::new(|| burst())));
        let evil_wait = named("evil", move || {
            drop(catch_unwind(AssertUnwindSafe(|| pending.wait())));
        });
        until(|| evil_wait.is_finished() || is_in("evil", &[libc::SYS_futex]));
        let follower = named("follower", move || following.pending.wait().result.unwrap());
        until_parked("follower");
        // The leader goes; the next one must not be somebody who has long given up.
        poke(&leading.writer);
        leader.join().unwrap();
        poke(&following.writer);
        follower.join().unwrap();
        poke(&evil.writer);
        evil_wait.join().unwrap();
    });
}

#[test]
fn a_handle_is_dropped_although_its_waker_panics() {
    in_both_modes(|| {
        let aio = build(Aio::builder().depth(1));
        let (occupied, fates) = (occupy(&aio), Fates::default());
        for _ in 0..3 {
            let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
            let mut pending = aio.alloc().init_rw(file, Read, buf, 0).start().unwrap();
            leave(&mut pending, &waker_with_drop(Arc::new(|| burst())));
            drop(pending);
        }
        drop(occupied);
        aio.drain().unwrap();
        assert_eq!(fates.seen(), [3, 3, 0, 0]);
    });
}

#[test]
fn a_payload_whose_destructor_panics_loses_no_barrier() {
    in_both_modes(|| {
        let (aio, calls) = (aio(), Counter::default());
        let log = SyncGroup::new(&aio, scratch());
        let write = log.track(); // all barriers wait for it, and share one sync
        for number in 0..4 {
            let calls = calls.clone();
            let barrier = log.barrier(SyncKind::Data, move |result| {
                result.unwrap();
                calls.add();
                if number < 3 {
                    burst_twice();
                }
            });
            barrier.unwrap();
        }
        write.end(&Ok(()));
        aio.drain().unwrap();
        assert_eq!(calls.get(), 4);
        let (send, results) = channel();
        log.barrier(SyncKind::Data, move |result| send.send(result).unwrap())
            .unwrap();
        aio.drain().unwrap();
        results.recv().unwrap().unwrap();
    });
}

#[test]
fn a_payload_whose_destructor_panics_costs_a_count_only() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
            let aio = build(Aio::builder().depth(1).dispatch(dispatch));
            let occupied = occupy(&aio);
            let mut pending = nothing(&aio).start().unwrap();
            leave(&mut pending, &waker(Arc::new(|| burst_twice())));
            let buf = DeedBuf::new(At::Dropped, Arc::new(|| burst_twice()));
            drop(aio.alloc().init_rw(null(), Read, buf, 0).start().unwrap());
            nothing(&aio)
                .init_callback(|_| burst_twice())
                .submit()
                .unwrap();
            drop(occupied);
            aio.drain().unwrap();
            assert_eq!(aio.stats().panics, 3);
            assert_eq!(pending.wait().result.unwrap(), 0);
        }
    });
}

/// A file that counts its drop and panics when it is asked for its descriptor.
struct NastyFile(#[allow(dead_code, reason = "counts")] TokenFile);

impl AsFd for NastyFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        burst()
    }
}

/// Calls `submit`, which must panic, and must not leak.
#[track_caller]
fn assert_panics(what: &str, fates: &Fates, dropped: [usize; 4], submit: impl FnOnce()) {
    let outcome = catch_unwind(AssertUnwindSafe(submit));
    outcome.expect_err(what);
    assert_eq!(fates.seen(), dropped, "{what}");
}

#[test]
fn a_file_that_panics_in_submit_leaks_nothing() {
    in_both_modes(|| {
        let aio = build(Aio::builder().depth(2));
        let request = |fates: &Fates| {
            let file = NastyFile(fates.file(null()));
            aio.alloc().init_rw(file, Read, fates.buffer(vec![0; 4]), 0)
        };
        let fates = Fates::default();
        assert_panics("wait", &fates, [1, 1, 0, 0], || {
            drop(request(&fates).wait())
        });
        assert_panics("start", &fates, [2, 2, 0, 0], || {
            drop(request(&fates).start())
        });
        assert_panics("submit", &fates, [3, 3, 1, 0], || {
            drop(request(&fates).init_callback(fates.callback()).submit());
        });
        let mut batch = aio.batch();
        assert_panics("push", &fates, [4, 4, 2, 0], || {
            let _ = batch.push_callback(request(&fates).init_callback(fates.callback()));
        });
        assert_panics("batch.start", &fates, [5, 5, 2, 0], || {
            drop(batch.push(request(&fates)));
        });
        let good = batch.push(nothing(&aio));
        assert!(batch.submit().is_empty());
        assert_eq!(good.wait().result.unwrap(), 0);
        aio.drain().unwrap();
        assert_eq!(aio.stats().accepted, 1);
    });
}

#[test]
fn a_large_request_whose_file_panics_is_not_leaked_either() {
    in_both_modes(|| {
        let (aio, fates) = (aio(), Fates::default());
        let (file, large) = (NastyFile(fates.file(null())), [7_u8; 4096]);
        let callback = fates.callback();
        let request = aio.alloc().init_rw(file, Read, fates.buffer(vec![0; 4]), 0);
        let request = request.init_callback(move |done| {
            assert_eq!(large[0], 7);
            callback(done);
        });
        assert_panics("submit", &fates, [1, 1, 1, 0], || drop(request.submit()));
    });
}

#[test]
fn a_file_that_panics_in_a_borrowing_call_ends_that_call_only() {
    in_both_modes(|| {
        let (aio, fates) = (aio(), Fates::default());
        let file = file_of(&pattern(2, 64));
        let (mut first, mut second) = ([0; 64], [0; 64]);
        let nasty = NastyFile(fates.file(null()));
        let read = catch_unwind(AssertUnwindSafe(|| {
            aio.read_at(&nasty, &mut [0; 4], 0).is_ok()
        }));
        read.unwrap_err();
        let scope = catch_unwind(AssertUnwindSafe(|| {
            aio.scope(|s| {
                drop(s.read_at(&file, &mut first, 0));
                drop(s.read_at(&nasty, &mut second, 0));
            });
        }));
        scope.unwrap_err();
        assert_eq!(first[..], pattern(2, 64)[..]); // the scope has waited all the same
        aio.drain().unwrap();
    });
}

#[test]
fn a_buffer_that_panics_in_submit_leaks_nothing() {
    in_both_modes(|| {
        let aio = aio();
        let request = |fates: &Fates| {
            let (file, token) = (fates.file(null()), fates.token());
            let buf = DeedBuf::new(
                At::Address,
                once(move || {
                    let _counted = token;
                    burst();
                }),
            );
            aio.alloc().init_rw(file, Read, buf, 0)
        };
        let fates = Fates::default();
        assert_panics("wait", &fates, [1, 0, 1, 0], || {
            drop(request(&fates).wait())
        });
        assert_panics("start", &fates, [2, 0, 2, 0], || {
            drop(request(&fates).start())
        });
        assert_panics("submit", &fates, [3, 0, 4, 0], || {
            drop(request(&fates).init_callback(fates.callback()).submit());
        });
        let mut batch = aio.batch();
        assert_panics("push", &fates, [4, 0, 6, 0], || {
            let _ = batch.push_callback(request(&fates).init_callback(fates.callback()));
        });
        drop(batch);
        aio.drain().unwrap();
    });
}

#[test]
fn a_buffer_that_panics_when_it_was_filled_is_counted() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
            let (aio, fates) = (build(Aio::builder().dispatch(dispatch)), Fates::default());
            let buf = DeedBuf::new(At::Filled, Arc::new(|| burst()));
            let request = aio.alloc().init_rw(fates.file(null()), Read, buf, 0);
            request.init_callback(fates.callback()).submit().unwrap();
            aio.drain().unwrap();
            assert_eq!((aio.stats().panics, fates.seen()), (1, [1, 0, 1, 0]));
        }
    });
}

#[test]
fn a_waker_that_panics_everywhere_loses_no_result() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
            let aio = build(Aio::builder().dispatch(dispatch));
            let (done, results) = channel();
            let Readable {
                mut pending,
                writer,
            } = readable(&aio);
            let evil = waker_with_clone(Arc::new(|| burst()));
            let polled = catch_unwind(AssertUnwindSafe(|| leave(&mut pending, &evil)));
            drop(polled); // the caller's own call: it may hear of it
            leave(&mut pending, &waker_with_drop(Arc::new(|| burst())));
            let polled = catch_unwind(AssertUnwindSafe(|| leave(&mut pending, Waker::noop())));
            drop(polled);
            leave(&mut pending, &waker(Arc::new(|| burst())));
            poke(&writer);
            aio.drain().unwrap();
            thread::spawn(move || done.send(pending.wait().result.unwrap()));
            results.recv().unwrap();
        }
    });
}

#[test]
fn a_writer_of_debug_output_that_panics_locks_nothing() {
    struct Nasty;
    impl std::fmt::Write for Nasty {
        fn write_str(&mut self, _: &str) -> std::fmt::Result {
            burst()
        }
    }
    in_both_modes(|| {
        use std::fmt::Write;
        let aio = aio();
        let log = SyncGroup::new(&aio, scratch());
        catch_unwind(AssertUnwindSafe(|| write!(Nasty, "{aio:?}"))).unwrap_err();
        catch_unwind(AssertUnwindSafe(|| write!(Nasty, "{log:?}"))).unwrap_err();
        log.barrier(SyncKind::All, |result| result.unwrap())
            .unwrap();
        aio.drain().unwrap();
    });
}

#[test]
fn a_barrier_is_called_though_the_file_panics_at_its_sync() {
    in_both_modes(|| {
        let (aio, asked) = (aio(), Counter::default());
        let count = asked.clone();
        let nasty: Deed = Arc::new(move || {
            if count.add() == 1 {
                burst();
            }
        });
        let log = SyncGroup::new(&aio, DeedFile(Arc::new(scratch()), nasty));
        let write = log.track();
        let calls = Counter::default();
        for _ in 0..3 {
            let calls = calls.clone();
            let counted = move |_: io::Result<()>| {
                calls.add();
            };
            log.barrier(SyncKind::Data, counted).unwrap();
        }
        drop(catch_unwind(AssertUnwindSafe(|| write.end(&Ok(())))));
        aio.drain().unwrap();
        assert_eq!(calls.get(), 3);
        let _ = log.take_error();
        let last = calls.clone();
        let barrier = log.barrier(SyncKind::Data, move |_| {
            last.add();
        });
        barrier.unwrap();
        calls.until(4);
    });
}

#[test]
fn a_helper_that_reads_a_pipe_in_two_parts_survives_a_logger() {
    in_both_modes(|| {
        logger::on(BLOCKED, || burst());
        let aio = aio();
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"1").unwrap();
        let read = aio.alloc().init_rw(OwnedFd::from(reader), Read, [0; 2], 0);
        let feeder = thread::spawn(move || {
            // Longer than the crate calls usual.
            thread::sleep(std::time::Duration::from_millis(250));
            writer.write_all(b"2").unwrap();
        });
        let done = read.read_exact().wait().unwrap();
        assert_eq!((done.result.unwrap(), &done.buf), (2, b"12"));
        feeder.join().unwrap();
    });
}

#[test]
fn a_panic_of_a_logger_is_counted() {
    in_both_modes(|| {
        logger::on(BLOCKED, || burst());
        let aio = aio();
        assert_eq!(aio.read_at(&slow_pipe(b"!"), &mut [0], 0).unwrap(), 1);
        assert_eq!(aio.stats().panics, 1);
    });
}

#[test]
fn a_panic_of_a_wakers_destructor_is_counted() {
    in_both_modes(|| {
        let aio = aio();
        let Readable {
            mut pending,
            writer,
        } = readable(&aio);
        leave(&mut pending, &waker_with_drop(Arc::new(|| burst())));
        leave(&mut pending, Waker::noop());
        poke(&writer);
        pending.wait().result.unwrap();
        assert_eq!(aio.stats().panics, 1);
    });
}
