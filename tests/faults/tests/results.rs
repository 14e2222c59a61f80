//! What the file says arrives as the result of its own request, and of no other.

mod kit;

use std::sync::Arc;
use std::sync::mpsc::channel;

use kiocb::AlignedBuf;
use kiocb::op::{Read, ReadV, WriteV};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{LoopDevice, Op, SlowFs, Watchdog, need, need_root};
use kit::*;

const ERRNOS: [i32; 7] = [
    libc::EIO,
    libc::ENOSPC,
    libc::EINTR,
    libc::EAGAIN,
    libc::ETIMEDOUT,
    libc::EDQUOT,
    libc::EROFS,
];

#[test]
fn an_errno_reaches_waiter_callback_and_future_and_spares_the_neighbours() {
    need_root!();
    let _watchdog = Watchdog::new("errno");
    for code in ERRNOS {
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(9)));
        let aio = aio(16);
        fs.on(Op::Read).at(B..2 * B).fail(code);
        fs.on(Op::Read).at(4 * B..5 * B).fail(code);
        fs.on(Op::Read).at(7 * B..8 * B).fail(code);
        let (done, completions) = channel();
        (3..6).for_each(|block| read_to(&aio, &file, block, &done));
        let futures = [6, 7, 8].map(|block| read(&aio, &file, block).start().unwrap());
        for block in 0..3 {
            let done = read(&aio, &file, block).wait().unwrap();
            check(&done, block, code);
        }
        for (done, block) in futures.map(block_on).iter().zip(6..) {
            check(done, block, code);
        }
        for _ in 3..6 {
            let done = receive(&completions);
            let failed = done.result.is_err();
            let block = if failed {
                4
            } else {
                u64::from(done.buf[0]) - 1
            };
            check(&done, block, code);
        }
        aio.drain().unwrap();
        assert_eq!((aio.stats().accepted, aio.stats().completed), (9, 9));
    }
}

/// Blocks 1, 4 and 7 failed with this errno and left their buffer alone; the others are right.
#[track_caller]
fn check(done: &Done, block: u64, code: i32) {
    if block % 3 != 1 {
        return verify(done, block);
    }
    assert_eq!(errno(&done.result), Some(code));
    assert!(done.buf.iter().all(|&byte| byte == 0));
}

#[test]
fn a_failed_write_changes_its_own_block_only_by_not_changing_it() {
    need_root!();
    let _watchdog = Watchdog::new("failed write");
    let fs = need!(SlowFs::new());
    let file = Arc::new(fs.file("f", blocks(4)));
    let aio = aio(8);
    fs.on(Op::Write).at(2 * B..3 * B).fail(libc::ENOSPC);
    let writes: Vec<_> = (0..4)
        .map(|block| write(&aio, &file, block, 9).start().unwrap())
        .collect();
    for (pending, block) in writes.into_iter().zip(0..) {
        let done = pending.wait();
        let wanted = if block == 2 {
            Err(libc::ENOSPC)
        } else {
            Ok(BLOCK)
        };
        assert_eq!(
            done.result.map_err(|error| error.raw_os_error().unwrap()),
            wanted
        );
        assert!(
            done.buf.iter().all(|&byte| byte == 9),
            "the memory comes back as it was"
        );
    }
    let wanted: Vec<u8> = [9, 9, 3, 9]
        .iter()
        .flat_map(|&byte| [byte; BLOCK])
        .collect();
    assert_eq!(fs.contents("f"), wanted);
}

#[test]
fn eintr_and_eagain_as_results_are_not_retried_behind_the_users_back() {
    need_root!();
    let _watchdog = Watchdog::new("eintr");
    for code in [libc::EINTR, libc::EAGAIN] {
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(1)));
        let aio = aio(2);
        fs.on(Op::Read).times(1).fail(code);
        let done = read(&aio, &file, 0).wait().unwrap();
        assert_eq!(errno(&done.result), Some(code));
        assert_eq!(fs.seen().len(), 1);
        verify(&read(&aio, &file, 0).wait().unwrap(), 0);
    }
}

#[test]
fn a_short_read_is_short_and_the_rest_of_its_buffer_untouched() {
    need_root!();
    let _watchdog = Watchdog::new("short read");
    let fs = need!(SlowFs::new());
    let file = Arc::new(fs.file("f", blocks(3)));
    let aio = aio(4);
    fs.on(Op::Read).at(B..2 * B).short(100);
    let reads = [0, 1, 2].map(|block| read(&aio, &file, block).start().unwrap());
    let done = reads.map(kiocb::Pending::wait);
    verify(&done[0], 0);
    verify(&done[2], 2);
    assert_eq!(done[1].result.as_ref().unwrap(), &100);
    assert!(done[1].buf[..100].iter().all(|&byte| byte == 2));
    assert!(done[1].buf[100..].iter().all(|&byte| byte == 0));
}

