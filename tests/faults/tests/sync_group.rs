//! Sync groups on a file whose writes and syncs the test decides about: what the file server sees, and when.

mod kit;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use kiocb::{AlignedBuf, Completion, SyncGroup, SyncKind};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Op, SlowFs, Watchdog, need, need_root};
use kit::*;

/// A group over a file of nine blocks, and where its barriers report.
struct Setting {
    fs: SlowFs,
    group: SyncGroup<File>,
    report: Sender<(u32, io::Result<()>)>,
    reports: Receiver<(u32, io::Result<()>)>,
}

impl Setting {
    fn on(fs: SlowFs) -> Setting {
        let group = SyncGroup::new(&aio(32), fs.file("f", blocks(9)));
        let (report, reports) = channel();
        Setting {
            fs,
            group,
            report,
            reports,
        }
    }

    /// Writes the byte 99 to this block.
    fn write(&self, block: u64) {
        let buf = AlignedBuf::from(&[99; BLOCK]);
        let ignore = |done: Completion<Arc<File>, AlignedBuf>| drop(done);
        self.group.write(buf, block * B, ignore).expect("submitted");
    }

    fn barrier(&self, number: u32) {
        let report = self.report.clone();
        let callback = move |result| drop(report.send((number, result)));
        self.group
            .barrier(SyncKind::Data, callback)
            .expect("accepted");
    }

    #[track_caller]
    fn expect(&self, number: u32, code: Option<i32>) {
        let (came, result) = receive(&self.reports);
        assert_eq!((came, errno(&result)), (number, code));
    }

    fn syncs(&self) -> usize {
        self.fs.offsets(Op::Sync).len()
    }
}

#[test]
fn the_file_is_synced_once_the_last_write_before_the_barrier_is_answered() {
    need_root!();
    let _watchdog = Watchdog::new("barrier");
    let s = Setting::on(need!(SlowFs::new()));
    let gate = s.fs.hold_writes(0..9 * B);
    (0..3).for_each(|block| s.write(block));
    s.barrier(1);
    s.write(3);
    gate.wait_for(4);
    for _ in 0..2 {
        gate.let_through(1);
    }
    // Block 0 is still held, and so is block 3, which nobody waits for.
    assert_eq!(gate.held().len(), 2);
    let sync = s.fs.on(Op::Sync).hold();
    gate.let_through(0);
    sync.wait_for(1);
    let written = s.fs.contents("f");
    assert!(written[..3 * BLOCK].iter().all(|&byte| byte == 99));
    assert!(s.reports.try_recv().is_err());
    sync.release();
    s.expect(1, None);
    assert_eq!((s.syncs(), gate.held().len()), (1, 1));
}

/// (No write is submitted while a sync is held: the kernel lets neither overtake the other on one file, and
/// the submitter would wait.)
#[test]
fn barriers_that_come_while_a_sync_is_held_share_the_next() {
    need_root!();
    let _watchdog = Watchdog::new("coalesced");
    let s = Setting::on(need!(SlowFs::new()));
    let sync = s.fs.on(Op::Sync).hold();
    s.barrier(0);
    sync.wait_for(1);
    (1..=50).for_each(|number| s.barrier(number));
    assert_eq!(s.syncs(), 1);
    sync.let_through(0);
    s.expect(0, None);
    sync.wait_for(1);
    sync.release();
    (1..=50).for_each(|number| s.expect(number, None));
    assert_eq!(s.syncs(), 2);
}

#[test]
fn a_failed_sync_is_told_to_later_barriers_that_would_succeed() {
    need_root!();
    let _watchdog = Watchdog::new("fsyncgate");
    let s = Setting::on(need!(SlowFs::new()));
    let sync = s.fs.on(Op::Sync).hold();
    s.write(0);
    s.barrier(1);
    sync.wait_for(1);
    s.barrier(2); // waits for the next
    sync.fail_one(0, libc::EIO);
    s.expect(1, Some(libc::EIO));
    s.expect(2, Some(libc::EIO));
    sync.release();
    let refused = s.group.barrier(SyncKind::All, |_| unreachable!());
    let refused = refused.expect_err("the error stays");
    assert_eq!(refused.error().raw_os_error(), Some(libc::EIO));
    assert_eq!(s.syncs(), 1);
    // Whoever has seen to it goes on.
    assert!(s.group.take_error().is_some());
    s.write(0);
    s.barrier(3);
    s.expect(3, None);
}

#[test]
fn a_write_that_fails_in_the_middle_fails_its_barrier_and_no_earlier_one() {
    need_root!();
    let _watchdog = Watchdog::new("failed write");
    let s = Setting::on(need!(SlowFs::new()));
    let gate = s.fs.hold_writes(0..9 * B);
    s.write(0);
    s.barrier(1);
    s.write(1);
    s.barrier(2);
    gate.wait_for(2);
    gate.fail_one(1, libc::ENOSPC);
    gate.let_through(0);
    let mut reports = [receive(&s.reports), receive(&s.reports)];
    reports.sort_by_key(|(number, _)| *number);
    let codes = reports.map(|(_, result)| errno(&result));
    assert_eq!(codes, [None, Some(libc::ENOSPC)]);
}

#[test]
fn a_failed_sync_fails_its_commits_and_gives_their_buffers_back() {
    need_root!();
    let _watchdog = Watchdog::new("failed commit");
    let s = Setting::on(need!(SlowFs::new()));
    let sync = s.fs.on(Op::Sync).hold();
    let commit = s.group.commit(AlignedBuf::from(&[99; BLOCK]), 0);
    sync.wait_for(1);
    let commit = commit.wait_timeout(Duration::ZERO).expect_err("it is held");
    let waits = std::thread::spawn(|| commit.wait());
    sync.fail_one(0, libc::EIO);
    let error = waits.join().unwrap().unwrap_err();
    assert_eq!(error.errno(), Some(libc::EIO));
    assert_eq!(
        error.into_parts().1.expect("the write is over")[..],
        [99; BLOCK]
    );
    sync.release();
    let refused = s.group.sync(SyncKind::Data).wait();
    assert_eq!(errno(&refused), Some(libc::EIO), "it stays");
    assert!(s.group.take_error().is_some());
    s.group.sync(SyncKind::Data).wait().unwrap();
}
