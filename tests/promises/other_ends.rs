//! Each way in which a scope, a batch, a handle, a sync group and a pool can end, with something under way.

use crate::common::modes::in_both_modes;
use crate::common::*;
use crate::hostile::*;
use kiocb::buf::IoBufMut;
use kiocb::op::{Read, Write};
use kiocb::{Aio, BufPool, Dispatch, SyncGroup, SyncKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

fn contexts(depth: u32) -> impl Iterator<Item = Aio> {
    KINDS
        .into_iter()
        .map(move |dispatch| build(Aio::builder().depth(depth).dispatch(dispatch)))
}

/// How a scope's closure treats its requests.
#[derive(Clone, Copy, Debug)]
enum Treat {
    Waits,
    DropsHandles,
    ForgetsHandles,
    SubmitsOnly,
    Panics,
    PanicsAfterSubmit,
    PanicsTwice,
}

#[test]
fn a_scope_has_filled_its_memory_however_it_ends() {
    const TREATS: [Treat; 7] = [
        Treat::Waits,
        Treat::DropsHandles,
        Treat::ForgetsHandles,
        Treat::SubmitsOnly,
        Treat::Panics,
        Treat::PanicsAfterSubmit,
        Treat::PanicsTwice,
    ];
    in_both_modes(|| {
        let content = pattern(3, 64 * 100);
        let file = file_of(&content);
        for (aio, treat) in TREATS
            .into_iter()
            .flat_map(|treat| contexts(4).map(move |aio| (aio, treat)))
        {
            let mut memory = vec![0; content.len()];
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                aio.scope(|s| {
                    let pieces = memory.chunks_mut(64).zip((0..).step_by(64));
                    let reads = pieces.map(|(piece, offset)| s.read_at(&file, piece, offset));
                    let reads: Vec<_> = reads.collect();
                    match treat {
                        Treat::Waits => reads
                            .into_iter()
                            .for_each(|read| assert_eq!(read.wait().unwrap(), 64)),
                        Treat::DropsHandles => drop(reads),
                        Treat::ForgetsHandles => std::mem::forget(reads),
                        Treat::SubmitsOnly => s.submit(),
                        Treat::Panics => burst(),
                        Treat::PanicsTwice => burst_twice(),
                        Treat::PanicsAfterSubmit => {
                            s.submit();
                            burst()
                        }
                    }
                });
            }));
            if let Err(panic) = outcome {
                std::mem::forget(panic); // it may panic when it is dropped
            }
            assert!(memory == content, "{treat:?}");
            assert_eq!((aio.stats().in_flight, aio.stats().queued), (0, 0));
            aio.drain().unwrap();
        }
    });
}

#[test]
fn a_scope_on_a_context_that_was_shut_down_answers_all() {
    in_both_modes(|| {
        for aio in contexts(4) {
            aio.shutdown(Duration::from_secs(3600)).unwrap();
            let (file, mut memory) = (null(), [0; 8]);
            aio.scope(|s| {
                for piece in memory.chunks_mut(1) {
                    let read = s.read_at(&file, piece, 0);
                    drop(read);
                }
                s.submit();
            });
            aio.read_at(&file, &mut memory, 0).unwrap_err();
        }
    });
}

#[test]
fn a_scope_is_left_when_its_context_was_shut_down_meanwhile() {
    in_both_modes(|| {
        for aio in contexts(4) {
            let (reader, writer) = std::io::pipe().unwrap();
            let scope = aio.clone();
            let thread = named("in-flight", move || {
                let mut byte = [0];
                scope.scope(|s| s.read_at(&reader, &mut byte, 0).wait().unwrap())
            });
            until_submitting("in-flight");
            assert_too_late(aio.shutdown(Duration::from_millis(10)));
            poke(&writer);
            assert_eq!(thread.join().unwrap(), 1);
            drop(aio);
            until(|| count_contexts() == 0);
        }
    });
}

