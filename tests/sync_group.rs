//! Sync groups: barriers wait for the writes before them, share syncs, and never hide an error.

mod common;

use common::*;
use kiocb::op::{Write, WriteV};
use kiocb::{Aio, AioError, Dispatch, Iocb, SyncGroup, SyncKind};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What happened, in order.
#[derive(Clone, Default)]
struct Story(Arc<Mutex<Vec<String>>>);

impl Story {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    /// All since the last time.
    fn tell(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// A barrier's callback that adds its name, and `!` and the errno when it fails.
    fn barrier(&self, name: &str) -> impl FnOnce(io::Result<()>) + Send + 'static {
        let (story, name) = (self.clone(), name.to_owned());
        move |result| {
            story.add(match result {
                Ok(()) => name,
                Err(error) => format!("{name}!{}", error.raw_os_error().unwrap_or(-1)),
            })
        }
    }

    /// A write's callback that adds its name.
    fn write<D>(&self, name: &str) -> impl FnOnce(D) + Send + 'static {
        let (story, name) = (self.clone(), name.to_owned());
        move |_| story.add(name)
    }
}

/// A context on which nothing happens but in [`run`].
fn manual() -> Aio {
    build(Aio::builder().dispatch(Dispatch::Manual))
}

/// Lets one callback run.
fn one(aio: &Aio) {
    assert_eq!(aio.poll(1, 1, None).unwrap(), 1);
}

/// Lets everything happen.
fn run(aio: &Aio) {
    aio.drain().unwrap();
}

fn errno<T>(result: &io::Result<T>) -> Option<i32> {
    result.as_ref().err().and_then(io::Error::raw_os_error)
}

/// How many syncs there were: what was accepted and was no write.
fn syncs(aio: &Aio, writes: u64) -> u64 {
    aio.stats().accepted - writes
}

#[test]
fn a_barrier_is_called_after_the_writes_before_it_and_a_sync() {
    let (aio, story) = (manual(), Story::default());
    let group = SyncGroup::new(&aio, scratch());
    group.write("one", 0, story.write("write 1")).unwrap();
    group.write("two", 3, story.write("write 2")).unwrap();
    group
        .barrier(SyncKind::Data, story.barrier("barrier"))
        .unwrap();
    group.write("late", 6, story.write("write 3")).unwrap();
    assert_eq!(syncs(&aio, 3), 0);
    one(&aio);
    assert_eq!(syncs(&aio, 3), 0);
    one(&aio);
    assert_eq!(syncs(&aio, 3), 1);
    run(&aio);
    let told = story.tell();
    let place = |what: &str| told.iter().position(|event| event == what).unwrap();
    assert_eq!(told.len(), 4);
    assert!(place("barrier") > place("write 1").max(place("write 2")));
}

#[test]
fn without_writes_a_barrier_is_a_sync() {
    let (aio, story) = (manual(), Story::default());
    let group = SyncGroup::new(&aio, scratch());
    for kind in [SyncKind::Data, SyncKind::All] {
        group.barrier(kind, story.barrier("barrier")).unwrap();
        assert_eq!(story.tell(), [""; 0]);
        run(&aio);
        assert_eq!(story.tell(), ["barrier"]);
    }
    assert_eq!(syncs(&aio, 0), 2);
}

#[test]
fn barriers_that_come_while_a_sync_runs_share_the_next_one() {
    let (aio, story) = (manual(), Story::default());
    let group = SyncGroup::new(&aio, scratch());
    group
        .barrier(SyncKind::Data, story.barrier("first"))
        .unwrap();
    for _ in 0..100 {
        group
            .barrier(SyncKind::Data, story.barrier("other"))
            .unwrap();
    }
    assert_eq!(syncs(&aio, 0), 1);
    run(&aio);
    assert_eq!(syncs(&aio, 0), 2);
    let told = story.tell();
    assert_eq!((told.len(), &*told[0]), (101, "first"));
}

#[test]
fn barriers_that_wait_for_one_write_share_one_sync() {
    let (aio, story) = (manual(), Story::default());
    let group = SyncGroup::new(&aio, scratch());
    let write = group.track();
    for name in ["a", "b", "c"] {
        group.barrier(SyncKind::Data, story.barrier(name)).unwrap();
        // Later writes don't hold up what was before them.
        group.write("x", 0, |_| {}).unwrap();
    }
    run(&aio);
    assert_eq!((syncs(&aio, 3), story.tell().len()), (0, 0));
    write.end(&Ok(1));
    run(&aio);
    assert_eq!(syncs(&aio, 3), 1);
    assert_eq!(story.tell(), ["a", "b", "c"]);
}

