//! A forked child has the parent's handles and nothing behind them: they say so, their drops do nothing, and
//! the parent never notices.
//!
//! Each test runs in a process of its own, which forks while its other threads sleep: parked, in the kernel,
//! or inside a callback that waits. A child forked while one of them starts or ends would inherit a lock of
//! the standard library's that is never released, and could start no thread, not even its watchdog.
#![allow(unsafe_code, reason = "forks")]

mod common;

use common::*;
use kiocb::op::{Read, Rw, Write};
use kiocb::stream::{StreamOptions, StreamReader, StreamWriter};
use kiocb::{Aio, AioError, DirectFile, Dispatch, Iocb};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Waits until all other threads of this process sleep.
fn until_others_sleep() {
    let own = nix::unistd::gettid().to_string();
    until(|| {
        let mut tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        tasks.all(|task| task.file_name() == *own || is_asleep(&task.path()))
    });
}

/// Runs `child` in a forked process, and says whether it got to its end.
fn fork(child: impl FnOnce()) -> bool {
    until_others_sleep();
    forked(|| {
        let _watchdog = watchdog();
        child();
    })
}

fn request(aio: &Aio) -> Iocb<Rw<Arc<File>, Write, [u8; 4]>> {
    aio.alloc().init_rw(null(), Write, [0; 4], 0)
}

fn is_forked(error: &io::Error) -> bool {
    error.get_ref().and_then(|inner| inner.downcast_ref()) == Some(&AioError::Forked)
}

/// Whether every way to use it is refused, with the request back.
fn assert_refuses(aio: &Aio) {
    let refused = request(aio).init_callback(|_| unreachable!()).submit();
    assert!(is_forked(refused.as_ref().unwrap_err().error()));
    let (file, buf) = refused
        .unwrap_err()
        .into_request()
        .into_parts()
        .0
        .into_parts();
    drop(file);
    assert_eq!(buf, [0; 4]);
    assert!(is_forked(request(aio).wait().unwrap_err().error()));
    assert!(is_forked(request(aio).start().unwrap_err().error()));
    assert!(is_forked(&aio.drain().unwrap_err()));
    assert!(is_forked(&aio.drain_timeout(Duration::ZERO).unwrap_err()));
    assert!(is_forked(
        &aio.shutdown(Duration::from_secs(9)).unwrap_err()
    ));
    assert!(is_forked(&aio.poll(0, 1, None).unwrap_err()));
    let _ = aio.stats();
}

fn assert_works(aio: &Aio) {
    assert_eq!(request(aio).wait().unwrap().result.unwrap(), 4);
    let fates = Fates::default();
    request(aio)
        .init_callback(fates.callback())
        .submit()
        .unwrap();
    aio.drain().unwrap();
    assert_eq!(fates.calls.get(), 1);
}

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

#[test]
fn a_childs_calls_are_refused_and_its_drops_leave_the_parent_alone() {
    alone(
        "a_childs_calls_are_refused_and_its_drops_leave_the_parent_alone",
        || {
            for dispatch in KINDS {
                let aio = build(Aio::builder().dispatch(dispatch).shards(2));
                assert_works(&aio);
                let contexts = count_contexts();
                let child = || {
                    assert_refuses(&aio);
                    assert_eq!(
                        count_contexts(),
                        contexts - 2,
                        "the rings stay with the parent"
                    );
                    // SAFETY: the parent's value is in the parent's memory; this is the child's copy, dropped
                    // here alone.
                    drop(unsafe { std::ptr::read(&raw const aio) });
                };
                assert!(fork(child), "{dispatch:?}");
                assert_eq!(count_contexts(), contexts);
                assert_works(&aio);
            }
        },
    );
}