#[test]
fn a_batch_ends_by_submit_drop_or_panic_and_loses_nothing() {
    in_both_modes(|| {
        for aio in contexts(2) {
            let fates = Fates::default();
            let fill = |count: usize| {
                let mut batch = aio.batch();
                let mut handles = Vec::new();
                for _ in 0..count {
                    let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
                    let write = aio.alloc().init_rw(file, Write, buf, 0);
                    let _ = batch.push_callback(write.init_callback(fates.callback()));
                    handles.push(batch.push(nothing(&aio)));
                }
                (batch, handles)
            };
            let (batch, handles) = fill(50);
            assert!(batch.submit().is_empty());
            handles
                .into_iter()
                .for_each(|handle| assert_eq!(handle.wait().result.unwrap(), 0));
            aio.drain().unwrap();
            assert_eq!(fates.seen(), [50; 4]);
            let (batch, handles) = fill(50);
            drop(batch);
            handles
                .into_iter()
                .for_each(|handle| assert!(is_cancelled(&handle.wait().result)));
            assert_eq!(fates.seen(), [100, 100, 100, 50]);
            let panics = catch_unwind(AssertUnwindSafe(|| {
                let (_batch, _handles) = fill(50);
                burst();
            }));
            panics.unwrap_err();
            assert_eq!(fates.seen(), [150, 150, 150, 50]);
            let (batch, handles) = fill(50);
            drop(handles); // before it is submitted
            assert!(batch.submit().is_empty());
            aio.drain().unwrap();
            assert_eq!(fates.seen(), [200, 200, 200, 100]);
            let (batch, handles) = fill(50);
            aio.shutdown(Duration::from_secs(3600)).unwrap();
            let refused = batch.submit();
            assert_eq!(refused.len(), 50);
            drop(refused);
            handles
                .into_iter()
                .for_each(|handle| assert!(is_cancelled(&handle.wait().result)));
            assert_eq!(fates.seen(), [250, 250, 250, 100]);
        }
    });
}

#[test]
fn what_a_batch_refuses_may_outlive_its_context() {
    in_both_modes(|| {
        for aio in contexts(2) {
            let fates = Fates::default();
            let mut batch = aio.batch();
            let unwritable = fates.file(std::fs::File::open("/dev/null").unwrap());
            let write = aio
                .alloc()
                .init_rw(unwritable, Write, fates.buffer(vec![0; 4]), 0);
            let ticket = batch.push_callback(write.init_callback(fates.callback()));
            let mut refused = batch.submit();
            assert_eq!(refused.len(), 1);
            drop(aio);
            let back = refused.take(ticket).unwrap();
            assert_eq!(back.error().raw_os_error(), Some(libc::EBADF));
            drop((refused, back));
            assert_eq!(fates.seen(), [1, 1, 1, 0]);
            until(|| count_contexts() == 0);
        }
    });
}

/// How a handle ends.
#[derive(Clone, Copy, Debug)]
enum Handle {
    Waits,
    WaitsInTime,
    RunsOutOfTime,
    Dropped,
    DroppedWithAWaker,
    DroppedByAPanic,
    DroppedElsewhere,
    DroppedInACallback,
}

#[test]
fn a_handle_ends_in_every_way_and_drops_what_was_lent() {
    const WAYS: [Handle; 8] = [
        Handle::Waits,
        Handle::WaitsInTime,
        Handle::RunsOutOfTime,
        Handle::Dropped,
        Handle::DroppedWithAWaker,
        Handle::DroppedByAPanic,
        Handle::DroppedElsewhere,
        Handle::DroppedInACallback,
    ];
    in_both_modes(|| {
        for (aio, way) in WAYS
            .into_iter()
            .flat_map(|way| contexts(1).map(move |aio| (aio, way)))
        {
            let (fates, mut occupied) = (Fates::default(), Some(occupy(&aio)));
            let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
            let mut pending = aio.alloc().init_rw(file, Read, buf, 0).start().unwrap();
            match way {
                Handle::Waits => {
                    let waiter = thread::spawn(move || drop(pending.wait()));
                    drop(occupied.take());
                    waiter.join().unwrap();
                }
                Handle::WaitsInTime => {
                    drop(occupied.take());
                    assert!(pending.wait_timeout(Duration::from_secs(3600)).is_ok());
                }
                Handle::RunsOutOfTime => {
                    drop(
                        pending
                            .wait_timeout(Duration::from_millis(1))
                            .err()
                            .unwrap(),
                    );
                }
                Handle::Dropped => drop(pending),
                Handle::DroppedWithAWaker => {
                    leave(&mut pending, Waker::noop());
                    drop(pending);
                }
                Handle::DroppedByAPanic => {
                    let panic = catch_unwind(AssertUnwindSafe(|| {
                        let _pending = pending;
                        burst();
                    }));
                    panic.unwrap_err();
                }
                Handle::DroppedElsewhere => thread::spawn(move || drop(pending)).join().unwrap(),
                Handle::DroppedInACallback => {
                    nothing(&aio)
                        .init_callback(move |_| drop(pending))
                        .submit()
                        .unwrap();
                }
            }
            drop(occupied);
            aio.drain().unwrap();
            assert_eq!(fates.seen(), [1, 1, 0, 0], "{way:?}");
        }
    });
}

