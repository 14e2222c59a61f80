//! Callbacks: each is called exactly once, on the thread that it should, and may itself submit and wait. And
//! whatever becomes of a request, its file, its buffer and its closure are dropped once.
#![allow(unsafe_code, reason = "asks how much a pipe holds")]

mod common;

use common::*;
use kiocb::op::{Read, Write};
use kiocb::{Aio, Dispatch, Iocb};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

#[test]
fn each_callback_is_called_exactly_once() {
    let _watchdog = watchdog();
    let aio = aio();
    let file = null();
    let calls: Arc<[AtomicUsize]> = (0..10_000).map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for part in 0..4 {
            let (aio, file, calls) = (&aio, &file, &calls);
            scope.spawn(move || {
                for index in (part..calls.len()).step_by(4) {
                    let calls = calls.clone();
                    aio.alloc()
                        .init_rw(file.clone(), Write, [0; 8], 0)
                        .init_callback(move |done| {
                            assert_eq!(done.result.unwrap(), 8);
                            calls[index].fetch_add(1, Ordering::Relaxed);
                        })
                        .submit()
                        .unwrap();
                }
            });
        }
    });
    aio.drain().unwrap();
    assert!(calls.iter().all(|calls| calls.load(Ordering::Relaxed) == 1));
    assert_eq!(aio.stats().panics, 0);
}

/// The name of the thread on which a callback runs.
fn thread_of_a_callback(request: Iocb) -> String {
    let (send, receive) = mpsc::channel();
    request
        .init_rw(null(), Read, Vec::new(), 0)
        .init_callback(move |_| {
            let name = thread::current().name().map(str::to_owned);
            send.send(name.expect("the thread has a name")).unwrap();
        })
        .submit()
        .unwrap();
    receive.recv().unwrap()
}

#[test]
fn callbacks_run_on_the_completion_thread_of_their_context() {
    let _watchdog = watchdog();
    assert_eq!(thread_of_a_callback(Iocb::alloc()), "kiocb");
    let named = build(Aio::builder().thread_name("pages"));
    assert_eq!(thread_of_a_callback(named.alloc()), "pages");
}

#[test]
fn callbacks_of_one_context_run_one_after_the_other_and_outside_submit() {
    let _watchdog = watchdog();
    let aio = aio();
    let inside = Arc::new(AtomicBool::new(false));
    let called = Counter::default();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let me = thread::current().id();
                for _ in 0..500 {
                    let (inside, called) = (inside.clone(), called.clone());
                    aio.alloc()
                        .init_rw(null(), Read, Vec::new(), 0)
                        .init_callback(move |_| {
                            assert_ne!(thread::current().id(), me);
                            assert!(!inside.swap(true, Ordering::SeqCst), "two at once");
                            thread::yield_now();
                            inside.store(false, Ordering::SeqCst);
                            called.add();
                        })
                        .submit()
                        .unwrap();
                    // Waiters that reap may not run callbacks either.
                    let request = aio.alloc().init_rw(null(), Read, Vec::new(), 0);
                    assert_eq!(request.wait().unwrap().result.unwrap(), 0);
                }
            });
        }
    });
    aio.drain().unwrap();
    assert_eq!((called.get(), aio.stats().panics), (2000, 0));
}

/// Reads one block after the other, each in the callback of the one before.
fn read_next(
    aio: &Aio,
    file: Arc<std::fs::File>,
    block: u64,
    buf: Vec<u8>,
    over: mpsc::Sender<u64>,
) {
    let submitter = aio.clone();
    aio.alloc()
        .init_rw(file, Read, buf, block * 16)
        .init_callback(move |done| {
            if done.result.unwrap() == 0 {
                return over.send(block).unwrap();
            }
            assert_eq!(done.buf, pattern(block, 16));
            read_next(&submitter, done.file, block + 1, done.buf, over);
        })
        .submit()
        .unwrap();
}

#[test]
fn each_callback_may_submit_the_next_request() {
    let _watchdog = watchdog();
    let bytes: Vec<u8> = (0..5000).flat_map(|block| pattern(block, 16)).collect();
    let file = Arc::new(file_of(&bytes));
    let (send, receive) = mpsc::channel();
    let aio = aio();
    for _ in 0..4 {
        read_next(&aio, file.clone(), 0, vec![0; 16], send.clone());
    }
    for _ in 0..4 {
        assert_eq!(receive.recv().unwrap(), 5000);
    }
}

