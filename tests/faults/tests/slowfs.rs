//! The slow file system does what it says, seen by kernel AIO.

use std::os::unix::fs::FileExt as _;

use kiocb_faults::raw::{BLOCK, Driver};
use kiocb_faults::{LoopDevice, Op, SlowFs, Watchdog, need, need_root};

const B: u64 = BLOCK as u64;

/// Block `n` is full of the byte `n`.
fn blocks(count: u8) -> Vec<u8> {
    (0..count).flat_map(|number| vec![number; BLOCK]).collect()
}

#[test]
fn eight_held_reads_are_in_flight_at_once() {
    need_root!();
    let _watchdog = Watchdog::new("eight held reads");
    let fs = need!(SlowFs::new());
    let file = fs.file("f", blocks(8));
    let mut driver = Driver::new(8).unwrap();
    let gate = fs.hold_reads(0..u64::MAX);

    let reads: Vec<usize> = (0..8).map(|block| driver.read(&file, block * B)).collect();
    assert_eq!(driver.submit(&reads).unwrap(), 8); // would hang here if it were synchronous
    gate.wait_for(8);
    assert_eq!(driver.poll(), [], "no event before the gate is opened");

    gate.release();
    assert_eq!(driver.finish(), [4096; 8]);
    for (block, read) in reads.into_iter().enumerate() {
        assert!(
            driver
                .block(read)
                .iter()
                .all(|&byte| usize::from(byte) == block)
        );
    }
}

#[test]
fn three_hundred_requests_are_held_at_once() {
    need_root!();
    let _watchdog = Watchdog::new("three hundred held reads");
    let fs = need!(SlowFs::new());
    let file = fs.file("f", vec![7; 300 * BLOCK]);
    let mut driver = Driver::new(300).unwrap();
    let gate = fs.hold_reads(0..u64::MAX);
    let reads: Vec<usize> = (0..300)
        .map(|block| driver.read(&file, block * B))
        .collect();
    assert_eq!(driver.submit(&reads).unwrap(), 300);
    gate.wait_for(300);
    assert_eq!(driver.poll(), []);
    gate.release();
    assert_eq!(driver.finish(), [4096; 300]);
}

#[test]
fn requests_are_seen_in_the_order_of_submission() {
    need_root!();
    let _watchdog = Watchdog::new("order");
    let fs = need!(SlowFs::new());
    let file = fs.file("f", blocks(16));
    let mut driver = Driver::new(16).unwrap();
    let order = [3, 1, 4, 15, 9, 2, 6, 5];
    for &block in &order {
        let read = driver.read(&file, block * B);
        assert_eq!(driver.submit(&[read]).unwrap(), 1);
    }
    driver.finish();
    assert_eq!(fs.offsets(Op::Read), order.map(|block| block * B));
    assert_eq!(fs.offsets(Op::Write), []);
}

#[test]
fn held_requests_complete_in_the_order_the_test_chooses() {
    need_root!();
    let _watchdog = Watchdog::new("chosen order");
    let fs = need!(SlowFs::new());
    let file = fs.file("f", blocks(3));
    let mut driver = Driver::new(3).unwrap();
    let gate = fs.hold_reads(0..u64::MAX);
    let reads: Vec<usize> = (0..3).map(|block| driver.read(&file, block * B)).collect();
    assert_eq!(driver.submit(&reads).unwrap(), 3);
    gate.wait_for(3);
    for last in [2, 1, 0] {
        gate.let_through(last);
        assert_eq!(driver.wait(1)[0].request, reads[last]);
    }
    assert_eq!(gate.held(), []);
}

#[test]
fn only_the_range_of_the_gate_is_held() {
    need_root!();
    let _watchdog = Watchdog::new("range");
    let fs = need!(SlowFs::new());
    let file = fs.file("f", blocks(4));
    let mut driver = Driver::new(4).unwrap();
    let gate = fs.hold_reads(B..2 * B);
    let reads: Vec<usize> = (0..4).map(|block| driver.read(&file, block * B)).collect();
    assert_eq!(driver.submit(&reads).unwrap(), 4);
    let mut others: Vec<usize> = driver.wait(3).iter().map(|done| done.request).collect();
    others.sort_unstable();
    assert_eq!(others, [reads[0], reads[2], reads[3]]);
    assert_eq!(gate.held()[0].offset, B);
    drop(gate);
    assert_eq!(driver.finish(), [4096]);
}

