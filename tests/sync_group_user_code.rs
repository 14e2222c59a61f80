//! The user's code that a sync group calls (callbacks, what they capture, what their panics carry, what
//! `{:?}` writes to, errors that are formatted): no lock is held meanwhile, and a panic loses nothing.

mod common;

use common::*;
use kiocb::{Aio, Dispatch, SyncGroup, SyncKind};
use std::error::Error;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

type Group = SyncGroup<File>;

fn group() -> Group {
    SyncGroup::new(&aio(), scratch())
}

fn eio() -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::EIO))
}

/// What a panic carries, and that panics when it is dropped.
struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        resume_unwind(Box::new("in drop"));
    }
}

/// Panics without a message on the terminal.
fn burst(payload: impl Send + 'static) -> ! {
    resume_unwind(Box::new(payload))
}

/// A barrier's callback that counts its call.
fn counting(called: &Counter) -> impl FnOnce(io::Result<()>) + Send + 'static {
    let called = called.clone();
    move |_| {
        called.add();
    }
}

/// Uses the group, in every way that takes its lock.
fn use_group(group: &Group) {
    group.track().end(&Ok(()));
    drop(format!("{group:?}"));
    group.barrier(SyncKind::Data, drop).unwrap();
    assert!(group.take_error().is_none());
}

#[test]
fn a_file_and_an_arc_of_a_file_are_inferred() {
    let file = Arc::new(scratch());
    let groups = (
        SyncGroup::new(&aio(), scratch()),
        SyncGroup::new(&aio(), Arc::clone(&file)),
        SyncGroup::from_arc(&aio(), Arc::clone(&file)),
    );
    assert!(Arc::ptr_eq(&**groups.1.file(), &file));
    assert!(Arc::ptr_eq(groups.2.file(), &file));
}

#[test]
fn barriers_behind_panics_are_called_whatever_these_carry() {
    let (group, called) = (group(), Counter::default());
    let write = group.track();
    group.barrier(SyncKind::Data, |_| burst(1)).unwrap();
    for _ in 0..2 {
        let panics = |_| burst(PanicsInDrop);
        group.barrier(SyncKind::Data, panics).unwrap();
        group.barrier(SyncKind::Data, counting(&called)).unwrap();
    }
    let panic = catch_unwind(AssertUnwindSafe(|| write.end(&eio()))).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&1), "the first one goes on");
    assert_eq!(called.get(), 2);
}

#[test]
fn panics_during_a_panic_do_not_abort() {
    let (group, called) = (group(), Counter::default());
    let write = group.track();
    let panics = |_| burst(PanicsInDrop);
    group.barrier(SyncKind::Data, panics).unwrap();
    group.barrier(SyncKind::Data, counting(&called)).unwrap();
    let unwinds = AssertUnwindSafe(|| -> () {
        let _write = write; // its drop calls the barriers
        burst(7)
    });
    let panic = catch_unwind(unwinds).unwrap_err();
    assert_eq!((panic.downcast_ref(), called.get()), (Some(&7), 1));
}

#[test]
fn a_write_and_the_barriers_that_it_fails_may_all_panic() {
    for dispatch in [Dispatch::Thread, Dispatch::Manual] {
        let _watchdog = watchdog();
        let aio = build(Aio::builder().dispatch(dispatch));
        let group = SyncGroup::new(&aio, scratch());
        let (called, failing) = (Counter::default(), group.track());
        let made = Latch::default();
        let gate = made.clone();
        let later = move |_| {
            gate.wait();
            drop(failing);
            burst(PanicsInDrop)
        };
        group.write("x", 0, later).unwrap();
        group
            .barrier(SyncKind::Data, |result| burst(result.is_err()))
            .unwrap();
        let count = called.clone();
        let counts = move |result: io::Result<()>| {
            assert!(result.is_err());
            count.add();
        };
        group.barrier(SyncKind::Data, counts).unwrap();
        made.open();
        aio.drain().unwrap();
        assert_eq!((called.get(), aio.stats().panics), (1, 1), "{dispatch:?}");
        // And it goes on.
        assert!(group.take_error().is_some());
        let count = called.clone();
        let counts = move |result: io::Result<()>| {
            result.unwrap();
            count.add();
        };
        group.barrier(SyncKind::All, counts).unwrap();
        aio.drain().unwrap();
        assert_eq!(called.get(), 2, "{dispatch:?}");
    }
}