#[test]
fn a_callback_may_submit_far_more_than_there_are_slots() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(2));
    let called = Counter::default();
    let (submitter, calls) = (aio.clone(), called.clone());
    aio.alloc()
        .init_rw(null(), Read, Vec::new(), 0)
        .init_callback(move |_| {
            for _ in 0..1000 {
                let calls = calls.clone();
                submitter
                    .alloc()
                    .init_rw(null(), Write, [1; 4], 0)
                    .init_callback(move |done| {
                        assert_eq!(done.result.unwrap(), 4);
                        calls.add();
                    })
                    .submit()
                    .unwrap();
            }
        })
        .submit()
        .unwrap();
    aio.drain().unwrap();
    assert_eq!(called.get(), 1000);
}

#[test]
fn a_callback_may_wait_for_a_request() {
    let _watchdog = watchdog();
    for depth in [1, 128] {
        let aio = build(Aio::builder().depth(depth));
        let (send, receive) = mpsc::channel();
        for number in 0..50 {
            let (inner, send) = (aio.clone(), send.clone());
            aio.alloc()
                .init_rw(null(), Read, Vec::new(), 0)
                .init_callback(move |_| {
                    let bytes = pattern(number, 100);
                    let request = inner.alloc().init_rw(file_of(&bytes), Read, [0; 100], 0);
                    let done = request.wait().unwrap();
                    assert_eq!(done.buf[..], bytes);
                    send.send(number).unwrap();
                })
                .submit()
                .unwrap();
        }
        let mut numbers: Vec<u64> = receive.iter().take(50).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    }
}

#[test]
fn a_callback_may_wait_for_what_was_started_before_it_and_inside_it() {
    let _watchdog = watchdog();
    for depth in [1, 2, 128] {
        let aio = build(Aio::builder().depth(depth));
        let (send, receive) = mpsc::channel();
        // All of them are finished, or queued, when the first callback runs: the events are in one batch.
        let busy = keep_busy(&aio);
        for _ in 0..20 {
            let early = aio.alloc().init_rw(null(), Write, [1; 10], 0);
            let early = early.start().unwrap();
            let (inner, send) = (aio.clone(), send.clone());
            aio.alloc()
                .init_rw(null(), Read, Vec::new(), 0)
                .init_callback(move |_| {
                    let inner_write = inner.alloc().init_rw(null(), Write, [2; 20], 0);
                    let inner_write = inner_write.start().unwrap();
                    assert_eq!(early.wait().result.unwrap(), 10);
                    assert_eq!(inner_write.wait().result.unwrap(), 20);
                    send.send(()).unwrap();
                })
                .submit()
                .unwrap();
        }
        busy.release();
        assert_eq!(receive.iter().take(20).count(), 20);
    }
}

#[test]
fn a_callback_that_waits_lets_plugged_requests_of_others_go_first() {
    let _watchdog = watchdog();
    let aio = aio();
    let (reader, writer) = std::io::pipe().unwrap();
    let busy = keep_busy(&aio);
    let inner = aio.clone();
    aio.alloc()
        .init_rw(null(), Read, Vec::new(), 0)
        .init_callback(move |_| {
            let request = inner
                .alloc()
                .init_rw(OwnedFd::from(writer), Write, *b"first", 0);
            request.init_callback(|_| ()).submit().unwrap();
        })
        .submit()
        .unwrap();
    let (inner, (send, receive)) = (aio.clone(), mpsc::channel());
    aio.alloc()
        .init_rw(null(), Read, Vec::new(), 0)
        .init_callback(move |_| {
            let request = inner
                .alloc()
                .init_rw(OwnedFd::from(reader), Read, [0; 5], 0);
            send.send(request.wait().unwrap().buf).unwrap();
        })
        .submit()
        .unwrap();
    busy.release();
    assert_eq!(receive.recv().unwrap(), *b"first");
}

