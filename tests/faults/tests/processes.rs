//! What else is done to processes with a context: they start programs, fork twice, are frozen, run out of the
//! memory that they are allowed, and lose the system call that they wait by.

mod kit;

use std::fs::{self, File};
use std::io::{self, PipeWriter, Read as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kiocb::op::{Rw, Write};
use kiocb::{Aio, AioError, Dispatch, Iocb, PollFlags};
use kiocb_faults::{Child, ControlGroup, Filter, Watchdog, in_child, need, need_root};
use kit::*;

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

fn null() -> Arc<File> {
    Arc::new(File::options().write(true).open("/dev/null").unwrap())
}

fn write_null(aio: &Aio, file: &Arc<File>) -> Iocb<Rw<Arc<File>, Write, [u8; 4]>> {
    aio.alloc().init_rw(Arc::clone(file), Write, [0; 4], 0)
}

/// Threads that wait and call back all the time.
struct Load {
    aio: Aio,
    over: Arc<AtomicBool>,
    threads: Vec<Worker<usize>>,
    called: Arc<AtomicUsize>,
}

impl Load {
    fn start(aio: &Aio) -> Load {
        let (over, called) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let threads = (0..3).map(|_| Self::thread(aio.clone(), Arc::clone(&over), &called));
        Load {
            aio: aio.clone(),
            threads: threads.collect(),
            over,
            called,
        }
    }

    fn thread(aio: Aio, over: Arc<AtomicBool>, called: &Arc<AtomicUsize>) -> Worker<usize> {
        let (file, called) = (null(), Arc::clone(called));
        Worker::start(move || {
            let mut submitted = 0;
            while !over.load(Ordering::SeqCst) {
                let called = Arc::clone(&called);
                let request = write_null(&aio, &file).init_callback(move |done| {
                    assert_eq!(done.result.unwrap(), 4);
                    called.fetch_add(1, Ordering::SeqCst);
                });
                request.submit().unwrap();
                submitted += 1;
                assert_eq!(write_null(&aio, &file).wait().unwrap().result.unwrap(), 4);
                let _ = aio.poll(0, usize::MAX, None);
            }
            submitted
        })
    }

    /// Nothing was lost, and nothing done twice.
    fn finish(self) {
        self.over.store(true, Ordering::SeqCst);
        let submitted: usize = self.threads.into_iter().map(Worker::join).sum();
        self.aio.drain().unwrap();
        assert_eq!(self.called.load(Ordering::SeqCst), submitted);
        let stats = self.aio.stats();
        assert_eq!(stats.completed, stats.accepted);
    }
}

#[test]
fn programs_started_in_callbacks_and_under_load_disturb_nothing() {
    in_child(
        "programs_started_in_callbacks_and_under_load_disturb_nothing",
        || {
            let _watchdog = Watchdog::new("programs are started");
            for dispatch in KINDS {
                let aio = Aio::builder().depth(8).dispatch(dispatch).build().unwrap();
                let load = Load::start(&aio);
                for _ in 0..20 {
                    assert!(Command::new("true").status().unwrap().success());
                    let request = write_null(&aio, &null());
                    let start = |_| assert!(Command::new("true").status().unwrap().success());
                    request.init_callback(start).submit().unwrap();
                }
                load.finish();
                assert_eq!(aio.stats().panics, 0);
            }
        },
    )
    .success();
}

#[test]
fn a_grandchild_whose_parent_has_gone_is_a_stranger_too() {
    in_child(
        "a_grandchild_whose_parent_has_gone_is_a_stranger_too",
        || {
            let _watchdog = Watchdog::new("the grandchild");
            for dispatch in KINDS {
                let aio = Aio::builder().depth(4).dispatch(dispatch).build().unwrap();
                let (reader, _bell) = io::pipe().unwrap();
                let held = aio
                    .alloc()
                    .init_poll(reader, PollFlags::IN)
                    .start()
                    .unwrap();
                aio.alloc()
                    .init_rw(null(), Write, [0; 1], 0)
                    .wait()
                    .unwrap()
                    .result
                    .unwrap();
                let (mut told, tell) = io::pipe().unwrap();
                become_a_daemon(tell, || {
                    let done = held.wait();
                    assert_eq!(
                        unavailable(&done.result.unwrap_err()),
                        Some(AioError::Forked)
                    );
                    assert_eq!(
                        unavailable(&aio.drain().unwrap_err()),
                        Some(AioError::Forked)
                    );
                    let own = Aio::builder().dispatch(Dispatch::Manual).build().unwrap();
                    assert_eq!(write_null(&own, &null()).wait().unwrap().result.unwrap(), 4);
                    drop((own, aio));
                });
                let mut answer = String::new();
                told.read_to_string(&mut answer).unwrap();
                assert_eq!(answer, "well", "{dispatch:?}");
            }
        },
    )
    .success();
}

/// Forks twice; the child in between ends at once, and the grandchild says how `body` went.
fn become_a_daemon(mut tell: PipeWriter, body: impl FnOnce()) {
    // SAFETY: the child does nothing but fork again and end; the grandchild goes on with its only thread.
    let pid = unsafe { libc::fork() };
    if pid > 0 {
        // SAFETY: a child of ours.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        // What the body owns was moved to the daemon; here it stays for ever, as the daemon's copy is not it.
        return std::mem::forget(body);
    }
    // SAFETY: as above.
    unsafe {
        libc::setsid();
        if libc::fork() > 0 {
            libc::_exit(0);
        }
        libc::alarm(60);
    }
    let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    let _ = tell.write_all(if passed.is_ok() { b"well" } else { b"ill" });
    // SAFETY: ends this process without running what belongs to others.
    unsafe { libc::_exit(0) }
}

#[test]
fn a_process_that_is_frozen_and_thawed_loses_nothing() {
    need_root!();
    in_child("a_process_that_is_frozen_and_thawed_loses_nothing", || {
        let tops = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let group = need!(ControlGroup::new(&tops, "cgroup.freeze"));
        let _watchdog = Watchdog::new("freezing");
        for dispatch in KINDS {
            let aio = Aio::builder().depth(8).dispatch(dispatch).build().unwrap();
            let freezer = start_freezer(group.path());
            group.enter();
            let load = Load::start(&aio);
            let mut status = 0;
            // SAFETY: `status` is valid for the write.
            unsafe { libc::waitpid(freezer, &raw mut status, 0) };
            group.leave();
            assert_eq!(status, 0, "it froze and thawed us");
            load.finish();
        }
    })
    .success();
}

/// A process outside the group that freezes and thaws it, once somebody is in it.
fn start_freezer(group: &Path) -> i32 {
    let script = "
        while [ -z \"$(cat $G/cgroup.procs)\" ]; do sleep 0.001; done
        for i in 1 2 3 4 5 6 7 8 9 10; do
            echo 1 >$G/cgroup.freeze; until grep -q 'frozen 1' $G/cgroup.events; do :; done
            echo 0 >$G/cgroup.freeze; until grep -q 'frozen 0' $G/cgroup.events; do :; done
        done";
    let freezer = Command::new("sh")
        .args(["-ec", script])
        .env("G", group)
        .spawn();
    freezer.unwrap().id().cast_signed()
}

#[test]
fn a_process_beyond_the_memory_that_it_is_allowed_is_killed_and_ends() {
    need_root!();
    let test = "a_process_beyond_the_memory_that_it_is_allowed_is_killed_and_ends";
    let group = if kiocb_faults::inside() {
        None // the test has made it
    } else {
        Some(need!(limited_group()))
    };
    let path = group.as_ref().map_or(Path::new(""), ControlGroup::path);
    for (case, requests) in [("within", 50_000), ("beyond", 2_000_000)] {
        let place = path.join("cgroup.procs");
        let child = Child::of(test).case(case);
        let child = child.env("KIOCB_TEST_GROUP", place.to_str().unwrap());
        let exit = child.run(|| pile_up(requests));
        match case {
            "within" => exit.success(),
            _ => exit.killed_by(libc::SIGKILL),
        }
    }
}

/// One with 64 MiB of memory, in the one version of control groups or the other.
fn limited_group() -> io::Result<ControlGroup> {
    let tops = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"];
    let mut outcome = Err(io::Error::other("never tried"));
    for file in ["memory.max", "memory.limit_in_bytes"] {
        outcome = ControlGroup::new(&tops, file);
        if let Ok(group) = &outcome {
            group.set(file, "67108864");
            break;
        }
    }
    outcome
}

/// Submits many requests that are not taken, and then takes them.
fn pile_up(requests: usize) {
    let group = std::env::var_os("KIOCB_TEST_GROUP").unwrap();
    fs::write(group, "0").unwrap();
    let aio = Aio::builder().dispatch(Dispatch::Manual).build().unwrap();
    let (file, called) = (null(), Arc::new(AtomicUsize::new(0)));
    for _ in 0..requests {
        let called = Arc::clone(&called);
        let count = move |_| {
            called.fetch_add(1, Ordering::SeqCst);
        };
        write_null(&aio, &file)
            .init_callback(count)
            .submit()
            .unwrap();
    }
    aio.drain().unwrap();
    assert_eq!(called.load(Ordering::SeqCst), requests);
}

#[test]
fn when_io_getevents_is_refused_later_deadlines_hold_and_all_ends() {
    let test = "when_io_getevents_is_refused_later_deadlines_hold_and_all_ends";
    for mode in ["0", "1"] {
        for dispatch in KINDS {
            let child = Child::of(test).case(&format!("{dispatch:?}, syscalls: {mode}"));
            let exit = child
                .env("KIOCB_FORCE_SYSCALLS", mode)
                .run(|| refuse_later(dispatch));
            exit.success();
        }
    }
}

fn refuse_later(dispatch: Dispatch) {
    let _watchdog = Watchdog::new("a wait without io_getevents");
    listen_to_log();
    let aio = Aio::builder().dispatch(dispatch).build().unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    Filter::new()
        .fail(libc::SYS_io_getevents, libc::EPERM)
        .install();
    let mut held = aio
        .alloc()
        .init_poll(reader, PollFlags::IN)
        .start()
        .unwrap();
    // So many that a second for each would be too long.
    for _ in 0..200 {
        match held.wait_timeout(Duration::from_millis(1)) {
            Err(unfinished) => held = unfinished,
            Ok(done) => {
                return assert_eq!(
                    unavailable(&done.result.unwrap_err()),
                    Some(AioError::ContextGone)
                );
            }
        }
    }
    wait_for_log("io_getevents");
    drop(held);
    drop(aio);
}