#[test]
fn a_barrier_between_two_writes_waits_for_the_first_alone() {
    let (aio, story) = (manual(), Story::default());
    let group = SyncGroup::new(&aio, scratch());
    let first = group.track();
    group
        .barrier(SyncKind::Data, story.barrier("barrier"))
        .unwrap();
    let second = group.track();
    first.end(&Ok(()));
    run(&aio);
    assert_eq!(story.tell(), ["barrier"]);
    second.end(&Ok(()));
}

#[test]
fn a_failed_write_fails_the_barriers_after_it_without_a_sync() {
    let (aio, story) = (manual(), Story::default());
    let group = SyncGroup::new(&aio, bounded());
    let before = group.track();
    group
        .barrier(SyncKind::Data, story.barrier("before"))
        .unwrap();
    group
        .write("lost", BEYOND, |done| {
            assert_eq!(errno(&done.result), Some(libc::EPERM));
            assert_eq!(done.buf, "lost");
        })
        .unwrap();
    group
        .barrier(SyncKind::Data, story.barrier("after"))
        .unwrap();
    run(&aio);
    // It has failed, and still waits for what was before it.
    assert_eq!(story.tell(), [""; 0]);
    before.end(&Ok(()));
    assert_eq!(story.tell(), ["after!1"]);
    run(&aio);
    assert_eq!(story.tell(), ["before"]);
    assert_eq!(syncs(&aio, 1), 1);
}

#[test]
fn an_error_stays_until_it_is_taken() {
    let (aio, story) = (manual(), Story::default());
    let group = SyncGroup::new(&aio, bounded());
    group.write("lost", BEYOND, |_| {}).unwrap();
    run(&aio);
    for _ in 0..2 {
        let refused = group.barrier(SyncKind::Data, story.barrier("refused"));
        let (error, callback) = refused.unwrap_err().into_parts();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        callback(Ok(())); // not called so far, and whole
        assert_eq!(story.tell(), ["refused"]);
    }
    let taken = group.take_error().unwrap();
    assert_eq!(taken.raw_os_error(), Some(libc::EPERM));
    assert!(group.take_error().is_none());
    group
        .write("kept", 0, |done| assert_eq!(done.result.unwrap(), 4))
        .unwrap();
    group
        .barrier(SyncKind::Data, story.barrier("durable"))
        .unwrap();
    run(&aio);
    assert_eq!(story.tell(), ["durable"]);
}

#[test]
fn an_error_that_is_taken_does_not_help_who_waited_already() {
    let (aio, story) = (manual(), Story::default());
    let group = SyncGroup::new(&aio, bounded());
    let slow = group.track();
    group.write("lost", BEYOND, |_| {}).unwrap();
    group
        .barrier(SyncKind::Data, story.barrier("waiting"))
        .unwrap();
    run(&aio);
    assert!(group.take_error().is_some());
    slow.end(&Ok(()));
    assert_eq!(story.tell(), ["waiting!1"]);
}

/// A file whose syncs are refused when they are told to be: then it is a pipe.
struct Fickle {
    file: File,
    pipe: io::PipeReader,
    is_pipe: std::sync::atomic::AtomicBool,
}

impl Fickle {
    fn new() -> Fickle {
        Fickle {
            file: scratch(),
            pipe: io::pipe().unwrap().0,
            is_pipe: false.into(),
        }
    }

    fn be_pipe(&self, pipe: bool) {
        self.is_pipe.store(pipe, Ordering::SeqCst);
    }
}

impl AsFd for Fickle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        if self.is_pipe.load(Ordering::SeqCst) {
            self.pipe.as_fd()
        } else {
            self.file.as_fd()
        }
    }
}

#[test]
fn a_sync_that_is_refused_gives_back_the_callback_and_leaves_no_error() {
    let (aio, story) = (manual(), Story::default());
    let group = SyncGroup::new(&aio, Fickle::new());
    group.file().be_pipe(true);
    let refused = group.barrier(SyncKind::Data, story.barrier("a"));
    assert_eq!(
        refused.unwrap_err().error().raw_os_error(),
        Some(libc::EINVAL)
    );
    group.file().be_pipe(false);
    group.barrier(SyncKind::Data, story.barrier("b")).unwrap();
    run(&aio);
    assert_eq!(story.tell(), ["b"]);
}