#[test]
fn what_a_callback_submits_is_on_its_way_when_the_plug_is_full() {
    let _watchdog = watchdog();
    let aio = aio();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let writer = Arc::new(OwnedFd::from(writer));
    let (inner, (send, receive)) = (aio.clone(), mpsc::channel());
    aio.alloc()
        .init_rw(null(), Read, Vec::new(), 0)
        .init_callback(move |_| {
            for number in 0..64 {
                let request = inner.alloc().init_rw(writer.clone(), Write, [number], 0);
                request.init_callback(|_| ()).submit().unwrap();
            }
            let mut bytes = [9; 8];
            std::io::Read::read_exact(&mut reader, &mut bytes).unwrap();
            send.send(bytes).unwrap();
        })
        .submit()
        .unwrap();
    assert_eq!(receive.recv().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_callback_may_use_another_context() {
    let _watchdog = watchdog();
    let (here, there) = (
        build(Aio::builder().depth(1)),
        build(Aio::builder().depth(1)),
    );
    let (send, receive) = mpsc::channel();
    for _ in 0..20 {
        let (there, send) = (there.clone(), send.clone());
        here.alloc()
            .init_rw(null(), Read, Vec::new(), 0)
            .init_callback(move |_| {
                let waited = there.alloc().init_rw(null(), Write, [0; 3], 0).wait();
                assert_eq!(waited.unwrap().result.unwrap(), 3);
                there
                    .alloc()
                    .init_rw(null(), Write, [0; 4], 0)
                    .init_callback(move |done| send.send(done.result.unwrap()).unwrap())
                    .submit()
                    .unwrap();
                there.drain().unwrap();
            })
            .submit()
            .unwrap();
    }
    assert_eq!(receive.iter().take(20).sum::<usize>(), 80);
}

#[test]
fn a_big_or_strictly_aligned_closure_keeps_what_it_captured() {
    #[derive(Clone, Copy)]
    #[repr(align(256))]
    struct Strict([u8; 256]);
    let _watchdog = watchdog();
    let (send, receive) = mpsc::channel();
    let big: [u8; 4096] = pattern(7, 4096).try_into().unwrap();
    let strict = Strict([0xa5; 256]);
    let file = Arc::new(file_of(b"some bytes"));
    for _ in 0..100 {
        let (one, other) = (send.clone(), send.clone());
        Iocb::alloc()
            .init_rw(file.clone(), Read, [0; 4], 5)
            .init_callback(move |done| {
                one.send(done.buf == *b"byte" && big[..] == pattern(7, 4096))
                    .unwrap();
            })
            .submit()
            .unwrap();
        Iocb::alloc()
            .init_rw(file.clone(), Read, [0; 4], 0)
            .init_callback(move |done| {
                let address = (&raw const strict).addr();
                let whole = address.is_multiple_of(256) && strict.0 == [0xa5; 256];
                other.send(done.buf == *b"some" && whole).unwrap();
            })
            .submit()
            .unwrap();
    }
    assert!(receive.iter().take(200).all(|right| right));
}

#[test]
fn inline_buffers_stay_where_the_kernel_writes_them() {
    let _watchdog = watchdog();
    let file = Arc::new(file_of(&pattern(8, 3000)));
    let (send, receive) = mpsc::channel();
    let other = send.clone();
    Iocb::alloc()
        .init_rw(file.clone(), Read, [0; 16], 0)
        .init_callback(move |done| send.send(done.buf.to_vec()).unwrap())
        .submit()
        .unwrap();
    Iocb::alloc()
        .init_rw(file, Read, [0; 3000], 0)
        .init_callback(move |done| other.send(done.buf.to_vec()).unwrap())
        .submit()
        .unwrap();
    let mut bufs: Vec<Vec<u8>> = receive.iter().take(2).collect();
    bufs.sort_by_key(Vec::len);
    assert_eq!(bufs, [pattern(8, 16), pattern(8, 3000)]);
}

#[test]
fn every_part_of_a_completed_request_is_dropped_once() {
    let _watchdog = watchdog();
    for (depth, dispatch) in [
        (1, Dispatch::Thread),
        (64, Dispatch::Thread),
        (4, Dispatch::Anywhere),
        (4, Dispatch::Manual),
    ] {
        let aio = build(Aio::builder().depth(depth).dispatch(dispatch));
        let fates = Fates::default();
        for _ in 0..100 {
            let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 8]));
            let request = aio.alloc().init_rw(file, Write, buf, 0);
            request.init_callback(fates.callback()).submit().unwrap();
        }
        aio.drain().unwrap();
        assert_eq!(fates.seen(), [100; 4]);
    }
}

