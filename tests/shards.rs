//! Several contexts behind one handle: nothing is lost between them, and each thread keeps its order.

mod common;

use common::*;
use kiocb::op::{Rw, Write};
use kiocb::{Aio, AioError, Dispatch, Iocb};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

fn request(aio: &Aio) -> Iocb<Rw<Arc<File>, Write, [u8; 4]>> {
    aio.alloc().init_rw(null(), Write, [0; 4], 0)
}

#[test]
fn requests_of_many_threads_complete_on_all_shards() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
        let aio = build(Aio::builder().depth(4).shards(3).dispatch(dispatch));
        let fates = Fates::default();
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
                        let request = aio.alloc().init_rw(file, Write, buf, 0);
                        request.init_callback(fates.callback()).submit().unwrap();
                    }
                });
            }
        });
        aio.drain().unwrap();
        assert_eq!(fates.seen(), [3000; 4]);
        assert_eq!(aio.stats().completed, 3000);
    }
}

#[test]
fn shards_have_a_context_and_a_thread_each_and_none_afterwards() {
    alone(
        "shards_have_a_context_and_a_thread_each_and_none_afterwards",
        || {
            let (contexts, threads) = (count_contexts(), count_threads());
            let aio = build(Aio::builder().depth(2).shards(4));
            assert_eq!(
                (count_contexts(), count_threads()),
                (contexts + 4, threads + 4)
            );
            aio.shutdown(Duration::from_secs(60)).unwrap();
            assert_eq!(count_contexts(), contexts);
            until(|| count_threads() == threads);
            let refused = request(&aio).wait().unwrap_err();
            let reason = refused.error().get_ref().unwrap().downcast_ref();
            assert_eq!(reason, Some(&AioError::ShutDown));
        },
    );
}

#[test]
fn no_shards_are_one() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(5).shards(0));
    assert_eq!(aio.stats().depth, 5);
    assert_eq!(request(&aio).wait().unwrap().result.unwrap(), 4);
}

#[test]
fn threads_take_turns_and_stay_where_they_are() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().shards(2).thread_name("shard"));
    // Each callback says on which completion thread it ran.
    let seen = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..8 {
        thread::scope(|scope| {
            scope.spawn(|| {
                let mine = Arc::new(Mutex::new(Vec::new()));
                for _ in 0..20 {
                    let mine = mine.clone();
                    let submitted = request(&aio).init_callback(move |_| {
                        mine.lock().unwrap().push(thread::current().id());
                    });
                    submitted.submit().unwrap();
                }
                aio.drain().unwrap();
                let mine = mine.lock().unwrap();
                assert_eq!(mine.len(), 20);
                assert!(
                    mine.iter().all(|id| *id == mine[0]),
                    "always the same shard"
                );
                seen.lock().unwrap().push(mine[0]);
            });
        });
    }
    let seen = seen.lock().unwrap();
    assert!(
        seen.iter().any(|id| *id != seen[0]),
        "eight threads, one shard"
    );
}

#[test]
fn each_threads_requests_keep_their_order_on_its_shard() {
    let _watchdog = watchdog();
    let dir = disk_dir();
    let aio = build(Aio::builder().depth(2).shards(2));
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for writer in 0..4 {
            let (aio, start, path) = (&aio, &start, dir.path().join(format!("log {writer}")));
            scope.spawn(move || {
                let log = File::options().create(true).append(true).open(path);
                let log = Arc::new(log.unwrap());
                start.wait();
                for number in 0..2000_u32 {
                    let bytes = number.to_le_bytes();
                    let request = aio.alloc().init_rw(log.clone(), Write, bytes, 0);
                    request.init_callback(drop).submit().unwrap();
                }
            });
        }
    });
    aio.drain().unwrap();
    for writer in 0..4 {
        let log = File::open(dir.path().join(format!("log {writer}"))).unwrap();
        let mut bytes = vec![0; 8000];
        log.read_exact_at(&mut bytes, 0).unwrap();
        let numbers: Vec<u8> = (0..2000_u32).flat_map(u32::to_le_bytes).collect();
        assert!(bytes == numbers, "writer {writer}");
    }
}

/// A drain of shards has to see what one shard's callbacks submit to another's.
#[test]
fn a_drain_waits_for_what_callbacks_submit() {
    let _watchdog = watchdog();
    for _ in 0..10 {
        let aio = build(Aio::builder().depth(2).shards(2));
        let called = Counter::default();
        thread::scope(|scope| {
            for _ in 0..2 {
                let (aio, called) = (&aio, called.clone());
                scope.spawn(move || {
                    let inner = aio.clone();
                    let submitted = request(aio).init_callback(move |_| {
                        // Another thread has another shard, perhaps.
                        let (inner, called) = (inner.clone(), called.clone());
                        thread::scope(|scope| {
                            scope.spawn(move || {
                                let submitted = request(&inner).init_callback(move |_| {
                                    called.add();
                                });
                                submitted.submit().unwrap();
                            });
                        });
                    });
                    submitted.submit().unwrap();
                });
            }
        });
        aio.drain().unwrap();
        assert_eq!(called.get(), 2);
    }
}

#[test]
fn callbacks_of_one_shard_may_wait_on_the_context_and_drop_it() {
    alone(
        "callbacks_of_one_shard_may_wait_on_the_context_and_drop_it",
        || {
            let (contexts, threads) = (count_contexts(), count_threads());
            let aio = build(Aio::builder().depth(1).shards(3));
            let called = Counter::default();
            thread::scope(|scope| {
                for _ in 0..6 {
                    let (aio, called) = (aio.clone(), called.clone());
                    scope.spawn(move || {
                        for _ in 0..20 {
                            let (inner, called) = (aio.clone(), called.clone());
                            let submitted = request(&aio).init_callback(move |_| {
                                assert_eq!(request(&inner).wait().unwrap().result.unwrap(), 4);
                                inner.drain().unwrap_err();
                                called.add();
                            });
                            submitted.submit().unwrap();
                        }
                    });
                }
            });
            drop(aio);
            called.until(120);
            until(|| count_contexts() == contexts && count_threads() == threads);
        },
    );
}