#[test]
fn a_future_answers_after_its_context_has_gone() {
    in_both_modes(|| {
        for aio in contexts(1) {
            let occupied = occupy(&aio);
            let mut pending = nothing(&aio).start().unwrap();
            leave(&mut pending, Waker::noop());
            drop(occupied);
            drop(aio);
            let polled = Future::poll(
                Pin::new(&mut pending),
                &mut Context::from_waker(Waker::noop()),
            );
            assert!(polled.is_ready());
            until(|| count_contexts() == 0);
        }
    });
}

#[test]
fn a_sync_group_ends_with_writes_and_barriers_under_way() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
            let aio = build(Aio::builder().depth(1).dispatch(dispatch));
            let (log, calls, (send, results)) = (
                SyncGroup::new(&aio, scratch()),
                Counter::default(),
                channel(),
            );
            let occupied = occupy(&aio);
            let tracked = log.track();
            let lost = log.track();
            for number in 0..4 {
                let count = calls.clone();
                let write = log.write(vec![1; 512], number * 512, move |done| {
                    assert_eq!(done.result.unwrap(), 512);
                    count.add();
                });
                write.unwrap();
                let send = send.clone();
                log.barrier(SyncKind::All, move |result| {
                    send.send(result.is_ok()).unwrap()
                })
                .unwrap();
            }
            drop((log, aio, send));
            drop(lost); // never written: the barriers fail
            drop(occupied);
            calls.until(4);
            tracked.end(&Ok(()));
            assert_eq!(results.iter().collect::<Vec<_>>(), [false; 4]);
            until(|| count_contexts() == 0);
        }
    });
}

#[test]
fn a_sync_group_of_a_context_that_was_shut_down_fails_its_barriers() {
    in_both_modes(|| {
        for aio in contexts(1) {
            let (log, (send, results)) = (SyncGroup::new(&aio, scratch()), channel());
            let tracked = log.track();
            for _ in 0..4 {
                let send = send.clone();
                log.barrier(SyncKind::All, move |result| {
                    send.send(result.is_ok()).unwrap()
                })
                .unwrap();
            }
            drop(send);
            aio.shutdown(Duration::from_secs(3600)).unwrap();
            tracked.end(&Ok(()));
            assert_eq!(results.iter().collect::<Vec<_>>(), [false; 4]);
            let refused = log.write(vec![1; 4], 0, |_| ()).unwrap_err();
            drop(refused);
            drop((log, aio));
            until(|| count_contexts() == 0);
        }
    });
}

#[test]
fn a_pool_ends_while_its_buffers_are_lent() {
    in_both_modes(|| {
        for aio in contexts(1) {
            let pool = BufPool::new(4, 4096).unwrap();
            let (content, (send, receive)) = (pattern(9, 4096), channel());
            let (file, occupied) = (Arc::new(file_of(&content)), occupy(&aio));
            for _ in 0..3 {
                let send = send.clone();
                let read = aio.alloc().init_rw(Arc::clone(&file), Read, pool.take(), 0);
                read.init_callback(move |done| send.send(done.buf).unwrap())
                    .submit()
                    .unwrap();
            }
            let abandoned = aio
                .alloc()
                .init_rw(file, Read, pool.take(), 0)
                .start()
                .unwrap();
            drop(abandoned);
            assert!(pool.try_take().is_none());
            drop((pool, occupied, send));
            aio.drain().unwrap();
            drop(aio);
            for buf in receive.iter() {
                assert_eq!(IoBufMut::buf_capacity(&buf), 4096);
                assert!(buf[..] == content[..]);
            }
        }
    });
}

#[test]
fn a_pool_is_waited_for_until_the_last_buffer_comes_back() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
            let aio = build(Aio::builder().depth(2).dispatch(dispatch));
            let (pool, calls) = (BufPool::new(2, 4096).unwrap(), Counter::default());
            let file = null();
            for _ in 0..500 {
                let count = calls.clone();
                let read = aio.alloc().init_rw(Arc::clone(&file), Read, pool.take(), 0);
                let counted = read.init_callback(move |_| {
                    count.add();
                });
                counted.submit().unwrap();
            }
            aio.drain().unwrap();
            assert_eq!((calls.get(), pool.available()), (500, 2));
        }
    });
}