#[test]
fn a_child_may_drop_what_is_in_flight_queued_and_unsubmitted() {
    alone(
        "a_child_may_drop_what_is_in_flight_queued_and_unsubmitted",
        || {
            for dispatch in KINDS {
                let aio = build(Aio::builder().depth(4).dispatch(dispatch));
                let fates = Fates::default();
                let busy = (dispatch == Dispatch::Thread).then(|| keep_busy(&aio));
                for _ in 0..10 {
                    let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
                    let request = aio.alloc().init_rw(file, Write, buf, 0);
                    request.init_callback(fates.callback()).submit().unwrap();
                }
                let pending: Vec<_> = (0..10).map(|_| request(&aio).start().unwrap()).collect();
                let unsubmitted = request(&aio);
                let child = || {
                    // Here nobody else ends any: before the fork another thread might, just then.
                    let seen = fates.seen();
                    // SAFETY: these are the child's copies, used here alone.
                    let mut theirs = unsafe { std::ptr::read(&raw const pending) };
                    let first = Pin::new(&mut theirs[0]);
                    let _ = first
                        .poll(&mut Context::from_waker(Waker::noop()))
                        .is_ready();
                    drop(theirs);
                    // SAFETY: as above.
                    drop(unsafe { std::ptr::read(&raw const unsubmitted) });
                    // SAFETY: as above.
                    drop(unsafe { std::ptr::read(&raw const aio) });
                    assert_eq!(fates.seen(), seen);
                };
                assert!(fork(child), "{dispatch:?}");
                drop(busy);
                for pending in pending {
                    assert_eq!(pending.wait().result.unwrap(), 4);
                }
                aio.drain().unwrap();
                assert_eq!(fates.seen(), [10; 4], "{dispatch:?}");
                assert_eq!(unsubmitted.wait().unwrap().result.unwrap(), 4);
            }
        },
    );
}

#[test]
fn a_wait_in_a_child_uses_no_private_context_of_the_parents() {
    alone(
        "a_wait_in_a_child_uses_no_private_context_of_the_parents",
        || {
            let aio = aio();
            let busy = keep_busy(&aio);
            let occupied = occupy(&aio);
            for _ in 0..100 {
                assert_eq!(aio.read_at(&null(), &mut [0], 0).unwrap(), 0);
            }
            assert_eq!(count_contexts(), 2);
            let child = || {
                for _ in 0..3 {
                    let refused = aio.read_at(&null(), &mut [0], 0).unwrap_err();
                    assert_eq!(reason(&refused), Some(AioError::Forked));
                }
                // SAFETY: this is the child's copy, used here alone.
                drop(unsafe { std::ptr::read(&raw const aio) });
            };
            assert!(fork(child));
            assert_eq!(aio.write_at(&null(), &[0; 5], 0).unwrap(), 5);
            drop((occupied, busy));
            aio.shutdown(Duration::from_secs(3600)).unwrap();
            assert_eq!(count_contexts(), 0);
        },
    );
}

#[test]
fn a_child_may_make_contexts_of_its_own_and_they_are_not_the_parents() {
    alone(
        "a_child_may_make_contexts_of_its_own_and_they_are_not_the_parents",
        || {
            let aio = aio();
            assert_works(&aio);
            let child = || {
                let own = build(Aio::builder().depth(128));
                assert_works(&own);
                // Although the child has made one, the parent's is still the parent's.
                assert_refuses(&aio);
                let grandchild = || {
                    assert_refuses(&own);
                    assert_refuses(&aio);
                    assert_works(&build(Aio::builder()));
                };
                assert!(fork(grandchild));
                assert_works(&own);
                drop(own);
            };
            assert!(fork(child));
            assert!(fork(child), "and another one");
            assert_works(&aio);
        },
    );
}

#[test]
fn the_shared_context_works_in_a_child_unless_the_parent_made_it() {
    alone(
        "the_shared_context_works_in_a_child_unless_the_parent_made_it",
        || {
            let shared = || Iocb::alloc().init_rw(file_of(b"bytes"), Read, [0; 5], 0);
            let unmade = || {
                assert_eq!(shared().wait().unwrap().buf, *b"bytes");
                assert_works(&Aio::global().unwrap());
            };
            assert!(fork(unmade));
            assert_eq!(shared().wait().unwrap().buf, *b"bytes");
            let made = || {
                assert!(is_forked(&Aio::global().unwrap_err()));
                assert!(is_forked(shared().wait().unwrap_err().error()));
                let refused = shared().init_callback(|_| ()).submit().unwrap_err();
                assert!(is_forked(refused.error()));
            };
            assert!(fork(made));
            assert_works(&Aio::global().unwrap());
        },
    );
}

