//! Skips are loud, waits are bounded.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use kiocb_faults::{
    Child, PATIENCE, Watchdog, is_asleep_in, need, skip, thread_id, wait_until_asleep_in,
};

fn cannot() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[test]
fn a_skip_gives_its_reason_and_returns() {
    let child = Child::of("a_skip_gives_its_reason_and_returns").env("KIOCB_CI", "0");
    let exit = child.run(|| {
        fn skips() {
            skip!("only a {}", "trial");
        }
        fn needs() {
            need!(cannot());
            unreachable!();
        }
        skips();
        needs();
    });
    exit.success();
    exit.said("only a trial");
    exit.said("cannot(): unsupported");
}

#[test]
fn where_nothing_may_be_skipped_a_skip_fails() {
    let child = Child::of("where_nothing_may_be_skipped_a_skip_fails").env("KIOCB_CI", "1");
    let exit = child.run(|| skip!("no reason"));
    exit.exited(101);
    exit.said("forbids skipping, but: no reason");
}

#[test]
fn a_watchdog_acts_when_it_is_kept_too_long() {
    let (tell, told) = mpsc::channel();
    let _watchdog = Watchdog::with(Duration::ZERO, move || tell.send(()).unwrap());
    told.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_watchdog_dropped_in_time_does_not_act() {
    let (tell, told) = mpsc::channel::<()>();
    drop(Watchdog::with(PATIENCE, move || tell.send(()).unwrap()));
    assert_eq!(told.recv(), Err(mpsc::RecvError));
}

#[test]
fn a_sleeping_thread_is_seen_where_it_sleeps() {
    let _watchdog = Watchdog::new("sleeping thread");
    let (mut reader, writer) = io::pipe().unwrap();
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        tell.send(thread_id()).unwrap();
        io::Read::read(&mut reader, &mut [0]).unwrap()
    });
    let id = told.recv().unwrap();
    wait_until_asleep_in(id, libc::SYS_read);
    assert!(!is_asleep_in(id, libc::SYS_io_submit));
    drop(writer);
    assert_eq!(thread.join().unwrap(), 0);
}
