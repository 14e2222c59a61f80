//! Barriers and commits as handles: waited for, awaited, dropped and forgotten.

mod common;

use common::*;
use kiocb::op::Write;
use kiocb::{Aio, AioError, CommitError, Dispatch, SyncGroup, SyncKind};
use std::error::Error;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];
const LONG: Duration = Duration::from_secs(600);

fn of(dispatch: Dispatch) -> Aio {
    build(Aio::builder().dispatch(dispatch))
}

/// A context on which nothing happens but in `poll`.
fn manual() -> Aio {
    of(Dispatch::Manual)
}

fn reason_of<B>(error: &CommitError<B>) -> Option<AioError> {
    reason(error.error())
}

/// Lets everything happen on a context without a thread.
fn run(aio: &Aio) {
    aio.drain().unwrap();
}

#[test]
fn a_commit_is_in_the_file_and_gives_its_buffer_back() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, file) = (of(dispatch), Arc::new(scratch()));
        let log = SyncGroup::from_arc(&aio, Arc::clone(&file));
        let first = log.commit(b"one ".to_vec(), 0).wait().unwrap();
        assert_eq!(first, b"one ");
        let second = log.commit(first, 4).wait_timeout(LONG);
        assert_eq!(second.expect("in time").unwrap(), b"one ");
        log.sync(SyncKind::All).wait().unwrap();
        log.sync(SyncKind::Data)
            .wait_timeout(LONG)
            .unwrap()
            .unwrap();
        let mut there = [0; 8];
        file.read_exact_at(&mut there, 0).unwrap();
        assert_eq!(&there, b"one one ");
        assert_eq!(aio.stats().accepted, 2 + 4, "writes and syncs");
    }
}

#[test]
fn commits_that_are_under_way_together_share_syncs() {
    let _watchdog = watchdog();
    let aio = manual();
    let log = SyncGroup::new(&aio, scratch());
    let commits: Vec<_> = (0..10)
        .map(|at| log.commit([at; 16], u64::from(at) * 16))
        .collect();
    let last = log.sync(SyncKind::Data);
    assert_eq!(aio.stats().accepted, 10, "no sync before its write");
    for (at, commit) in (0..).zip(commits) {
        assert_eq!(commit.wait().unwrap(), [at; 16]);
    }
    last.wait().unwrap();
    assert_eq!(
        aio.stats().accepted,
        12,
        "one for the first, one for all others"
    );
}

#[test]
fn a_barrier_waits_for_writes_of_every_kind_and_its_handle_says_when() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch);
        let log = SyncGroup::new(&aio, scratch());
        let write = log.track();
        let (sync, commit) = (log.sync(SyncKind::Data), log.commit("text", 0));
        let sync = sync.wait_timeout(Duration::ZERO).expect_err("not yet");
        let commit = commit
            .wait_timeout(Duration::from_millis(2))
            .expect_err("not yet");
        assert!(!sync.is_complete() && !commit.is_complete());
        // Under `Manual` the sync is submitted by a thread that does not poll, after the wait has begun.
        let other = thread::spawn(move || write.end(&Ok(())));
        sync.wait().unwrap();
        assert_eq!(commit.wait().unwrap(), "text");
        other.join().unwrap();
    }
}

#[test]
fn a_refused_write_fails_its_commit_and_stays() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, read_only) = (of(dispatch), File::open("/dev/null").unwrap());
        let log = SyncGroup::new(&aio, read_only);
        let commit = log.commit("text", 0);
        assert!(commit.is_complete());
        let error = commit.wait().unwrap_err();
        assert_eq!(error.errno(), Some(libc::EBADF));
        assert_eq!(error.to_string(), "what was committed may not be durable");
        assert!(error.source().is_some());
        let (error, buf) = error.into_parts();
        assert_eq!(
            (error.raw_os_error(), buf),
            (Some(libc::EBADF), Some("text"))
        );
        assert_eq!(log.take_error().unwrap().raw_os_error(), Some(libc::EBADF));
    }
}