#[test]
fn a_child_forked_under_load_harms_nobody() {
    alone("a_child_forked_under_load_harms_nobody", || {
        let aio = build(Aio::builder().depth(8));
        let fates = Fates::default();
        for _ in 0..30 {
            for _ in 0..200 {
                let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
                let request = aio.alloc().init_rw(file, Write, buf, 0);
                request.init_callback(fates.callback()).submit().unwrap();
            }
            // The completion thread is anywhere: the child allocates nothing.
            // SAFETY: the child ends at once.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: as above.
                unsafe { libc::_exit(0) };
            }
            // SAFETY: numbers only, and no status is asked for.
            assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
        }
        aio.drain().unwrap();
        assert_eq!(fates.seen(), [6000; 4]);
    });
}

/// Whether every way to use the streams is refused, with the end of what they did left to the parent.
fn assert_streams_refuse(reader: &mut StreamReader, writer: &mut StreamWriter) {
    let mut context = Context::from_waker(Waker::noop());
    let mut buf = [0; 9];
    assert!(is_forked(&reader.read(&mut buf).unwrap_err()));
    assert!(is_forked(&reader.set_range(0..9).unwrap_err()));
    assert!(is_forked(&writer.write(b"x").unwrap_err()));
    assert!(is_forked(&writer.flush().unwrap_err()));
    assert!(is_forked(&writer.sync().unwrap_err()));
    assert!(is_forked(&writer.skip(1).unwrap_err()));
    let Poll::Ready(read) = pin!(reader.read_async(&mut buf)).poll(&mut context) else {
        panic!("a child has nothing to wait for");
    };
    assert!(is_forked(&read.unwrap_err()));
    let Poll::Ready(synced) = pin!(writer.sync_async()).poll(&mut context) else {
        panic!("a child has nothing to wait for");
    };
    assert!(is_forked(&synced.unwrap_err()));
}

#[test]
fn a_childs_streams_are_refused_and_the_parents_go_on() {
    alone("a_childs_streams_are_refused_and_the_parents_go_on", || {
        let (from, to) = (
            tempfile::NamedTempFile::new(),
            tempfile::NamedTempFile::new(),
        );
        let (from, to) = (from.unwrap(), to.unwrap());
        std::fs::write(&from, vec![7; 100_000]).unwrap();
        let open = |path: &Path| {
            let mut options = DirectFile::options();
            options
                .read(true)
                .write(true)
                .open_or_buffered(path)
                .unwrap()
        };
        for dispatch in KINDS {
            let aio = build(Aio::builder().dispatch(dispatch));
            let options = StreamOptions::new().depth(3).block(4096);
            let mut reader = options.reader(&aio, open(from.path())).unwrap();
            let mut writer = options.writer(&aio, open(to.path())).unwrap();
            assert_eq!(reader.read(&mut [0; 9]).unwrap(), 9);
            writer.write_all(&[7; 9_000]).unwrap();
            let child = || {
                // SAFETY: this is the child's copy, used here alone.
                let mut reader = unsafe { std::ptr::read(&raw const reader) };
                // SAFETY: as above.
                let mut writer = unsafe { std::ptr::read(&raw const writer) };
                assert_streams_refuse(&mut reader, &mut writer);
                drop(reader);
                assert!(is_forked(&writer.finish().unwrap_err()));
            };
            assert!(fork(child), "{dispatch:?}");
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, [7; 99_991]);
            writer.finish().unwrap();
            assert_eq!(std::fs::read(to.path()).unwrap(), [7; 9_000]);
        }
    });
}
