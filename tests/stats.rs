//! The counters add up: at rest, in the middle, and however a request ends.

mod common;

use common::*;
use kiocb::op::{Read, Write};
use kiocb::{Aio, Dispatch, Stats};
use std::fs::File;

fn assert_adds_up(stats: Stats) {
    assert_eq!(
        stats.accepted,
        stats.completed + stats.in_flight + stats.queued,
        "{stats:?}"
    );
}

fn submit(aio: &Aio) {
    let request = aio.alloc().init_rw(null(), Write, [0; 4], 0);
    request.init_callback(drop).submit().unwrap();
}

#[test]
fn a_new_context_has_done_nothing() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(7));
    let stats = aio.stats();
    assert_eq!(
        (stats.accepted, stats.completed, stats.in_flight),
        (0, 0, 0)
    );
    assert_eq!(
        (stats.queued, stats.panics, stats.submits, stats.depth),
        (0, 0, 0, 7)
    );
}

#[test]
fn nothing_is_outstanding_at_rest() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let aio = build(Aio::builder().depth(3).dispatch(dispatch));
        for _ in 0..100 {
            submit(&aio);
            let read = aio.alloc().init_rw(null(), Read, [0; 1], 0);
            assert_eq!(read.wait().unwrap().result.unwrap(), 0);
            drop(
                aio.alloc()
                    .init_rw(null(), Read, [0; 1], 0)
                    .start()
                    .unwrap(),
            );
        }
        aio.drain().unwrap();
        let stats = aio.stats();
        assert_adds_up(stats);
        assert_eq!((stats.accepted, stats.completed), (300, 300));
    }
}

#[test]
fn unpolled_requests_are_in_flight_up_to_the_depth_and_queued_beyond_it() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(8).dispatch(Dispatch::Manual));
    for count in 1..=20_u64 {
        submit(&aio);
        let stats = aio.stats();
        assert_adds_up(stats);
        assert_eq!(
            (stats.in_flight, stats.queued),
            (count.min(8), count.saturating_sub(8))
        );
    }
    for left in (0..20).rev() {
        assert_eq!(aio.poll(1, 1, None).unwrap(), 1);
        assert_adds_up(aio.stats());
        assert_eq!(aio.stats().completed, 20 - left);
    }
}

#[test]
fn refused_requests_are_not_counted_and_late_ones_are() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(1));
    let refuse = || {
        let unwritable = File::open("/dev/null").unwrap();
        let request = aio.alloc().init_rw(unwritable, Write, [0; 4], 0);
        request.init_callback(drop).submit()
    };
    refuse().unwrap_err();
    let stats = aio.stats();
    assert_eq!((stats.accepted, stats.refused_late), (0, 0));
    let occupied = occupy(&aio);
    refuse().unwrap();
    let stats = aio.stats();
    assert_adds_up(stats);
    assert_eq!(
        (stats.accepted, stats.queued, stats.refused_late),
        (2, 1, 0)
    );
    drop(occupied);
    aio.drain().unwrap();
    let stats = aio.stats();
    assert_adds_up(stats);
    assert_eq!((stats.completed, stats.refused_late), (2, 1));
}

#[test]
fn shards_are_summed() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(5).shards(3));
    assert_eq!(aio.stats().depth, 15);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| (0..50).for_each(|_| submit(&aio)));
        }
    });
    aio.drain().unwrap();
    assert_eq!((aio.stats().accepted, aio.stats().completed), (300, 300));
    let sum = aio.stats() + aio.stats();
    assert_eq!((sum.accepted, sum.depth), (600, 30));
}
#[test]
fn the_counters_add_up_while_a_callback_blocks() {
    let _watchdog = watchdog();
    for depth in [1, 4, 128] {
        let aio = build(Aio::builder().depth(depth));
        let busy = keep_busy(&aio);
        for _ in 0..10 {
            submit(&aio);
            assert_adds_up(aio.stats());
        }
        let stats = aio.stats();
        assert_eq!((stats.accepted, stats.completed), (11, 0));
        busy.release();
        aio.drain().unwrap();
        assert_adds_up(aio.stats());
    }
}

#[test]
fn the_counters_add_up_in_the_middle_of_a_batch() {
    let _watchdog = watchdog();
    let aio = aio();
    let busy = keep_busy(&aio);
    let (inside, gate) = (Latch::default(), Latch::default());
    for index in 0..10 {
        let (inside, gate) = (inside.clone(), gate.clone());
        let request = aio.alloc().init_rw(null(), Write, [0; 4], 0);
        let request = request.init_callback(move |_| {
            if index == 5 {
                inside.open();
                gate.wait();
            }
        });
        request.submit().unwrap();
    }
    busy.release();
    inside.wait();
    let stats = aio.stats();
    gate.open();
    assert_eq!((stats.accepted, stats.queued), (11, 0));
    assert_adds_up(stats);
}

#[test]
fn two_snapshots_can_be_subtracted_and_many_added() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(3));
    let before = aio.stats();
    submit(&aio);
    aio.drain().unwrap();
    let done = aio.stats() - before;
    assert_eq!((done.accepted, done.completed), (1, 1));
    assert_eq!(done.depth, 0, "both have the same");
    assert_eq!((before - aio.stats()).completed, 0, "never below 0");
    let both = [before, aio.stats()];
    assert_eq!(both.iter().sum::<Stats>(), before + aio.stats());
    assert_eq!(both.into_iter().sum::<Stats>().depth, 6);
}