#[test]
fn an_error_fails_what_comes_after_it_until_it_is_taken() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch);
        let log = SyncGroup::new(&aio, bounded());
        log.commit("there", 0).wait().unwrap();
        let error = log.commit("lost", BEYOND).wait().unwrap_err();
        assert_eq!(error.errno(), Some(libc::EPERM));
        assert_eq!(error.into_parts().1, Some("lost"));
        let refused = log.sync(SyncKind::Data).wait().unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        let error = io::Error::from(log.commit("good", 0).wait().unwrap_err());
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert!(log.take_error().is_some());
        assert_eq!(log.commit("good", 0).wait().unwrap(), "good");
    }
}

/// The barrier is refused at once; the buffer is the kernel's until the write has ended.
#[test]
fn a_commit_that_is_refused_for_an_earlier_error_waits_for_its_buffer() {
    let _watchdog = watchdog();
    let aio = manual();
    let log = SyncGroup::new(&aio, scratch());
    log.track()
        .end::<()>(&Err(io::Error::from_raw_os_error(libc::ENOSPC)));
    let commit = log.commit(vec![7; 16], 0);
    assert!(!commit.is_complete());
    run(&aio);
    assert!(commit.is_complete());
    let (error, buf) = commit.wait().unwrap_err().into_parts();
    assert_eq!(
        (error.raw_os_error(), buf),
        (Some(libc::ENOSPC), Some(vec![7; 16]))
    );
}

#[test]
fn inside_a_callback_a_wait_is_refused_and_the_commit_goes_on() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, file) = (of(dispatch), Arc::new(scratch()));
        let log = SyncGroup::from_arc(&aio, Arc::clone(&file));
        let (inside, seen) = (log.clone(), Counter::default());
        let calls = seen.clone();
        let request = aio.alloc().init_rw(null(), Write, "x", 0);
        let request = request.init_callback(move |_| {
            let error = inside.commit("text", 0).wait().unwrap_err();
            assert_eq!(reason_of(&error), Some(AioError::WouldDeadlock));
            assert_eq!(error.into_parts().1, None);
            let error = inside.sync(SyncKind::Data).wait_timeout(LONG).unwrap();
            assert_eq!(reason(&error.unwrap_err()), Some(AioError::WouldDeadlock));
            calls.add();
        });
        request.submit().unwrap();
        aio.drain().unwrap();
        assert_eq!((seen.get(), aio.stats().panics), (1, 0));
        let mut there = [0; 4];
        file.read_exact_at(&mut there, 0).unwrap();
        assert_eq!(&there, b"text");
        assert!(log.take_error().is_none());
    }
}

#[test]
fn handles_are_futures_of_any_executor() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
        let log = SyncGroup::new(&of(dispatch), scratch());
        let log = &log;
        block_on(async {
            let buf = log.commit(vec![1; 8], 0).await.unwrap();
            let (first, second) = (log.commit(buf, 8), log.commit([2; 8], 16));
            assert_eq!(second.await.unwrap(), [2; 8]);
            assert_eq!(first.await.unwrap(), [1; 8]);
            log.sync(SyncKind::All).await.unwrap();
        });
    }
}

#[test]
fn the_last_waker_is_called_once_and_may_use_the_group() {
    let _watchdog = watchdog();
    let aio = manual();
    let log = SyncGroup::new(&aio, scratch());
    let (before, last, inside) = (Counter::default(), Counter::default(), log.clone());
    let mut sync = log.sync(SyncKind::Data);
    let count = before.clone();
    assert!(poll_with(&mut sync, &waker_that(move || _ = count.add())).is_pending());
    let (count, made) = (last.clone(), Mutex::new(None));
    let makes = waker_that(move || {
        count.add();
        assert!(format!("{inside:?}").contains("writes: 0"));
        *made.lock().unwrap() = Some(inside.sync(SyncKind::All));
    });
    assert!(poll_with(&mut sync, &makes).is_pending());
    run(&aio);
    assert_eq!((before.get(), last.get()), (0, 1));
    assert!(matches!(
        poll_with(&mut sync, Waker::noop()),
        Poll::Ready(Ok(()))
    ));
    assert_eq!(
        aio.stats().completed,
        2,
        "the sync that the waker made is over, too"
    );
}