/// Uses the group when it is dropped.
struct UsesGroup(Group);

impl Drop for UsesGroup {
    fn drop(&mut self) {
        use_group(&self.0);
    }
}

#[test]
fn callbacks_and_what_they_capture_may_use_the_group() {
    let _watchdog = watchdog();
    let aio = aio();
    let group = SyncGroup::new(&aio, scratch());
    let captured = UsesGroup(group.clone());
    let callback = move |result: io::Result<()>| {
        result.unwrap();
        use_group(&captured.0);
    };
    group.barrier(SyncKind::Data, callback).unwrap();
    let captured = UsesGroup(group.clone());
    group.write("x", 0, move |_| drop(captured)).unwrap();
    aio.drain().unwrap();
}

/// Uses the group while `{:?}` is writing.
struct WritesToGroup(Group);

impl fmt::Write for WritesToGroup {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        use_group(&self.0);
        Ok(())
    }
}

#[test]
fn no_lock_is_held_while_a_group_is_shown() {
    let _watchdog = watchdog();
    let group = group();
    let (mut writer, write) = (WritesToGroup(group.clone()), group.track());
    write!(writer, "{group:?}").unwrap();
    write.end(&Ok(()));
    group.track().end(&eio());
    let shown = format!("{group:?}");
    assert!(
        shown.contains("writes: 0") && shown.contains("error: Some"),
        "{shown}"
    );
}

/// An error of the user's, with a text that uses the group, or panics.
struct HostileError(Option<Group>);

impl fmt::Display for HostileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(group) => use_group(group),
            None => burst("in fmt"),
        }
        f.write_str("hostile")
    }
}

impl fmt::Debug for HostileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for HostileError {}

#[test]
fn the_text_of_an_error_may_use_the_group_or_panic() {
    let _watchdog = watchdog();
    let aio = aio();
    let group = SyncGroup::new(&aio, scratch());
    let hostile = |inner| Err::<(), _>(io::Error::other(HostileError(inner)));
    group.track().end(&hostile(Some(group.clone())));
    assert_eq!(group.take_error().unwrap().to_string(), "hostile");

    let (called, write) = (Counter::default(), group.track());
    let count = called.clone();
    let counts = move |result: io::Result<()>| {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
        count.add();
    };
    group.barrier(SyncKind::Data, counts).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| write.end(&hostile(None)))).is_err());
    assert_eq!(called.get(), 1);
    aio.drain().unwrap();
}

/// A file that panics when it is asked for its descriptor, if told to.
struct PanicsAsFd(File, AtomicBool);

impl AsFd for PanicsAsFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        if self.1.load(Ordering::SeqCst) {
            burst("in as_fd");
        }
        self.0.as_fd()
    }
}

#[test]
fn a_file_that_panics_when_it_is_synced_loses_no_barrier() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().dispatch(Dispatch::Manual));
    let group = SyncGroup::new(&aio, PanicsAsFd(scratch(), false.into()));
    let (called, write) = (Counter::default(), group.track());
    for _ in 0..2 {
        group.barrier(SyncKind::Data, counting(&called)).unwrap();
    }
    group.file().1.store(true, Ordering::SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| write.end(&Ok(())))).is_err());
    assert_eq!(called.get(), 2);
    let barrier = || group.barrier(SyncKind::Data, counting(&called));
    assert!(catch_unwind(AssertUnwindSafe(barrier)).is_err());
    assert_eq!(called.get(), 3);
    // Nothing was lost, so nothing stays.
    group.file().1.store(false, Ordering::SeqCst);
    group.barrier(SyncKind::Data, counting(&called)).unwrap();
    aio.drain().unwrap();
    assert_eq!(called.get(), 4);
}
