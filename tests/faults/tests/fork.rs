//! A forked child has its parent's handles and none of its requests.

mod kit;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use kiocb::op::Read;
use kiocb::{Aio, AioError, AlignedBuf, Dispatch, Iocb, SubmitError};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Child, Gate, PATIENCE, SlowFs, Watchdog, need, need_root};
use kit::*;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::ForkResult;

/// Forks; the child runs `body` and exits as a program does, with 0 unless it panicked. Says how it ended.
fn forked(body: impl FnOnce()) -> WaitStatus {
    // SAFETY: the child goes on with the one thread that it has. The allocator survives a fork (glibc), and
    // no other thread of this process holds a lock that the body takes: the server of the file system waits
    // for its device.
    match unsafe { nix::unistd::fork() }.unwrap() {
        ForkResult::Child => {
            // The parent's watchdogs are threads, which it has not.
            // SAFETY: a number.
            unsafe { libc::alarm(PATIENCE.as_secs() as u32) };
            let result = catch_unwind(AssertUnwindSafe(body));
            std::process::exit(if result.is_ok() { 0 } else { 101 })
        }
        ForkResult::Parent { child } => waitpid(child, None).unwrap(),
    }
}

#[track_caller]
fn is_good(status: WaitStatus) {
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}

#[track_caller]
fn is_forked<T>(refused: &SubmitError<T>) {
    assert_eq!(unavailable(refused.error()), Some(AioError::Forked));
}

/// A test of one file, in a process of its own with little else in it.
fn in_a_quiet_process(test: &str, body: impl Fn(Aio, Dispatch, Arc<File>, SlowFs)) {
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let exit = Child::of(test).case(&format!("{dispatch:?}")).run(|| {
            let fs = need!(SlowFs::new());
            let file = Arc::new(fs.file("f", blocks(8)));
            let aio = Aio::builder().depth(4).dispatch(dispatch).build().unwrap();
            body(aio, dispatch, file, fs);
        });
        exit.success();
    }
}

/// Completes what is held, and fails unless all of it arrives: block 0 by callback, 1 by a handle, 2 by a
/// future.
struct Parents {
    gate: Gate,
    completions: std::sync::mpsc::Receiver<Done>,
    handle: kiocb::Pending<ReadingState>,
    future: kiocb::Submission<ReadingState>,
}

impl Parents {
    fn start(aio: &Aio, file: &Arc<File>, fs: &SlowFs) -> Parents {
        let gate = fs.hold_reads(0..u64::MAX);
        let (done, completions) = channel();
        read_to(aio, file, 0, &done);
        let handle = read(aio, file, 1).start().unwrap();
        let mut future = read(aio, file, 2).into_future();
        assert!(poll_once(&mut future).is_pending());
        gate.wait_for(3);
        Parents {
            gate,
            completions,
            handle,
            future,
        }
    }

    fn finish(self, aio: &Aio) {
        let stats = aio.stats();
        assert_eq!((stats.accepted, stats.completed), (3, 0));
        self.gate.release();
        aio.drain().unwrap();
        verify(&receive(&self.completions), 0);
        verify(&self.handle.wait(), 1);
        verify(&block_on(self.future).unwrap(), 2);
    }
}

#[test]
fn every_call_in_the_child_says_that_it_is_one() {
    need_root!();
    in_a_quiet_process(
        "every_call_in_the_child_says_that_it_is_one",
        |aio, _, file, fs| {
            let parents = Parents::start(&aio, &file, &fs);
            let ready = read(&aio, &file, 3);
            is_good(forked(|| {
                is_forked(&read(&aio, &file, 4).wait().unwrap_err());
                is_forked(&read(&aio, &file, 4).start().unwrap_err());
                let refused = read(&aio, &file, 4)
                    .init_callback(|_| unreachable!())
                    .submit();
                let (request, _) = refused
                    .map_err(SubmitError::into_request)
                    .unwrap_err()
                    .into_parts();
                assert_eq!(request.into_parts().1.len(), BLOCK); // whole
                is_forked(&block_on(ready.into_future()).unwrap_err());
                is_forked(
                    &aio.alloc()
                        .init_fsync(Arc::clone(&file))
                        .wait()
                        .unwrap_err(),
                );
                for outcome in [
                    aio.drain(),
                    aio.drain_timeout(Duration::ZERO),
                    aio.shutdown(Duration::ZERO),
                    aio.poll(0, 1, Some(Duration::ZERO)).map(drop),
                ] {
                    assert_eq!(unavailable(&outcome.unwrap_err()), Some(AioError::Forked));
                }
                let _ = aio.stats();
            }));
            parents.finish(&aio);
        },
    );
}

