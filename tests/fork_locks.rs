//! A child that is forked while other threads hold the locks of sync groups and pools, or make the first mark
//! of their process: it never waits for a thread that it has not, and leaves to the parent what is the
//! parent's.
#![allow(unsafe_code, reason = "forks")]

mod common;
#[path = "common/seccomp.rs"]
mod seccomp;

use common::*;
use kiocb::buf::{PoolBuf, TakeBuf};
use kiocb::{
    Aio, AioError, BufPool, PendingCommit, PendingSync, SyncGroup, SyncKind, TrackedWrite,
};
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

/// Forks, and runs `child` in the child. Fails unless the child gets to its end within the bound.
#[track_caller]
fn fork(child: impl FnOnce()) {
    // Sooner than the parent's watchdog, so that the child is the one that is named.
    let bound = u32::try_from(patience().as_secs()).unwrap_or(u32::MAX) / 3;
    // SAFETY: the child uses what a fork leaves usable: glibc's allocator, its own memory, and our locks as
    // far as they are what is tried here.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            // SAFETY: a number; the signal's default ends this process.
            unsafe { libc::alarm(bound) };
            let passed = catch_unwind(AssertUnwindSafe(child));
            // SAFETY: ends this process without running what belongs to the parent.
            unsafe { libc::_exit(i32::from(passed.is_err())) }
        }
        pid => assert_eq!(
            end_of(pid),
            0,
            "14 is a child that hung, 256 one that panicked"
        ),
    }
}

fn end_of(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is valid for the write.
    let ended = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(ended, pid);
    status
}

/// This process's copy of a value, which the parent has too: the value itself, seen from the child.
fn copy<T>(value: &T) -> T {
    // SAFETY: used in a child alone, where the original is never touched again: the child ends by `_exit`.
    unsafe { std::ptr::read(value) }
}

fn is_forked(error: &io::Error) -> bool {
    error.get_ref().and_then(|inner| inner.downcast_ref()) == Some(&AioError::Forked)
}

/// Runs `body` beside two threads that call `hammer` again and again.
fn beside(hammer: impl Fn() + Sync, body: impl FnOnce()) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    hammer();
                }
            });
        }
        let body = catch_unwind(AssertUnwindSafe(body));
        over.store(true, Ordering::Relaxed);
        body.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// A barrier's callback that must run in the process that made it.
fn only_here() -> impl FnOnce(io::Result<()>) + Send + 'static {
    let maker = std::process::id();
    move |_| {
        if std::process::id() != maker {
            // SAFETY: ends the child, which must not be here.
            unsafe { libc::_exit(99) }
        }
    }
}

fn use_in_child(group: &SyncGroup<File>, write: &TrackedWrite<File>) {
    assert!(format!("{group:?}").contains("forked"));
    drop(copy(write));
    group.track().end(&Ok(()));
    drop(group.track());
    let refused = group.barrier(SyncKind::Data, |_| unreachable!());
    assert!(is_forked(refused.unwrap_err().error()));
    let refused = group.write("text", 0, |_| unreachable!()).unwrap_err();
    assert!(is_forked(refused.error()));
    let (text, _, write) = refused.into_request().into_parts();
    assert_eq!(text, "text");
    drop(write);
    assert!(group.take_error().is_none());
    use_handles_in_child(group);
    drop(copy(group));
}

fn use_handles_in_child(group: &SyncGroup<File>) {
    let refused = group.sync(SyncKind::Data).wait();
    assert!(is_forked(&refused.unwrap_err()));
    let refused = group.commit("text", 0).wait().unwrap_err();
    assert!(is_forked(refused.error()));
}

/// Handles of the parent's, which may be answering at this moment.
fn answer_in_child(sync: &PendingSync<File>, commit: &PendingCommit<File, &'static str>) {
    assert!(sync.is_complete() && commit.is_complete());
    assert!(format!("{sync:?}{commit:?}").contains("true"));
    let mut polled = copy(sync);
    let Poll::Ready(answer) = poll_once(&mut polled) else {
        panic!("a child has nothing to wait for")
    };
    assert!(is_forked(&answer.unwrap_err()));
    assert!(is_forked(&copy(sync).wait().unwrap_err()));
    drop(copy(sync));
    let error = copy(commit).wait_timeout(Duration::from_secs(600)).unwrap();
    let (error, buf) = error.unwrap_err().into_parts();
    assert!(is_forked(&error) && buf.is_none());
}