#[test]
fn every_errno_of_the_server_is_the_result_of_its_own_request_alone() {
    need_root!();
    let _watchdog = Watchdog::new("errno");
    let fs = need!(SlowFs::new());
    let file = fs.file("f", blocks(3));
    for errno in [
        libc::EIO,
        libc::ENOSPC,
        libc::EINTR,
        libc::EAGAIN,
        libc::ETIMEDOUT,
        libc::EDQUOT,
    ] {
        fs.forget_rules();
        fs.on_any().at(B..2 * B).fail(errno);
        let mut driver = Driver::new(8).unwrap();
        let reads: Vec<usize> = (0..3).map(|block| driver.read(&file, block * B)).collect();
        let writes: Vec<usize> = (0..3)
            .map(|block| driver.write(&file, block * B, 9))
            .collect();
        let all = [reads, writes].concat();
        assert_eq!(driver.submit(&all).unwrap(), 6);
        let failed = -i64::from(errno);
        assert_eq!(driver.finish(), [4096, failed, 4096, 4096, failed, 4096]);
    }
}

#[test]
fn a_rule_counts_what_it_skips_and_what_it_takes() {
    need_root!();
    let _watchdog = Watchdog::new("counts");
    let fs = need!(SlowFs::new());
    let file = fs.file("f", blocks(1));
    fs.on(Op::Read).after(1).times(2).fail(libc::EIO);
    let mut driver = Driver::new(1).unwrap();
    let mut results = Vec::new();
    for _ in 0..5 {
        let read = driver.read(&file, 0);
        assert_eq!(driver.submit(&[read]).unwrap(), 1);
        results.extend(driver.finish());
    }
    let failed = -i64::from(libc::EIO);
    assert_eq!(results, [4096, failed, failed, 4096, 4096]);
}

#[test]
fn a_rule_for_one_file_leaves_the_other_alone() {
    need_root!();
    let _watchdog = Watchdog::new("files");
    let fs = need!(SlowFs::new());
    let (bad, good) = (fs.file("bad", blocks(1)), fs.file("good", blocks(1)));
    fs.on(Op::Read).in_file("bad").fail(libc::EIO);
    let mut driver = Driver::new(2).unwrap();
    let reads = [driver.read(&bad, 0), driver.read(&good, 0)];
    assert_eq!(driver.submit(&reads).unwrap(), 2);
    assert_eq!(driver.finish(), [-i64::from(libc::EIO), 4096]);
}

#[test]
fn a_short_read_is_short() {
    need_root!();
    let _watchdog = Watchdog::new("short read");
    let fs = need!(SlowFs::new());
    let file = fs.file("f", blocks(2));
    fs.on(Op::Read).at(B..2 * B).short(100);
    let mut driver = Driver::new(2).unwrap();
    let reads = [driver.read(&file, 0), driver.read(&file, B)];
    assert_eq!(driver.submit(&reads).unwrap(), 2);
    assert_eq!(driver.finish(), [4096, 100]);
    assert!(driver.block(reads[1])[..100].iter().all(|&byte| byte == 1));
}

#[test]
fn reads_end_at_the_end_of_the_file() {
    need_root!();
    let _watchdog = Watchdog::new("end of file");
    let fs = need!(SlowFs::new());
    let file = fs.file("f", vec![1; BLOCK + 10]);
    let mut driver = Driver::new(2).unwrap();
    let reads = [driver.read(&file, B), driver.read(&file, 2 * B)];
    assert_eq!(driver.submit(&reads).unwrap(), 2);
    assert_eq!(driver.finish(), [10, 0]);
}

#[test]
fn what_was_written_is_in_the_file_once_the_gate_is_open() {
    need_root!();
    let _watchdog = Watchdog::new("contents");
    let fs = need!(SlowFs::new());
    let file = fs.file("f", vec![0; 2 * BLOCK]);
    let gate = fs.hold_writes(0..u64::MAX);
    let mut driver = Driver::new(2).unwrap();
    let writes = [driver.write(&file, 0, 5), driver.write(&file, B, 6)];
    assert_eq!(driver.submit(&writes).unwrap(), 2);
    gate.wait_for(2);
    assert_eq!(fs.contents("f"), vec![0; 2 * BLOCK]);
    gate.release();
    assert_eq!(driver.finish(), [4096, 4096]);
    assert_eq!(fs.contents("f"), [vec![5; BLOCK], vec![6; BLOCK]].concat());
}