#[test]
fn a_short_read_into_a_vec_is_as_long_as_what_came() {
    need_root!();
    let _watchdog = Watchdog::new("short vec");
    let fs = need!(SlowFs::new());
    drop(fs.file("f", blocks(1)));
    let file = fs.open("f", 0).unwrap();
    let aio = aio(4);
    fs.on(Op::Read).short(10);
    let done = aio
        .alloc()
        .init_rw(file, Read, Vec::with_capacity(100), 0)
        .wait()
        .unwrap();
    assert_eq!((done.result.unwrap(), &done.buf[..]), (10, &[1_u8; 10][..]));
}

#[test]
fn a_vectored_request_fails_or_falls_short_as_one() {
    need_root!();
    let _watchdog = Watchdog::new("vectored");
    let fs = need!(SlowFs::new());
    let file = Arc::new(fs.file("f", blocks(4)));
    let aio = aio(4);
    let bufs = || vec![AlignedBuf::zeroed(BLOCK), AlignedBuf::zeroed(BLOCK)];
    fs.on(Op::Read).at(2 * B..4 * B).short(BLOCK + 512);
    let good = aio
        .alloc()
        .init_rw(Arc::clone(&file), ReadV, bufs(), 0)
        .wait()
        .unwrap();
    assert_eq!(good.result.unwrap(), 2 * BLOCK);
    assert!(good.buf[0].iter().all(|&byte| byte == 1) && good.buf[1].iter().all(|&byte| byte == 2));
    let short = aio
        .alloc()
        .init_rw(Arc::clone(&file), ReadV, bufs(), 2 * B)
        .wait()
        .unwrap();
    assert_eq!(short.result.unwrap(), BLOCK + 512);
    assert!(short.buf[1][..512].iter().all(|&byte| byte == 4));
    assert!(short.buf[1][512..].iter().all(|&byte| byte == 0));
    fs.on(Op::Write).fail(libc::EIO);
    let failed = aio.alloc().init_rw(file, WriteV, bufs(), 0).wait().unwrap();
    assert_eq!(errno(&failed.result), Some(libc::EIO));
    assert_eq!(fs.contents("f"), blocks(4));
}

#[test]
fn a_failed_sync_is_a_result() {
    need_root!();
    let _watchdog = Watchdog::new("sync");
    let fs = need!(SlowFs::new());
    let file = Arc::new(fs.file("f", blocks(1)));
    let aio = aio(4);
    fs.on(Op::Sync).times(1).fail(libc::EIO);
    let failed = aio.alloc().init_fsync(Arc::clone(&file)).wait().unwrap();
    assert_eq!(errno(&failed.result), Some(libc::EIO));
    let good = aio.alloc().init_fdsync(Arc::clone(&file)).wait().unwrap();
    assert_eq!(good.result.unwrap(), 0);
    assert_eq!(fs.offsets(Op::Sync).len(), 2);
}

#[test]
fn a_request_behind_a_failed_one_in_the_queue_goes_on() {
    need_root!();
    let _watchdog = Watchdog::new("behind a failed one");
    let fs = need!(SlowFs::new());
    let file = Arc::new(fs.file("f", blocks(200)));
    let aio = aio(1);
    fs.on(Op::Read).at(0..100 * B).fail(libc::EIO);
    let (done, completions) = channel();
    (0..200).for_each(|block| read_to(&aio, &file, block, &done));
    for block in 0..200 {
        let done = receive(&completions);
        match block {
            0..100 => assert_eq!(errno(&done.result), Some(libc::EIO)),
            _ => verify(&done, block),
        }
    }
    let wanted: Vec<u64> = (0..200).map(|block| block * B).collect();
    assert_eq!(fs.offsets(Op::Read), wanted);
}

#[test]
fn a_failing_disk_is_a_failing_request() {
    need_root!();
    let _watchdog = Watchdog::new("failing disk");
    let fs = need!(SlowFs::new());
    let backing = fs.file("disk", vec![1; 1 << 20]);
    let device = need!(LoopDevice::new(&backing));
    let disk = Arc::new(device.open(libc::O_DIRECT).unwrap());
    let aio = aio(8);
    fs.on_any().at(64 * B..65 * B).fail(libc::EIO);
    let reads = [0, 64, 128].map(|block| read(&aio, &disk, block).start().unwrap());
    let [first, bad, last] = reads.map(kiocb::Pending::wait);
    verify(&first, 0);
    assert_eq!(errno(&bad.result), Some(libc::EIO));
    verify(&last, 0);
    let bad = write(&aio, &disk, 64, 7).wait().unwrap();
    assert_eq!(errno(&bad.result), Some(libc::EIO));
}