#[test]
fn every_part_of_a_waited_started_or_abandoned_request_is_dropped_once() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let aio = build(Aio::builder().depth(4).dispatch(dispatch));
        let fates = Fates::default();
        for _ in 0..100 {
            let request = || {
                let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 8]));
                aio.alloc().init_rw(file, Write, buf, 0)
            };
            drop(request().wait().unwrap());
            drop(request().start().unwrap().wait());
            drop(request().start().unwrap());
            drop(request());
        }
        aio.drain().unwrap();
        assert_eq!(fates.seen(), [400, 400, 0, 0]);
    }
}

#[test]
fn a_request_that_was_never_submitted_is_dropped_whole_at_each_stage() {
    let _watchdog = watchdog();
    let fates = Fates::default();
    drop(Iocb::alloc());
    let request = || {
        let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 8]));
        Iocb::alloc().init_rw(file, Read, buf, 0)
    };
    drop(request());
    drop(request().init_callback(fates.callback()));
    drop(Iocb::alloc().init_fsync(fates.file(null())));
    assert_eq!(fates.seen(), [3, 2, 1, 0]);
    let (file, buf) = request().into_parts();
    assert_eq!(fates.seen(), [3, 2, 1, 0], "taken apart is not dropped");
    drop((file, buf));
    let (request, callback) = request().init_callback(fates.callback()).into_parts();
    drop(callback);
    assert_eq!(fates.seen(), [4, 3, 2, 0]);
    drop(request);
    assert_eq!(fates.seen(), [5, 4, 2, 0]);
}

#[test]
fn the_parts_of_a_refused_request_are_dropped_once_and_nothing_is_called() {
    let _watchdog = watchdog();
    let aio = aio();
    let fates = Fates::default();
    let unwritable = || fates.file(std::fs::File::open("/dev/null").unwrap());
    let request = || {
        let buf = fates.buffer(vec![0; 8]);
        aio.alloc().init_rw(unwritable(), Write, buf, 0)
    };
    let refused = request().init_callback(fates.callback()).submit();
    let refused = refused.unwrap_err();
    assert_eq!(fates.seen(), [0; 4], "all of it is in the error");
    drop(refused);
    assert_eq!(fates.seen(), [1, 1, 1, 0]);
    drop(request().wait().unwrap_err());
    drop(request().start().unwrap_err());
    assert_eq!(fates.seen(), [3, 3, 1, 0]);
    let error = std::io::Error::from(request().wait().unwrap_err());
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    assert_eq!(fates.seen(), [4, 4, 1, 0]);
}

#[test]
fn the_parts_of_a_request_refused_late_are_dropped_once_and_it_is_called() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(1));
    let fates = Fates::default();
    let occupied = occupy(&aio);
    for _ in 0..10 {
        let unwritable = std::fs::File::open("/dev/null").unwrap();
        let (file, buf) = (fates.file(unwritable), fates.buffer(vec![0; 8]));
        let request = aio.alloc().init_rw(file, Write, buf, 0);
        request.init_callback(fates.callback()).submit().unwrap();
        let unwritable = std::fs::File::open("/dev/null").unwrap();
        let (file, buf) = (fates.file(unwritable), fates.buffer(vec![0; 8]));
        drop(aio.alloc().init_rw(file, Write, buf, 0).start().unwrap());
    }
    assert_eq!(fates.seen(), [0; 4]);
    drop(occupied);
    aio.drain().unwrap();
    assert_eq!(fates.seen(), [20, 20, 10, 10]);
    assert_eq!(aio.stats().refused_late, 20);
}