#[test]
fn a_child_never_waits_for_a_handle_of_a_sync_group() {
    alone("a_child_never_waits_for_a_handle_of_a_sync_group", || {
        let aio = aio();
        let group = SyncGroup::new(&aio, scratch());
        let hammer = || group.sync(SyncKind::Data).wait().unwrap();
        beside(hammer, || {
            for _ in 0..100 {
                let (sync, commit) = (group.sync(SyncKind::Data), group.commit("text", 0));
                fork(|| answer_in_child(&sync, &commit));
                assert_eq!(commit.wait().unwrap(), "text");
                sync.wait().unwrap();
            }
        });
    });
}

#[test]
fn a_child_never_waits_for_the_lock_of_a_sync_group() {
    alone("a_child_never_waits_for_the_lock_of_a_sync_group", || {
        let aio = aio();
        let group = SyncGroup::new(&aio, scratch());
        let hammer = || {
            let writes: Vec<_> = (0..20).map(|_| group.track()).collect();
            writes.into_iter().for_each(|write| write.end(&Ok(())));
            drop(group.take_error());
        };
        beside(hammer, || {
            for _ in 0..300 {
                let write = group.track();
                group.barrier(SyncKind::Data, only_here()).unwrap();
                fork(|| use_in_child(&group, &write));
                write.end(&Ok(()));
            }
        });
        aio.drain().unwrap();
        assert!(group.take_error().is_none());
    });
}

fn use_pool_in_child(pool: &BufPool, held: &PoolBuf) {
    assert!(format!("{pool:?}").contains("forked"));
    let mut held = copy(held);
    held.fill(7);
    drop(held);
    assert!(pool.try_take().is_none());
    assert!(pool.take_timeout(Duration::from_secs(600)).is_none());
    assert_eq!(pool.available(), 0);
    std::panic::set_hook(Box::new(|_| ())); // without a backtrace for each of the children
    assert!(catch_unwind(AssertUnwindSafe(|| pool.take())).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| poll_once(&mut pool.take_async()))).is_err());
    // A pool of its own works.
    let own = BufPool::new(1, 64).unwrap();
    drop(own.take());
    assert_eq!(own.take().len(), 64);
    drop(copy(pool));
}

/// A future of the parent's, which waits.
fn give_up_in_child(task: &mut TakeBuf<'_>) {
    std::panic::set_hook(Box::new(|_| ())); // as above
    assert!(catch_unwind(AssertUnwindSafe(|| poll_once(task))).is_err());
    drop(copy(task));
}

#[test]
fn a_child_never_waits_for_a_task_of_a_pool() {
    alone("a_child_never_waits_for_a_task_of_a_pool", || {
        let pool = BufPool::new(1, 64).unwrap();
        let hammer = || drop(block_on(pool.take_async()));
        beside(hammer, || {
            for _ in 0..100 {
                let mut task = pool.take_async();
                let polled = poll_once(&mut task);
                if polled.is_pending() {
                    fork(|| give_up_in_child(&mut task));
                }
                drop((polled, task));
            }
        });
        assert_eq!(pool.available(), 1);
    });
}

#[test]
fn a_child_never_waits_for_the_lock_of_a_pool() {
    alone("a_child_never_waits_for_the_lock_of_a_pool", || {
        let pool = BufPool::new(3, 64).unwrap();
        let hammer = || drop((pool.take(), pool.try_take()));
        let mut held = pool.take();
        held.fill(1);
        beside(hammer, || {
            (0..300).for_each(|_| fork(|| use_pool_in_child(&pool, &held)));
        });
        assert!(held.iter().all(|&byte| byte == 1));
        drop(held);
        assert_eq!(pool.available(), 3);
    });
}

static INSIDE: AtomicBool = AtomicBool::new(false);
static GO_ON: AtomicBool = AtomicBool::new(false);

/// The handler of SIGSYS: says that a thread is inside the system call, and holds it there.
extern "C" fn hold(_: i32) {
    INSIDE.store(true, Ordering::SeqCst);
    while !GO_ON.load(Ordering::SeqCst) {
        thread::yield_now();
    }
}

