//! The kernel takes part of a submission and refuses one in it: everybody gets their own answer, and the
//! order is kept.

mod kit;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use kiocb::{Aio, Dispatch};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Answer, Child, Op, SlowFs, need, need_root, supervise};
use kit::*;

/// A file as one that may be written, and as one that may not: EBADF from `io_submit`.
struct Files {
    good: Arc<File>,
    read_only: Arc<File>,
}

impl Files {
    fn of(fs: &SlowFs, count: u8) -> Files {
        let good = Arc::new(fs.file("f", blocks(count)));
        let read_only = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(fs.path().join("f"));
        Files {
            good,
            read_only: Arc::new(read_only.unwrap()),
        }
    }
}

/// What came of writing block `number`.
type Outcome = (u64, Result<usize, i32>);

/// Writes `byte = number + 100` to block `number`; refused if it is one of the `bad`.
fn submit_write(aio: &Aio, files: &Files, bad: &[u64], number: u64, tell: &Sender<Outcome>) {
    let file = if bad.contains(&number) {
        &files.read_only
    } else {
        &files.good
    };
    let tell = tell.clone();
    let submitted = write(aio, file, number, number as u8 + 100).init_callback(move |done| {
        assert!(done.buf.iter().all(|&byte| u64::from(byte) == number + 100));
        let result = done.result.map_err(|error| error.raw_os_error().unwrap());
        tell.send((number, result)).unwrap();
    });
    submitted.submit().unwrap();
}

/// Fails unless each of `0..count` was answered once: the bad ones with EBADF, the others written, in order.
#[track_caller]
fn check(fs: &SlowFs, aio: &Aio, bad: &[u64], count: u8, told: &Receiver<Outcome>) {
    let mut outcomes: Vec<Outcome> = (0..count).map(|_| receive(told)).collect();
    outcomes.sort_unstable();
    let wanted = |number| {
        (
            number,
            if bad.contains(&number) {
                Err(libc::EBADF)
            } else {
                Ok(BLOCK)
            },
        )
    };
    let numbers = || (0..u64::from(count)).filter(|number| !bad.contains(number));
    assert_eq!(outcomes, (0..count.into()).map(wanted).collect::<Vec<_>>());
    let seen: Vec<u64> = numbers().map(|number| number * B).collect();
    assert_eq!(fs.offsets(Op::Write), seen, "bad: {bad:?}");
    let contents = fs.contents("f");
    let written = |number: u64| {
        contents[(number * B) as usize..][..BLOCK]
            .iter()
            .all(|&byte| u64::from(byte) == number + 100)
    };
    assert!(numbers().all(written));
    aio.drain().unwrap();
    let stats = aio.stats();
    assert_eq!(
        (stats.accepted, stats.in_flight, stats.queued),
        (stats.completed, 0, 0)
    );
    assert_eq!(stats.refused_late, bad.len() as u64);
}

/// Which requests of a group of twelve are refused: head, middle, tail, neighbours, nearly all, all.
const BAD: [&[u64]; 8] = [
    &[],
    &[0],
    &[5],
    &[11],
    &[0, 5, 11],
    &[4, 5, 6],
    &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
];

/// A callback submits twelve at once.
fn plugged(fs: &SlowFs, depth: u32, dispatch: Dispatch, bad: &'static [u64]) {
    let files = Files::of(fs, 12);
    let aio = Aio::builder()
        .depth(depth)
        .dispatch(dispatch)
        .build()
        .unwrap();
    let (tell, told) = channel();
    let first = Arc::clone(&files.good);
    submit_in_a_callback(&aio, &first, 0, move |aio, _| {
        (0..12).for_each(|number| submit_write(aio, &files, bad, number, &tell));
    });
    check(fs, &aio, bad, 12, &told);
}