#[test]
fn a_forgotten_handle_leaks_its_request_and_harms_nobody() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(2));
    let fates = Fates::default();
    for _ in 0..50 {
        let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 8]));
        let request = aio.alloc().init_rw(file, Write, buf, 0);
        std::mem::forget(request.start().unwrap());
    }
    aio.drain().unwrap();
    assert_eq!(fates.seen(), [0; 4]);
    let request = aio.alloc().init_rw(null(), Write, [0; 8], 0);
    assert_eq!(request.wait().unwrap().result.unwrap(), 8);
}

#[test]
fn a_wait_with_a_deadline_gives_the_handle_back() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(1));
    let occupied = occupy(&aio);
    let pending = aio.alloc().init_rw(null(), Write, [0; 5], 0);
    let pending = pending.start().unwrap();
    let pending = pending.wait_timeout(Duration::ZERO).unwrap_err();
    let pending = pending.wait_timeout(Duration::from_millis(5)).unwrap_err();
    assert!(!pending.is_complete());
    drop(occupied);
    assert_eq!(pending.wait().result.unwrap(), 5);
}

#[test]
fn descriptors_do_not_leak() {
    alone("descriptors_do_not_leak", || {
        let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let aio = build(Aio::builder().depth(4));
        let before = count();
        for _ in 0..200 {
            let (done, refused) = (new_null(), std::fs::File::open("/dev/null").unwrap());
            let request = aio.alloc().init_rw(done, Write, [0; 8], 0);
            request.init_callback(drop).submit().unwrap();
            let request = aio.alloc().init_rw(refused, Write, [0; 8], 0);
            // Refused now, or later where it had to queue.
            let _ = request.init_callback(drop).submit();
        }
        aio.drain().unwrap();
        assert_eq!(count(), before);
        drop(aio);
        assert_eq!(count(), before - 1, "a context has one of its own");
    });
}
#[test]
fn before_it_waits_on_another_context_a_callback_sends_what_is_plugged() {
    let _watchdog = watchdog();
    let (here, there) = (aio(), aio());
    let (reader, writer) = std::io::pipe().unwrap();
    let (inner, (send, receive)) = (here.clone(), mpsc::channel());
    here.alloc()
        .init_rw(null(), Read, Vec::new(), 0)
        .init_callback(move |_| {
            let file = OwnedFd::from(writer);
            let request = inner.alloc().init_rw(file, Write, *b"first", 0);
            request.init_callback(|_| ()).submit().unwrap();
            let file = OwnedFd::from(reader);
            let request = there.alloc().init_rw(file, Read, [0; 5], 0);
            send.send(request.wait().unwrap().buf).unwrap();
        })
        .submit()
        .unwrap();
    assert_eq!(receive.recv().unwrap(), *b"first");
}
/// A callback that is slow holds back what others before it in its batch have submitted; so after such a
/// batch submissions leave one by one. How slow is slow is the engine's affair: this goes on until it is
/// seen.
#[test]
fn slow_callbacks_do_not_hold_back_for_long_what_others_submit() {
    let _watchdog = watchdog();
    let aio = aio();
    let arrived_meanwhile = Counter::default();
    until(|| {
        let (reader, writer) = std::io::pipe().unwrap();
        let busy = keep_busy(&aio);
        // Both callbacks are in the batch that is dispatched next.
        let inner = aio.clone();
        aio.alloc()
            .init_rw(null(), Read, Vec::new(), 0)
            .init_callback(move |_| {
                let file = OwnedFd::from(writer);
                let request = inner.alloc().init_rw(file, Write, *b"first", 0);
                request.init_callback(drop).submit().unwrap();
            })
            .submit()
            .unwrap();
        let (reader, arrived) = (OwnedFd::from(reader), arrived_meanwhile.clone());
        aio.alloc()
            .init_rw(null(), Read, Vec::new(), 0)
            .init_callback(move |_| {
                thread::sleep(Duration::from_millis(50));
                let mut available = 0;
                // SAFETY: the kernel writes one int.
                unsafe { libc::ioctl(reader.as_raw_fd(), libc::FIONREAD, &raw mut available) };
                if available == 5 {
                    arrived.add();
                }
            })
            .submit()
            .unwrap();
        busy.release();
        aio.drain().unwrap();
        arrived_meanwhile.get() > 0
    });
}