/// Makes what is the first thing in its process, and is held inside the `madvise` of the first mark. The
/// thread does not end: glibc advises at the end of a thread, with all signals blocked.
fn make_slowly(made: &Counter) -> ! {
    let handler: extern "C" fn(i32) = hold;
    // SAFETY: the handler uses two atomics, and a system call that is safe in a handler.
    let before = unsafe { libc::signal(libc::SIGSYS, handler as libc::sighandler_t) };
    assert_ne!(before, libc::SIG_ERR);
    seccomp::trap(libc::SYS_madvise);
    drop(BufPool::new(1, 64).unwrap());
    made.add();
    loop {
        thread::park();
    }
}

#[test]
fn a_child_never_waits_for_the_first_mark_of_its_parent() {
    alone(
        "a_child_never_waits_for_the_first_mark_of_its_parent",
        || {
            let made = Counter::default();
            let count = made.clone();
            thread::spawn(move || make_slowly(&count));
            until(|| INSIDE.load(Ordering::SeqCst));
            fork(|| drop(BufPool::new(1, 64).unwrap().take()));
            // Neither does another thread.
            let pool = BufPool::new(1, 64).unwrap();
            GO_ON.store(true, Ordering::SeqCst);
            made.until(1);
            assert!(pool.try_take().is_some());
            fork(|| assert!(pool.try_take().is_none()));
        },
    );
}

#[test]
fn marks_made_by_many_threads_at_once_are_the_same() {
    alone("marks_made_by_many_threads_at_once_are_the_same", || {
        for _ in 0..50 {
            fork(|| {
                let pools: Vec<_> = thread::scope(|scope| {
                    let make = || BufPool::new(1, 64).unwrap();
                    let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
                    threads
                        .into_iter()
                        .map(|made| made.join().unwrap())
                        .collect()
                });
                // Each of them knows this process for its own.
                assert!(pools.iter().all(|pool| pool.try_take().is_some()));
                fork(|| assert!(pools.iter().all(|pool| pool.try_take().is_none())));
            });
        }
    });
}

/// A context that the child makes has nothing to do with the parent's group.
#[test]
fn a_child_may_have_a_group_of_its_own() {
    alone("a_child_may_have_a_group_of_its_own", || {
        let aio = aio();
        let group = SyncGroup::new(&aio, scratch());
        fork(|| {
            let own = build(Aio::builder());
            let theirs = SyncGroup::new(&own, scratch());
            let seen = Counter::default();
            let count = seen.clone();
            theirs.write("text", 0, |done| drop(done.result)).unwrap();
            let barrier = theirs.barrier(SyncKind::Data, move |result| {
                result.unwrap();
                count.add();
            });
            barrier.unwrap();
            own.drain().unwrap();
            assert_eq!(seen.get(), 1);
            let refused = group.barrier(SyncKind::Data, |_| unreachable!());
            assert!(is_forked(refused.unwrap_err().error()));
        });
        aio.drain().unwrap();
    });
}

/// Waits in a thread of its own so often beside others that it makes a private context.
fn make_a_private_context(aio: &Aio) {
    thread::scope(|scope| {
        let null = null();
        scope.spawn(move || {
            for _ in 0..80 {
                aio.read_at(&null, &mut [0], 0).unwrap();
            }
        });
    });
}

#[test]
fn a_child_forked_while_private_contexts_are_made_is_refused() {
    alone(
        "a_child_forked_while_private_contexts_are_made_is_refused",
        || {
            let null = null();
            for _ in 0..8 {
                let aio = build(Aio::builder().depth(4096));
                let occupied = occupy(&aio);
                beside(
                    || make_a_private_context(&aio),
                    || {
                        for _ in 0..20 {
                            fork(|| {
                                for _ in 0..80 {
                                    let read = aio.read_at(&null, &mut [0], 0);
                                    assert!(is_forked(&read.unwrap_err()));
                                }
                                assert!(is_forked(&aio.drain().unwrap_err()));
                                let shutdown = poll_once(&mut aio.shutdown_async());
                                assert!(matches!(shutdown, Poll::Ready(Err(_))));
                                let _ = (format!("{aio:?}"), aio.stats());
                                drop(copy(&aio));
                            });
                        }
                    },
                );
                assert!(count_contexts() > 1, "some were made");
                drop(occupied);
                drop(aio);
                assert_eq!(count_contexts(), 0, "no child took one along");
            }
        },
    );
}