#[test]
fn a_waker_that_panics_disturbs_no_other_barrier() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch);
        let log = SyncGroup::new(&aio, scratch());
        let write = log.track();
        let (mut panics, other) = (log.sync(SyncKind::Data), log.sync(SyncKind::Data));
        assert!(poll_with(&mut panics, &waker_that(|| panic!("on purpose"))).is_pending());
        write.end(&Ok(()));
        other.wait().unwrap();
        panics.wait().unwrap();
    }
}

#[test]
fn a_handle_that_has_answered_panics_when_it_is_asked_again() {
    let _watchdog = watchdog();
    let log = SyncGroup::new(&aio(), scratch());
    let mut commit = log.commit("text", 0);
    assert_eq!(block_on(&mut commit).unwrap(), "text");
    assert!(commit.is_complete());
    let again = catch_unwind(AssertUnwindSafe(|| poll_with(&mut commit, Waker::noop())));
    assert!(again.is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| commit.wait())).is_err());
}

#[test]
fn dropped_or_forgotten_handles_take_nothing_back() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, file, fates) = (of(dispatch), Arc::new(scratch()), Fates::default());
        let log = SyncGroup::from_arc(&aio, Arc::clone(&file));
        let mut polled = log.commit(fates.buffer(b"polled".to_vec()), 0);
        let _ = poll_with(&mut polled, Waker::noop());
        drop(polled);
        drop(log.commit(fates.buffer(b"dropped".to_vec()), 6));
        drop(log.sync(SyncKind::Data));
        std::mem::forget(log.commit(fates.buffer(b"forgotten".to_vec()), 13));
        aio.drain().unwrap();
        assert_eq!(fates.buffers.get(), 2, "all but the forgotten one");
        let mut there = [0; 22];
        file.read_exact_at(&mut there, 0).unwrap();
        assert_eq!(&there, b"polleddroppedforgotten");
        assert!(log.take_error().is_none());
    }
}

#[test]
fn a_dropped_commit_whose_failure_is_not_seen_stays() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch);
        let log = SyncGroup::new(&aio, bounded());
        drop(log.commit("lost", BEYOND));
        aio.drain().unwrap();
        let refused = log.sync(SyncKind::Data).wait().unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    }
}

#[test]
fn a_shutdown_is_the_result_of_what_had_no_sync_yet() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch);
        let log = SyncGroup::new(&aio, scratch());
        let write = log.track();
        let (sync, waits) = (log.sync(SyncKind::Data), log.sync(SyncKind::Data));
        let waiter = thread::spawn(move || waits.wait());
        aio.shutdown(LONG).unwrap();
        write.end(&Ok(()));
        let shut_down = Some(AioError::ShutDown);
        assert_eq!(reason(&sync.wait().unwrap_err()), shut_down);
        assert_eq!(reason(&waiter.join().unwrap().unwrap_err()), shut_down);
        assert_eq!(
            reason(&log.sync(SyncKind::All).wait().unwrap_err()),
            shut_down
        );
        let error = log.commit("text", 0).wait().unwrap_err();
        assert_eq!(reason_of(&error), shut_down);
        assert_eq!(error.into_parts().1, Some("text"));
    }
}

#[test]
fn many_threads_commit_and_each_finds_its_own_record() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, file) = (of(dispatch), Arc::new(scratch()));
        let log = SyncGroup::from_arc(&aio, Arc::clone(&file));
        thread::scope(|threads| {
            for number in 0..8_u8 {
                let (log, file) = (&log, &file);
                threads.spawn(move || {
                    for round in 0..20 {
                        let at = u64::from(number) * 512 + round * 8192;
                        let record = log.commit([number; 64], at).wait().unwrap();
                        let mut there = [9; 64];
                        file.read_exact_at(&mut there, at).unwrap();
                        assert_eq!(there, record);
                    }
                });
            }
        });
        assert!(aio.stats().accepted <= 320, "a sync for each at most");
    }
}
