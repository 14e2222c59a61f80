//! Limits of a process or a group of processes, and filters that kill instead of refusing.

mod kit;

use std::sync::Arc;
use std::time::Duration;

use kiocb::{Aio, Dispatch, SetupError};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Child, ControlGroup, Filter, Watchdog, in_child, need, need_root};
use kit::*;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Pid, Uid, setgid, setuid};

/// Everything that needs no thread works.
fn works_without_a_thread() {
    let aio = Aio::builder()
        .depth(4)
        .dispatch(Dispatch::Manual)
        .build()
        .unwrap();
    let file = Arc::new(tempfile::tempfile().unwrap());
    assert_eq!(
        write(&aio, &file, 0, 7).wait().unwrap().result.unwrap(),
        BLOCK
    );
    aio.shutdown(Duration::from_secs(30)).unwrap();
}

#[test]
fn a_thread_that_a_control_group_forbids_is_named() {
    need_root!();
    in_child("a_thread_that_a_control_group_forbids_is_named", || {
        let tops = [
            "/sys/fs/cgroup/pids",
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/unified",
        ];
        let group = need!(ControlGroup::new(&tops, "pids.max"));
        group.enter();
        group.set("pids.max", "1"); // more than that are there
        let error = Aio::builder().build().unwrap_err();
        let reason = setup_error(&error);
        assert!(matches!(reason, SetupError::Thread(_)), "{reason:?}");
        assert_eq!(reason.errno(), Some(libc::EAGAIN));
        works_without_a_thread();
        group.set("pids.max", "max");
        drop(aio(4));
        group.leave();
    })
    .success();
}

/// A program that locks all its memory, as databases may, has a ring only as far as it may lock that too.
#[test]
fn where_all_memory_is_locked_the_ring_counts_and_no_room_is_no_memory() {
    need_root!();
    let test = "where_all_memory_is_locked_the_ring_counts_and_no_room_is_no_memory";
    in_child(test, || {
        setrlimit(Resource::RLIMIT_MEMLOCK, 1 << 20, 1 << 20).unwrap();
        setgid(Gid::from_raw(65_534)).unwrap();
        setuid(Uid::from_raw(65_534)).unwrap();
        // SAFETY: a flag.
        let locked = unsafe { libc::mlockall(libc::MCL_FUTURE) };
        assert_eq!(locked, 0, "{}", std::io::Error::last_os_error());
        let builder = Aio::builder().depth(60_000).dispatch(Dispatch::Manual); // its ring has 4 MiB
        let error = builder.build().unwrap_err();
        let reason = setup_error(&error);
        assert!(matches!(reason, SetupError::NoMemory), "{reason:?}");
        drop(
            Aio::builder()
                .depth(8)
                .dispatch(Dispatch::Manual)
                .build()
                .unwrap(),
        );
    })
    .success();
}

/// Another way of a sandbox to say no; nothing of the process is left to hear of it.
#[test]
fn a_filter_that_kills_at_a_call_ends_the_process_by_sigsys() {
    const TEST: &str = "a_filter_that_kills_at_a_call_ends_the_process_by_sigsys";
    let calls = [
        ("io_setup", libc::SYS_io_setup),
        ("io_submit", libc::SYS_io_submit),
        ("io_getevents", libc::SYS_io_getevents),
        ("io_destroy", libc::SYS_io_destroy),
    ];
    for (name, call) in calls {
        let exit = Child::of(TEST).case(name).run(|| {
            let file = Arc::new(tempfile::tempfile().unwrap());
            let held = aio(4);
            let (reader, _writer) = std::io::pipe().unwrap();
            let poll = held.alloc().init_poll(reader, kiocb::PollFlags::IN);
            let _in_flight = poll.start().unwrap();
            Filter::new().kill(call).install();
            let aio = aio(4);
            let _ = write(&aio, &file, 0, 7).wait();
            drop(aio);
        });
        exit.killed_by(libc::SIGSYS);
    }
}

/// The kernel keeps free slots for each processor apart: whoever changes processors finds fewer than there are.
#[test]
fn threads_that_change_processors_all_the_time_lose_nothing() {
    let _watchdog = Watchdog::new("threads that move");
    let processors = std::thread::available_parallelism().unwrap().get().min(8);
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
        let aio = Aio::builder().depth(30).dispatch(dispatch).build().unwrap();
        let called = Counter::default();
        let threads = (0..4).map(|first| {
            let (aio, called) = (aio.clone(), called.clone());
            Worker::start(move || hop(&aio, &called, first, processors))
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().for_each(Worker::join);
        aio.drain().unwrap();
        assert_eq!(called.get(), 4 * 5000);
        let stats = aio.stats();
        assert_eq!((stats.completed, stats.refused_late), (stats.accepted, 0));
    }
}

fn hop(aio: &Aio, called: &Counter, first: usize, processors: usize) {
    let file = Arc::new(std::fs::File::open("/dev/zero").unwrap());
    for number in 0..5000 {
        if number % 20 == 0 {
            let mut set = CpuSet::new();
            set.set((first + number / 20) % processors).unwrap();
            let _ = sched_setaffinity(Pid::from_raw(0), &set); // not all may be ours
        }
        let called = called.clone();
        let count = move |done: Done| {
            verify_zeroes(&done);
            called.add();
        };
        read(aio, &file, 0).init_callback(count).submit().unwrap();
    }
}

/// What is wrong is not counted.
fn verify_zeroes(done: &Done) {
    let all = matches!(done.result, Ok(BLOCK)) && done.buf.iter().all(|&byte| byte == 0);
    if !all {
        std::process::abort();
    }
}
