//! What is done with one of many costs the same however many there are.

use crate::common::modes::in_both_modes;
use crate::common::*;
use crate::hostile::*;
use kiocb::op::{PollReady, Read};
use kiocb::{Aio, AioBuilder, Dispatch, Pending, PollFlags, SyncGroup, SyncKind};
use std::fs::File;
use std::io::{self, PipeWriter};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// The cost of `count` of something, without what it took to make them.
type Cost = fn(count: usize) -> Duration;

/// Four times as many may cost eight times as much: a walk over all of them for each would cost sixteen
/// times.
#[track_caller]
fn assert_grows_linearly(count: usize, cost: Cost) {
    // What the machine does besides only adds to it.
    let least = |count| (0..3).map(|_| cost(count)).min().unwrap();
    let (few, many) = (least(count), least(4 * count));
    eprintln!("{count}: {few:?}, {}: {many:?}", 4 * count);
    assert!(many <= 8 * few);
}

/// The processor time that `body` takes, of all threads.
fn time(body: impl FnOnce()) -> Duration {
    let began = processor_time();
    body();
    processor_time() - began
}

/// `count` queued waits, all on one pipe.
fn queued_polls(aio: &Aio, count: usize) -> (Vec<Wait>, PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    let reader = Arc::new(OwnedFd::from(reader));
    let poll = || aio.alloc().init_poll(Arc::clone(&reader), PollFlags::IN);
    let polls = (0..count).map(|_| poll().start().unwrap());
    (polls.collect(), writer)
}

type Wait = Pending<PollReady<Arc<OwnedFd>>>;

/// What `body` costs, which is given `count` waits behind an occupied slot.
fn cost_with_queued_polls(
    builder: AioBuilder,
    count: usize,
    body: impl FnOnce(&mut Vec<Wait>),
) -> Duration {
    let aio = build(builder.depth(1));
    let occupied = occupy(&aio);
    let (mut polls, _writer) = queued_polls(&aio, count);
    let cost = time(|| body(&mut polls));
    drop(occupied);
    aio.drain().unwrap();
    cost
}

#[test]
fn dropping_queued_polls_costs_the_same_for_each() {
    in_both_modes(|| {
        assert_grows_linearly(1000, |count| {
            cost_with_queued_polls(Aio::builder(), count, Vec::clear)
        });
    });
}

#[test]
fn dropping_queued_polls_from_the_last_costs_the_same_for_each() {
    in_both_modes(|| {
        assert_grows_linearly(1000, |count| {
            let builder = Aio::builder().dispatch(Dispatch::Manual);
            cost_with_queued_polls(builder, count, |polls| while polls.pop().is_some() {})
        });
    });
}

#[test]
fn cancelling_queued_polls_costs_the_same_for_each() {
    in_both_modes(|| {
        assert_grows_linearly(1000, |count| {
            cost_with_queued_polls(Aio::builder(), count, |polls| {
                polls.iter().for_each(|poll| assert!(poll.cancel()));
            })
        });
    });
}

#[test]
fn the_end_of_many_polls_costs_the_same_for_each() {
    in_both_modes(|| {
        assert_grows_linearly(1000, |count| {
            let aio = build(Aio::builder().depth(64));
            let (polls, _writer) = queued_polls(&aio, count);
            let cost = time(|| drop(aio));
            drop(polls);
            cost
        });
    });
}

fn counted_barrier(log: &SyncGroup<File>, called: &Counter) {
    let called = called.clone();
    let barrier = log.barrier(SyncKind::Data, move |_| {
        called.add();
    });
    barrier.unwrap();
}

#[test]
fn barriers_cost_the_same_for_each() {
    in_both_modes(|| {
        assert_grows_linearly(2500, |count| {
            let aio = aio();
            let log = SyncGroup::new(&aio, scratch());
            let write = log.track(); // they all wait for it
            let called = Counter::default();
            let cost = time(|| {
                (0..count).for_each(|_| counted_barrier(&log, &called));
            });
            write.end(&Ok(()));
            aio.drain().unwrap();
            assert_eq!(called.get(), count);
            cost
        });
    });
}

#[test]
fn barriers_during_a_sync_cost_the_same_for_each() {
    in_both_modes(|| {
        assert_grows_linearly(1000, |count| {
            let aio = aio();
            let log = SyncGroup::new(&aio, scratch());
            let called = Counter::default();
            let busy = keep_busy(&aio); // the end of the sync is not noticed
            counted_barrier(&log, &called);
            let cost = time(|| {
                for _ in 0..count {
                    counted_barrier(&log, &called);
                    log.track().end(&Ok(()));
                }
            });
            busy.release();
            aio.drain().unwrap();
            assert_eq!(called.get(), count + 1);
            cost
        });
    });
}