/// Twelve in one batch: what is refused comes back at once, or, if it had to queue, by its callback.
fn batched(fs: &SlowFs, depth: u32, bad: &'static [u64]) {
    let files = Files::of(fs, 12);
    let aio = Aio::builder().depth(depth).build().unwrap();
    let mut batch = aio.batch();
    let handles: Vec<_> = (0..12)
        .map(|number| {
            let file = if bad.contains(&number) {
                &files.read_only
            } else {
                &files.good
            };
            batch.push(write(&aio, file, number, number as u8 + 100))
        })
        .collect();
    assert!(batch.submit().is_empty(), "handles answer for themselves");
    for (number, handle) in (0..).zip(handles) {
        let result = handle.wait().result;
        match bad.contains(&number) {
            true => assert_eq!(errno(&result), Some(libc::EBADF)),
            false => assert_eq!(result.unwrap(), BLOCK),
        }
    }
    let good: Vec<u64> = (0..12)
        .filter(|number| !bad.contains(number))
        .map(|number| number * B)
        .collect();
    assert_eq!(fs.offsets(Op::Write), good, "bad: {bad:?}");
    aio.drain().unwrap();
}

/// Twelve queue behind what is held, and leave by the pump.
fn pumped(fs: &SlowFs, depth: u32, dispatch: Dispatch, bad: &'static [u64]) {
    let files = Files::of(fs, 12);
    let gate = fs.hold_reads(0..u64::MAX);
    let aio = Aio::builder()
        .depth(depth)
        .dispatch(dispatch)
        .build()
        .unwrap();
    let (done, completions) = channel();
    (0..depth.into()).for_each(|block| read_to(&aio, &files.good, block, &done));
    let (tell, told) = channel();
    (0..12).for_each(|number| submit_write(&aio, &files, bad, number, &tell));
    assert_eq!(aio.stats().queued, 12);
    gate.wait_for(depth as usize);
    gate.release();
    receive_blocks(&completions, depth as u8);
    check(fs, &aio, bad, 12, &told);
}

const WITH_THREAD: [Dispatch; 2] = [Dispatch::Thread, Dispatch::Anywhere];

/// Both ways, whatever is refused, at several depths, each with a file system of its own.
fn every_way() {
    for bad in BAD {
        batched(&need!(SlowFs::new()), 64, bad);
        batched(&need!(SlowFs::new()), 5, bad);
        for dispatch in WITH_THREAD {
            for depth in [1, 3, 12, 64] {
                plugged(&need!(SlowFs::new()), depth, dispatch, bad);
            }
            for depth in [1, 3, 12] {
                pumped(&need!(SlowFs::new()), depth, dispatch, bad);
            }
        }
    }
}

#[test]
fn a_refused_request_gets_its_own_errno_and_the_others_complete_in_order() {
    need_root!();
    let _watchdog = kiocb_faults::Watchdog::new("refused requests");
    every_way();
}

#[test]
fn also_when_the_kernel_takes_two_at_a_time() {
    need_root!();
    let child = Child::of("also_when_the_kernel_takes_two_at_a_time");
    let (exit, seen) = child.run_limited(|asked| asked.min(2), every_way);
    exit.success();
    if !kiocb_faults::inside() {
        assert!(
            seen.iter().any(|call| call.asked > 2 && call.passed == 2),
            "groups were seen"
        );
    }
}

#[test]
fn also_when_it_takes_one_or_a_few_as_it_likes() {
    need_root!();
    let child = Child::of("also_when_it_takes_one_or_a_few_as_it_likes");
    let mut count = 0;
    let moody = move |asked: i64| {
        count += 1;
        asked.min([1, 5, 2, 7, 1, 3][count % 6])
    };
    let (exit, _) = child.run_limited(moody, every_way);
    exit.success();
}

#[test]
fn also_when_another_thread_submits_a_part_between_refusals() {
    need_root!();
    let test = "also_when_another_thread_submits_a_part_between_refusals";
    Child::of(test)
        .run(|| {
            need!(supervise(libc::SYS_io_submit, |call| {
                match (call.arguments[1], call.index % 5) {
                    (0 | 1, _) => Answer::Pass, // also what tries out a new context
                    (_, 0) => Answer::Only(3),
                    (_, 1 | 3) => Answer::Fail(libc::EAGAIN),
                    (_, 2) => Answer::Only(1),
                    _ => Answer::Pass,
                }
            }));
            for bad in [BAD[0], BAD[1], BAD[3], BAD[4]] {
                plugged(&need!(SlowFs::new()), 64, Dispatch::Thread, bad);
                plugged(&need!(SlowFs::new()), 3, Dispatch::Anywhere, bad);
                pumped(&need!(SlowFs::new()), 3, Dispatch::Thread, bad);
            }
        })
        .success();
}