#[test]
fn a_held_request_can_be_failed_or_cut_one_by_one() {
    need_root!();
    let _watchdog = Watchdog::new("one by one");
    let fs = need!(SlowFs::new());
    let file = fs.file("f", blocks(4));
    let gate = fs.hold_reads(0..u64::MAX);
    let mut driver = Driver::new(4).unwrap();
    let reads: Vec<usize> = (0..4).map(|block| driver.read(&file, block * B)).collect();
    assert_eq!(driver.submit(&reads).unwrap(), 4);
    gate.wait_for(4);
    gate.fail_one(0, libc::EIO);
    gate.cut_one(0, 512);
    gate.let_through(0);
    gate.fail(libc::ENOSPC);
    assert_eq!(
        driver.finish(),
        [-i64::from(libc::EIO), 512, 4096, -i64::from(libc::ENOSPC)]
    );
}

#[test]
fn a_request_never_answered_ends_with_the_connection() {
    need_root!();
    let _watchdog = Watchdog::new("never answered");
    let fs = need!(SlowFs::new());
    let file = fs.file("f", blocks(1));
    fs.on(Op::Read).never();
    let mut driver = Driver::new(1).unwrap();
    let read = driver.read(&file, 0);
    assert_eq!(driver.submit(&[read]).unwrap(), 1);
    fs.wait_for_seen(1);
    assert_eq!(driver.poll(), []);
    fs.abort();
    assert_eq!(driver.finish(), [-i64::from(libc::ECONNABORTED)]);

    let late = driver.read(&file, 0);
    assert_eq!(driver.submit(&[late]).unwrap(), 1);
    assert_eq!(driver.finish(), [-i64::from(libc::ENOTCONN)]);
}

#[test]
fn dropping_the_file_system_ends_what_is_held() {
    need_root!();
    let _watchdog = Watchdog::new("drop");
    let fs = need!(SlowFs::new());
    let file = fs.file("f", blocks(1));
    let gate = fs.hold_reads(0..u64::MAX);
    let mut driver = Driver::new(1).unwrap();
    let read = driver.read(&file, 0);
    assert_eq!(driver.submit(&[read]).unwrap(), 1);
    gate.wait_for(1);
    drop(fs);
    assert_eq!(driver.finish(), [-i64::from(libc::ECONNABORTED)]);
}

#[test]
fn syncs_are_counted_and_can_fail() {
    need_root!();
    let _watchdog = Watchdog::new("sync");
    let fs = need!(SlowFs::new());
    let file = fs.file("f", blocks(1));
    file.sync_all().unwrap();
    fs.on(Op::Sync).fail(libc::EIO);
    assert_eq!(
        file.sync_data().unwrap_err().raw_os_error(),
        Some(libc::EIO)
    );
    assert_eq!(fs.offsets(Op::Sync).len(), 2);
}

#[test]
fn a_file_can_be_made_longer() {
    need_root!();
    let _watchdog = Watchdog::new("longer");
    let fs = need!(SlowFs::new());
    let file = fs.file("f", Vec::new());
    file.set_len(B).unwrap();
    assert_eq!(file.metadata().unwrap().len(), B);
    assert_eq!(fs.contents("f"), vec![0; BLOCK]);
}

#[test]
fn two_file_systems_do_not_know_each_other() {
    need_root!();
    let _watchdog = Watchdog::new("two file systems");
    let (one, other) = (need!(SlowFs::new()), need!(SlowFs::new()));
    let (_one_file, other_file) = (one.file("f", blocks(1)), other.file("f", vec![7; BLOCK]));
    one.abort();
    let plain = other.open("f", 0).unwrap();
    let mut byte = [0];
    plain.read_exact_at(&mut byte, 0).unwrap();
    assert_eq!(byte, [7]);
    drop(other_file);
}

#[test]
fn a_loop_device_over_it_is_a_slow_and_failing_disk() {
    need_root!();
    let _watchdog = Watchdog::new("loop over slow file");
    let fs = need!(SlowFs::new());
    let backing = fs.file("disk", vec![3; 1 << 20]);
    let device = need!(LoopDevice::new(&backing));
    assert_eq!(device.size().unwrap(), 1 << 20);
    let disk = device.open(libc::O_DIRECT).unwrap();
    let mut driver = Driver::new(8).unwrap();

    let gate = fs.hold_reads(0..4 * B);
    let reads: Vec<usize> = (0..4).map(|block| driver.read(&disk, block * B)).collect();
    assert_eq!(driver.submit(&reads).unwrap(), 4);
    gate.wait_for(1); // the block layer may merge
    assert_eq!(driver.poll(), []);
    gate.release();
    assert_eq!(driver.finish(), [4096; 4]);

    fs.on(Op::Read).at(64 * B..65 * B).fail(libc::EIO);
    let reads = [driver.read(&disk, 64 * B), driver.read(&disk, 128 * B)];
    assert_eq!(driver.submit(&reads).unwrap(), 2);
    assert_eq!(driver.finish(), [-i64::from(libc::EIO), 4096]);
}