#[test]
fn a_sync_that_fails_fails_everybody_and_stays() {
    let (aio, story) = (manual(), Story::default());
    let group = SyncGroup::new(&aio, Fickle::new());
    // Submitted inside a callback it is accepted, and refused later.
    let file = Arc::clone(group.file());
    group.write("x", 0, move |_| file.be_pipe(true)).unwrap();
    let slow = group.track();
    group
        .barrier(SyncKind::All, story.barrier("later"))
        .unwrap();
    drop(slow); // fails it
    run(&aio);
    assert_eq!(story.tell(), [format!("later!{}", libc::ECANCELED)]);
    assert!(group.take_error().is_some());

    group.file().be_pipe(false);
    let file = Arc::clone(group.file());
    group.write("x", 0, move |_| file.be_pipe(true)).unwrap();
    group
        .barrier(SyncKind::All, story.barrier("synced"))
        .unwrap();
    let slow = group.track();
    group
        .barrier(SyncKind::All, story.barrier("waiting"))
        .unwrap();
    run(&aio);
    group.file().be_pipe(false);
    assert_eq!(story.tell(), [format!("synced!{}", libc::EINVAL)]);
    let refused = group.barrier(SyncKind::Data, |_| {}).unwrap_err();
    assert_eq!(refused.error().raw_os_error(), Some(libc::EINVAL));
    slow.end(&Ok(()));
    assert_eq!(story.tell(), [format!("waiting!{}", libc::EINVAL)]);
}

#[test]
fn a_refused_write_comes_back_whole_and_still_counts() {
    let (aio, story) = (manual(), Story::default());
    let path = tempfile::NamedTempFile::new().unwrap();
    let group = SyncGroup::new(&aio, File::open(path.path()).unwrap()); // for reading
    let refused = group.write("text", 0, story.write("write")).unwrap_err();
    assert_eq!(refused.error().raw_os_error(), Some(libc::EBADF));
    group
        .barrier(SyncKind::Data, story.barrier("barrier"))
        .unwrap();
    run(&aio);
    assert_eq!(story.tell(), [""; 0]); // the barrier waits for what may be submitted again
    let refused = refused.into_request().submit().unwrap_err();
    let (text, _callback, write) = refused.into_request().into_parts();
    assert_eq!(text, "text");
    assert_eq!(story.tell(), [""; 0]);
    drop(write);
    assert_eq!(story.tell(), [format!("barrier!{}", libc::ECANCELED)]);
}

#[test]
fn other_ways_to_write_are_tracked_by_hand() {
    let (aio, story) = (aio(), Story::default());
    let group = SyncGroup::new(&aio, scratch());
    let (waited, started) = (group.track(), group.track());
    group
        .barrier(SyncKind::Data, story.barrier("barrier"))
        .unwrap();
    let file = group.file().clone();
    let pending = aio.alloc().init_rw(file, WriteV, ["a", "b"], 2).start();
    let file = group.file().clone();
    let done = Iocb::alloc().init_rw(file, Write, "ab", 0).wait().unwrap();
    waited.end(&done.result);
    let done = pending.unwrap().wait();
    assert_eq!(story.tell(), [""; 0]);
    started.end(&done.result);
    aio.drain().unwrap();
    assert_eq!(story.tell(), ["barrier"]);
}

#[test]
fn a_durable_write_needs_no_barrier() {
    let (aio, story) = (manual(), Story::default());
    let group = SyncGroup::new(&aio, scratch());
    let told = story.clone();
    group
        .write_durable("text", 0, move |done| {
            told.add(format!("{:?}", done.result))
        })
        .unwrap();
    run(&aio);
    assert_eq!(story.tell(), ["Ok(4)"]);
    assert_eq!(syncs(&aio, 1), 0);
}

#[test]
fn callbacks_may_panic_write_and_make_barriers() {
    let (aio, story) = (aio(), Story::default());
    let group = SyncGroup::new(&aio, scratch());
    let busy = keep_busy(&aio);
    let (inner, told) = (group.clone(), story.clone());
    group
        .write("x", 0, move |_| {
            inner.write("y", 1, told.write("inner write")).unwrap();
            inner
                .barrier(SyncKind::Data, told.barrier("inner barrier"))
                .unwrap();
            panic!("as it was told to");
        })
        .unwrap();
    group
        .barrier(SyncKind::Data, |_| panic!("as it was told to"))
        .unwrap();
    group
        .barrier(SyncKind::Data, story.barrier("outer barrier"))
        .unwrap();
    busy.release();
    aio.drain().unwrap();
    let mut told = story.tell();
    told.sort();
    assert_eq!(told, ["inner barrier", "inner write", "outer barrier"]);
    assert_eq!(aio.stats().panics, 2);
}

