//! A process that dies in the middle of a fault leaves nothing behind and does not hang.
//!
//! Without the guardian each of these children, but for the one that panics and so runs its destructors,
//! would wait in the kernel for ever, unkillable: its AIO is in flight, and who should have completed it
//! is dead.

use std::ops::Range;
use std::thread;

use kiocb_faults::raw::{BLOCK, Driver};
use kiocb_faults::{
    Mount, SlowFs, Watchdog, in_child, need, need_root, thread_id, wait_until_asleep_in,
};
use nix::sys::signal::{Signal, raise};

const EVERYTHING: Range<u64> = 0..u64::MAX;

/// A file system that holds a read in flight, and the driver that waits for it.
fn held_read() -> std::io::Result<(SlowFs, kiocb_faults::Gate, Driver)> {
    let fs = SlowFs::new()?;
    let file = fs.file("f", vec![1; BLOCK]);
    let gate = fs.hold_reads(EVERYTHING);
    let mut driver = Driver::new(1)?;
    let read = driver.read(&file, 0);
    driver.submit(&[read])?;
    gate.wait_for(1);
    Ok((fs, gate, driver))
}

#[test]
fn sigkill_with_a_held_read() {
    need_root!();
    let exit = in_child("sigkill_with_a_held_read", || {
        let _held = need!(held_read());
        let _ = raise(Signal::SIGKILL);
    });
    exit.killed_by(libc::SIGKILL);
}

#[test]
fn abort_with_a_held_read() {
    need_root!();
    let exit = in_child("abort_with_a_held_read", || {
        let _held = need!(held_read());
        std::process::abort();
    });
    exit.killed_by(libc::SIGABRT);
}

#[test]
fn exit_with_a_held_read() {
    need_root!();
    let exit = in_child("exit_with_a_held_read", || {
        let _held = need!(held_read());
        std::process::exit(3);
    });
    exit.exited(3);
}

#[test]
fn panic_with_a_held_read() {
    need_root!();
    let exit = in_child("panic_with_a_held_read", || {
        let _held = need!(held_read());
        panic!("with a read in flight");
    });
    exit.exited(101);
}

#[test]
fn sigkill_with_a_frozen_file_system_and_a_writer_stuck_in_it() {
    need_root!();
    let exit = in_child(
        "sigkill_with_a_frozen_file_system_and_a_writer_stuck_in_it",
        || {
            let mount = need!(Mount::ext4(32 << 20));
            let file = mount.file("f", BLOCK, libc::O_DIRECT).unwrap();
            let _frozen = mount.freeze().unwrap();
            let (tell, told) = std::sync::mpsc::channel();
            thread::spawn(move || {
                let mut driver = Driver::new(1).unwrap();
                let write = driver.write(&file, 0, 1);
                tell.send(thread_id()).unwrap();
                driver.submit(&[write])
            });
            wait_until_asleep_in(told.recv().unwrap(), libc::SYS_io_submit);
            println!("device: {}", mount.loop_device().unwrap().path().display());
            let _ = raise(Signal::SIGKILL);
        },
    );
    exit.killed_by(libc::SIGKILL);
}

#[test]
fn a_guardian_of_a_living_process_does_nothing() {
    need_root!();
    let _watchdog = Watchdog::new("living process");
    let (fs, gate, mut driver) = need!(held_read());
    // Other children end meanwhile; each has guardians of its own.
    in_child("a_guardian_of_a_living_process_does_nothing", || ()).success();
    assert_eq!(driver.poll(), []);
    gate.release();
    assert_eq!(driver.finish(), [4096]);
    drop(fs);
}
