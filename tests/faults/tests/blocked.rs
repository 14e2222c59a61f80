//! `io_submit` blocked for as long as the test wants, in the three ways the lab has.

use std::thread;

use kiocb_faults::raw::{BLOCK, Driver};
use kiocb_faults::{
    MissingPages, Mount, SlowFs, Watchdog, need, need_root, thread_id, wait_until_asleep_in,
};

const B: u64 = BLOCK as u64;

/// What a blocked submission did not do: return.
#[track_caller]
fn still_blocked<T>(submitter: &thread::ScopedJoinHandle<'_, T>) {
    assert!(!submitter.is_finished(), "io_submit returned");
}

#[test]
fn a_write_on_a_frozen_file_system_blocks_its_submitter_and_nobody_else() {
    need_root!();
    let _watchdog = Watchdog::new("frozen write");
    let mount = need!(Mount::ext4(32 << 20));
    let file = mount.file("f", 4 * BLOCK, libc::O_DIRECT).unwrap();
    let frozen = mount.freeze().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let submitter = scope.spawn(|| {
            let mut driver = Driver::new(1).unwrap();
            let write = driver.write(&file, 0, 1);
            tell.send(thread_id()).unwrap();
            assert_eq!(driver.submit(&[write]).unwrap(), 1);
            driver.finish()
        });
        wait_until_asleep_in(told.recv().unwrap(), libc::SYS_io_submit);
        let mut other = Driver::new(1).unwrap();
        let read = other.read(&file, 0);
        assert_eq!(other.submit(&[read]).unwrap(), 1);
        assert_eq!(other.finish(), [4096]);
        still_blocked(&submitter);
        frozen.thaw();
        assert_eq!(submitter.join().unwrap(), [4096]);
    });
}

#[test]
fn missing_pages_block_their_submitter_until_they_are_filled() {
    need_root!();
    let _watchdog = Watchdog::new("missing pages");
    let pages = need!(MissingPages::new(1));
    let mount = need!(Mount::tmpfs(1 << 20));
    let file = mount.file("f", BLOCK, 0).unwrap();
    thread::scope(|scope| {
        let submitter = scope.spawn(|| {
            let mut driver = Driver::new(1).unwrap();
            let write = driver.write(&file, 0, 1);
            // SAFETY: the pages outlive the scope, and `finish` waits for the event.
            unsafe { driver.set_buffer(write, pages.as_mut_ptr()) };
            assert_eq!(driver.submit(&[write]).unwrap(), 1);
            driver.finish()
        });
        assert_eq!(pages.wait_for_fault(), 0);
        still_blocked(&submitter);
        pages.fill().unwrap();
        assert_eq!(submitter.join().unwrap(), [4096]);
    });
    assert_eq!(std::fs::read(mount.path().join("f")).unwrap(), [0; BLOCK]);
}

#[test]
fn dropping_missing_pages_fills_them() {
    need_root!();
    let _watchdog = Watchdog::new("dropped missing pages");
    let pages = need!(MissingPages::new(2));
    pages.fill().unwrap();
    pages.fill().unwrap(); // those that are there already are no error
    // SAFETY: inside the mapping, which is filled and ours.
    assert_eq!(unsafe { *pages.as_mut_ptr().add(pages.len() - 1) }, 0);
    drop(need!(MissingPages::new(1)));
}

#[test]
fn an_empty_pipe_blocks_its_submitter_until_there_is_something_to_read() {
    let _watchdog = Watchdog::new("empty pipe");
    let (reader, mut writer) = std::io::pipe().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let submitter = scope.spawn(|| {
            let mut driver = Driver::new(1).unwrap();
            let read = driver.read(&reader, 0);
            tell.send(thread_id()).unwrap();
            assert_eq!(driver.submit(&[read]).unwrap(), 1);
            driver.finish()
        });
        wait_until_asleep_in(told.recv().unwrap(), libc::SYS_io_submit);
        still_blocked(&submitter);
        std::io::Write::write_all(&mut writer, b"seven77").unwrap();
        assert_eq!(submitter.join().unwrap(), [7]);
    });
}

#[test]
fn a_slow_file_blocks_nobody_even_without_o_direct() {
    need_root!();
    let _watchdog = Watchdog::new("held read without O_DIRECT");
    let fs = need!(SlowFs::new());
    drop(fs.file("f", vec![5; BLOCK]));
    let file = fs.open("f", 0).unwrap();
    let gate = fs.hold_reads(0..B);
    let mut driver = Driver::new(1).unwrap();
    let read = driver.read(&file, 0);
    assert_eq!(driver.submit(&[read]).unwrap(), 1);
    gate.wait_for(1);
    gate.release();
    assert_eq!(driver.finish(), [4096]);
}