#[test]
fn all_doomed_barriers_are_called_when_one_panics() {
    let story = Story::default();
    let group = SyncGroup::new(&manual(), scratch());
    let write = group.track();
    group
        .barrier(SyncKind::Data, |_| panic!("told to"))
        .unwrap();
    group.barrier(SyncKind::Data, story.barrier("b")).unwrap();
    let end = move || write.end(&Err::<(), _>(io::Error::from_raw_os_error(libc::EIO)));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(end)).is_err());
    assert_eq!(story.tell(), [format!("b!{}", libc::EIO)]);
}

#[test]
fn drain_waits_for_barriers() {
    let (aio, story) = (aio(), Story::default());
    for _ in 0..200 {
        let group = SyncGroup::new(&aio, scratch());
        group.write("x", 0, |_| {}).unwrap();
        group.barrier(SyncKind::Data, story.barrier("a")).unwrap();
        group.barrier(SyncKind::Data, story.barrier("b")).unwrap();
        aio.drain().unwrap();
        assert_eq!(story.tell(), ["a", "b"]);
    }
}

#[test]
fn after_a_shutdown_each_barrier_is_called_or_refused() {
    let (aio, story) = (manual(), Story::default());
    let group = SyncGroup::new(&aio, scratch());
    let late = group.track();
    group
        .barrier(SyncKind::Data, story.barrier("waiting"))
        .unwrap();
    aio.shutdown(Duration::from_secs(60)).unwrap();
    assert_eq!(story.tell(), [""; 0]);
    late.end(&Ok(()));
    assert_eq!(story.tell(), ["waiting!-1"]);
    let refused = group.barrier(SyncKind::Data, |_| {}).unwrap_err();
    let why = refused.error().get_ref().unwrap();
    assert_eq!(why.downcast_ref(), Some(&AioError::ShutDown));
    assert!(group.write("x", 0, |_| {}).is_err());
}

#[test]
fn what_is_dropped_with_work_under_way_is_finished() {
    let (called, calls) = channel();
    for _ in 0..10 {
        let aio = aio();
        let group = SyncGroup::new(&aio, scratch());
        drop(aio);
        let called = called.clone();
        group.write("x", 0, |_| {}).unwrap();
        group
            .barrier(SyncKind::Data, move |result| called.send(result).unwrap())
            .unwrap();
    }
    for _ in 0..10 {
        calls.recv().unwrap().unwrap();
    }
}

/// Each thread writes and makes barriers; each barrier looks whether its thread's writes before it are over.
#[test]
fn many_threads_share_syncs_and_each_barrier_keeps_its_promise() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 300;
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
        let _watchdog = watchdog();
        let aio = build(Aio::builder().depth(16).dispatch(dispatch));
        let group = SyncGroup::new(&aio, scratch());
        let called = Arc::new(AtomicUsize::new(0));
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (group, called) = (&group, &called);
                scope.spawn(move || write_and_commit(group, number, ROUNDS, called));
            }
        });
        aio.drain().unwrap();
        let barriers = THREADS * ROUNDS;
        assert_eq!(called.load(Ordering::SeqCst) as u64, barriers);
        let syncs = syncs(&aio, barriers * 3);
        assert!((1..=barriers).contains(&syncs), "{syncs} syncs");
    }
}

fn write_and_commit(group: &SyncGroup<File>, number: u64, rounds: u64, called: &Arc<AtomicUsize>) {
    let over = Arc::new(AtomicU64::new(0));
    let (done, commits): (Sender<()>, Receiver<()>) = channel();
    for round in 0..rounds {
        for write in 0..3 {
            let over = Arc::clone(&over);
            let callback = move |_| {
                over.fetch_add(1, Ordering::SeqCst);
            };
            group
                .write(vec![1; 512], (number * 3 + write) * 512, callback)
                .unwrap();
        }
        let (over, called, done) = (Arc::clone(&over), Arc::clone(called), done.clone());
        let check = move |result: io::Result<()>| {
            result.unwrap();
            assert!(over.load(Ordering::SeqCst) >= (round + 1) * 3);
            called.fetch_add(1, Ordering::SeqCst);
            done.send(()).unwrap();
        };
        group.barrier(SyncKind::Data, check).unwrap();
        if round % 4 == 3 {
            (0..4).for_each(|_| commits.recv().unwrap());
        }
    }
}