#[test]
fn the_process_wide_context_is_the_parents_too() {
    need_root!();
    Child::of("the_process_wide_context_is_the_parents_too")
        .run(|| {
            let file = Arc::new(tempfile::tempfile().unwrap());
            let request = || Iocb::alloc().init_rw(Arc::clone(&file), Read, vec![0; 1], 0);
            assert_eq!(request().wait().unwrap().result.unwrap(), 0);
            is_good(forked(|| {
                is_forked(&request().wait().unwrap_err());
                assert_eq!(
                    unavailable(&Aio::global().unwrap_err()),
                    Some(AioError::Forked)
                );
                // A context of its own works.
                let own = Aio::builder().build().unwrap();
                let read = own.alloc().init_rw(Arc::clone(&file), Read, vec![0; 1], 0);
                assert_eq!(read.wait().unwrap().result.unwrap(), 0);
                is_forked(&request().wait().unwrap_err());
            }));
            assert_eq!(request().wait().unwrap().result.unwrap(), 0);
        })
        .success();
}

#[test]
fn drops_in_the_child_leave_the_parents_requests_alone() {
    need_root!();
    in_a_quiet_process(
        "drops_in_the_child_leave_the_parents_requests_alone",
        |aio, _, file, fs| {
            let mut parents = Some(Parents::start(&aio, &file, &fs));
            let mut handle = Some(aio);
            is_good(forked(|| {
                let Parents {
                    gate,
                    completions,
                    handle: pending,
                    future,
                } = parents.take().unwrap();
                std::mem::forget(gate); // the file system's server is the parent's
                drop((pending, future, completions));
                drop(handle.take()); // the last one: must not wait for what is held
            }));
            parents.unwrap().finish(&handle.unwrap());
        },
    );
}

#[test]
fn a_child_that_is_killed_or_exits_leaves_the_parents_requests_alone() {
    need_root!();
    in_a_quiet_process(
        "a_child_that_is_killed_or_exits_leaves_the_parents_requests_alone",
        |aio, _, file, fs| {
            let parents = Parents::start(&aio, &file, &fs);
            is_good(forked(|| ()));
            let killed = forked(|| std::process::abort());
            assert!(matches!(killed, WaitStatus::Signaled(..)), "{killed:?}");
            parents.finish(&aio);
        },
    );
}

#[test]
fn a_handle_of_the_parents_answers_at_once_in_the_child() {
    need_root!();
    in_a_quiet_process(
        "a_handle_of_the_parents_answers_at_once_in_the_child",
        |aio, _, file, fs| {
            let mut parents = Some(Parents::start(&aio, &file, &fs));
            is_good(forked(|| {
                let Parents {
                    gate,
                    handle,
                    future,
                    ..
                } = parents.take().unwrap();
                std::mem::forget((gate, future));
                let done = handle.wait_timeout(Duration::from_secs(60)).unwrap(); // at once
                let error = done.result.unwrap_err();
                assert_eq!(unavailable(&error), Some(AioError::Forked));
            }));
            parents.unwrap().finish(&aio);
        },
    );
}

#[test]
fn a_child_may_make_its_own_context_while_the_parents_requests_are_held() {
    need_root!();
    in_a_quiet_process(
        "a_child_may_make_its_own_context_while_the_parents_requests_are_held",
        |aio, dispatch, file, fs| {
            let parents = Parents::start(&aio, &file, &fs);
            let plain = tempfile::tempfile().unwrap();
            is_good(forked(|| {
                let own = Aio::builder().depth(4).dispatch(dispatch).build().unwrap();
                let plain = Arc::new(plain);
                assert_eq!(
                    write(&own, &plain, 0, 5).wait().unwrap().result.unwrap(),
                    BLOCK
                );
                let done = own
                    .alloc()
                    .init_rw(plain, Read, AlignedBuf::zeroed(BLOCK), 0)
                    .wait()
                    .unwrap();
                assert!(done.buf.iter().all(|&byte| byte == 5));
                is_forked(&read(&aio, &file, 4).wait().unwrap_err());
                own.shutdown(Duration::from_secs(10)).unwrap();
            }));
            parents.finish(&aio);
        },
    );
}

#[test]
fn forks_under_load_lose_nothing() {
    need_root!();
    in_a_quiet_process(
        "forks_under_load_lose_nothing",
        |aio, dispatch, file, fs| {
            let _watchdog = Watchdog::new("forks under load");
            let _fs = fs;
            let (loading, keep) = (aio.clone(), Arc::clone(&file));
            let (stop, stopped) = channel::<()>();
            let load = Worker::start(move || {
                let mut rounds = 0;
                while stopped.try_recv().is_err() {
                    for block in 0..8 {
                        verify(&read(&loading, &keep, block).wait().unwrap(), block);
                    }
                    rounds += 1;
                }
                rounds
            });
            for _ in 0..20 {
                is_good(forked(|| {
                    let refused = read(&aio, &file, 4).wait();
                    is_forked(&refused.unwrap_err());
                }));
            }
            stop.send(()).unwrap();
            let rounds: u64 = load.join();
            assert_eq!(aio.stats().completed, rounds * 8, "{dispatch:?}");
        },
    );
}