#[test]
fn failed_writes_cost_the_same_for_each() {
    in_both_modes(|| {
        assert_grows_linearly(3000, |count| {
            let aio = aio();
            let log = SyncGroup::new(&aio, scratch());
            let called = Counter::default();
            let mut writes = Vec::new();
            for _ in 0..count {
                writes.push(log.track());
                let called = called.clone();
                let barrier = log.barrier(SyncKind::Data, move |result| {
                    result.unwrap_err();
                    called.add();
                });
                barrier.unwrap();
            }
            let cost = time(|| {
                let failed = || Err::<(), _>(io::Error::from_raw_os_error(libc::EIO));
                writes
                    .into_iter()
                    .rev()
                    .for_each(|write| write.end(&failed()));
            });
            assert_eq!(called.get(), count);
            cost
        });
    });
}

#[test]
fn barriers_between_writes_cost_the_same_for_each() {
    in_both_modes(|| {
        assert_grows_linearly(3000, |count| {
            let aio = aio();
            let log = SyncGroup::new(&aio, scratch());
            let called = Counter::default();
            let cost = time(|| {
                let mut writes = Vec::new();
                for _ in 0..count {
                    writes.push(log.track());
                    counted_barrier(&log, &called);
                }
                writes
                    .into_iter()
                    .rev()
                    .for_each(|write| write.end(&Ok(())));
            });
            aio.drain().unwrap();
            assert_eq!(called.get(), count);
            cost
        });
    });
}

#[test]
fn queueing_and_completing_costs_the_same_for_each() {
    in_both_modes(|| {
        assert_grows_linearly(4000, |count| {
            let (aio, file) = (build(Aio::builder().depth(1)), null());
            time(|| {
                let read = || aio.alloc().init_rw(Arc::clone(&file), Read, Vec::new(), 0);
                let pending: Vec<_> = (0..count).map(|_| read().start().unwrap()).collect();
                pending.into_iter().for_each(|pending| drop(pending.wait()));
            })
        });
    });
}

#[test]
fn a_batch_costs_the_same_for_each_request() {
    in_both_modes(|| {
        assert_grows_linearly(2500, |count| {
            let (aio, file) = (aio(), Arc::new(std::fs::File::open("/dev/null").unwrap()));
            time(|| {
                let mut batch = aio.batch();
                let write = || {
                    aio.alloc()
                        .init_rw(Arc::clone(&file), kiocb::op::Write, [0; 1], 0)
                };
                let tickets: Vec<_> = (0..count)
                    .map(|_| batch.push_callback(write().init_callback(drop)))
                    .collect();
                let mut refused = batch.submit(); // not open for writing
                let back = tickets
                    .into_iter()
                    .filter_map(|ticket| refused.take(ticket));
                drop(back.collect::<Vec<_>>());
                aio.drain().unwrap();
            })
        });
    });
}

#[test]
fn a_scope_costs_the_same_for_each_request() {
    in_both_modes(|| {
        assert_grows_linearly(2500, |count| {
            let (aio, file) = (aio(), null());
            let mut memory = vec![0; count];
            time(|| {
                aio.scope(|s| {
                    let pieces = memory.chunks_mut(1);
                    let reads: Vec<_> = pieces.map(|piece| s.read_at(&file, piece, 0)).collect();
                    reads.into_iter().for_each(|read| drop(read.wait()));
                });
            })
        });
    });
}

#[test]
fn writes_of_a_sync_group_cost_the_same_for_each() {
    in_both_modes(|| {
        assert_grows_linearly(2500, |count| {
            let aio = aio();
            let log = SyncGroup::new(&aio, null());
            time(|| {
                let writes: Vec<_> = (0..count).map(|_| log.track()).collect();
                writes.into_iter().for_each(|write| write.end(&Ok(())));
            })
        });
    });
}

#[test]
fn wakers_cost_the_same_for_each() {
    in_both_modes(|| {
        assert_grows_linearly(2500, |count| {
            let aio = build(Aio::builder().depth(1));
            let (occupied, file) = (occupy(&aio), null());
            let read = || aio.alloc().init_rw(Arc::clone(&file), Read, Vec::new(), 0);
            let mut pending: Vec<_> = (0..count).map(|_| read().start().unwrap()).collect();
            let woken = Counter::default();
            let count_it = woken.clone();
            let waker = waker(Arc::new(move || {
                count_it.add();
            }));
            let cost = time(|| {
                for _ in 0..3 {
                    pending
                        .iter_mut()
                        .for_each(|pending| leave(pending, &waker));
                }
                drop(occupied);
                aio.drain().unwrap();
            });
            woken.until(count);
            cost
        });
    });
}
