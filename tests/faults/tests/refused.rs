//! System calls that a filter refuses, or the kernel again and again.

mod kit;

use std::error::Error as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use kiocb::op::{Read, Write};
use kiocb::{Aio, AioError, AlignedBuf, Dispatch, Iocb, PollFlags, SetupError};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{
    Answer, Child, Filter, Op, SlowFs, Watchdog, in_child, limit_threads_of_nobody, need,
    need_root, supervise, wait_until_asleep_in,
};
use kit::*;

/// The error of a context of one's own, and of the process-wide one, whose requests come back.
fn setup_fails(check: impl Fn(&io::Error)) {
    check(&Aio::builder().build().unwrap_err());
    check(&Aio::global().unwrap_err());
    let file = Arc::new(tempfile::tempfile().unwrap());
    let buf = AlignedBuf::from(&[7; BLOCK]);
    let request = Iocb::alloc().init_rw(Arc::clone(&file), Write, buf, 0);
    let refused = request
        .init_callback(|_| unreachable!())
        .submit()
        .unwrap_err();
    check(refused.error());
    let (request, _callback) = refused.into_request().into_parts();
    let refused = request.wait().unwrap_err();
    check(refused.error());
    let (same_file, same_buf) = refused.into_request().into_parts();
    assert!(Arc::ptr_eq(&file, &same_file) && same_buf.iter().all(|&byte| byte == 7));
}

/// What a context needs, all of which a filter may refuse.
const CALLS: [(&str, libc::c_long); 4] = [
    ("io_setup", libc::SYS_io_setup),
    ("io_submit", libc::SYS_io_submit),
    ("io_getevents", libc::SYS_io_getevents),
    ("io_destroy", libc::SYS_io_destroy),
];

/// In a child for each of the four calls: the call answers `code`, and `check` sees its name and the error.
/// No context is left behind, not even where `io_destroy` is refused.
fn each_call_answers(test: &str, code: i32, check: impl Fn(&str, &io::Error)) {
    for (name, number) in CALLS {
        let child = Child::of(test).case(&format!("{name}, {code}"));
        let exit = child.run(|| {
            Filter::new().fail(number, code).install();
            setup_fails(|error| check(name, error));
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            assert!(!maps.contains("[aio]"), "a context is left behind");
        });
        exit.success();
    }
}

#[test]
fn a_call_that_does_not_exist_is_unsupported_and_named() {
    const TEST: &str = "a_call_that_does_not_exist_is_unsupported_and_named";
    for (text, code) in [("ENOSYS", libc::ENOSYS), ("EOPNOTSUPP", libc::EOPNOTSUPP)] {
        each_call_answers(TEST, code, |name, error| {
            let reason = setup_error(error);
            assert!(
                matches!(reason, SetupError::Unsupported { call, errno } if *call == name && *errno == code),
                "{reason:?}"
            );
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            assert_eq!(reason.errno(), Some(code));
            let said = error.to_string();
            assert!(said.contains(&format!("{name}: {text}")), "{said}");
            assert!(said.contains("qemu-user"), "{said}");
        });
    }
}

#[test]
fn a_call_that_a_filter_refuses_is_named() {
    const TEST: &str = "a_call_that_a_filter_refuses_is_named";
    for (text, code) in [("EPERM", libc::EPERM), ("EACCES", libc::EACCES)] {
        each_call_answers(TEST, code, |name, error| {
            let reason = setup_error(error);
            assert!(
                matches!(reason, SetupError::Refused { call, errno } if *call == name && *errno == code),
                "{reason:?}"
            );
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            assert_eq!(reason.errno(), Some(code));
            let said = error.to_string();
            assert!(said.contains(&format!("{name}: {text}")), "{said}");
            assert!(said.contains("seccomp"), "{said}");
        });
    }
}

/// A context that reads its events by system call asks for events when it is made, and a signal may arrive.
#[test]
fn a_signal_while_a_context_is_made_is_no_error() {
    in_child("a_signal_while_a_context_is_made_is_no_error", || {
        need!(supervise(libc::SYS_io_getevents, |call| {
            if call.index < 3 {
                Answer::Fail(libc::EINTR)
            } else {
                Answer::Pass
            }
        }));
        let builder = Aio::builder().depth(4).dispatch(Dispatch::Manual);
        let aio = builder.force_syscalls(true).build().unwrap();
        let file = Arc::new(tempfile::tempfile().unwrap());
        let done = write(&aio, &file, 0, 1).wait().unwrap();
        assert_eq!(done.result.unwrap(), BLOCK);
    })
    .success();
}

/// The error of a context with a thread, where a thread can't be had; without one a context can be made.
fn no_thread(errno: i32, said: &str) {
    let error = Aio::builder().build().unwrap_err();
    let reason = setup_error(&error);
    assert!(matches!(reason, SetupError::Thread(_)), "{reason:?}");
    assert_eq!(reason.errno(), Some(errno));
    assert!(error.to_string().contains("completion thread"), "{error}");
    assert!(error.to_string().contains(said), "{error}");
    works(Dispatch::Manual);
}

#[test]
fn a_thread_that_nproc_forbids_is_named() {
    need_root!();
    in_child("a_thread_that_nproc_forbids_is_named", || {
        limit_threads_of_nobody(1);
        no_thread(libc::EAGAIN, "EAGAIN: RLIMIT_NPROC");
    })
    .success();
}

/// The shared context has a thread; the private ones, of threads that waited, would get one for their end.
#[test]
fn contexts_end_also_where_no_thread_can_be_had_for_it() {
    need_root!();
    in_child(
        "contexts_end_also_where_no_thread_can_be_had_for_it",
        || {
            let _watchdog = Watchdog::new("an end without a thread");
            let aio = Aio::builder().build().unwrap();
            let (reader, mut writer) = io::pipe().unwrap();
            let readable = aio.alloc().init_poll(reader, PollFlags::IN).start();
            let null = File::open("/dev/null").unwrap();
            for _ in 0..100 {
                assert_eq!(aio.read_at(&null, &mut [0], 0).unwrap(), 0);
            }
            assert_eq!(count_contexts(), 2);
            writer.write_all(b"!").unwrap();
            readable.unwrap().wait().result.unwrap();
            limit_threads_of_nobody(1);
            block_on(aio.shutdown_async()).unwrap();
            assert_eq!(count_contexts(), 0);
        },
    )
    .success();
}

/// `unshare(CLONE_NEWPID)` moves the children of a process into a new namespace; a thread can't be moved.
#[test]
fn a_thread_that_a_new_pid_namespace_forbids_is_named() {
    need_root!();
    in_child("a_thread_that_a_new_pid_namespace_forbids_is_named", || {
        // SAFETY: flags only.
        let unshared = unsafe { libc::unshare(libc::CLONE_NEWPID) };
        assert_eq!(unshared, 0, "{}", io::Error::last_os_error());
        no_thread(libc::EINVAL, "EINVAL: after unshare(CLONE_NEWPID)");
    })
    .success();
}

#[test]
fn without_memory_for_a_ring_it_says_so() {
    in_child("without_memory_for_a_ring_it_says_so", || {
        Filter::new()
            .fail(libc::SYS_io_setup, libc::ENOMEM)
            .install();
        setup_fails(|error| assert!(matches!(setup_error(error), SetupError::NoMemory)));
    })
    .success();
}

#[test]
fn an_unforeseen_errno_of_io_setup_is_passed_on() {
    in_child("an_unforeseen_errno_of_io_setup_is_passed_on", || {
        Filter::new().fail(libc::SYS_io_setup, libc::EIO).install();
        setup_fails(|error| {
            let source = setup_error(error).source().expect("the cause");
            let cause: &io::Error = source.downcast_ref().expect("an io::Error");
            assert_eq!(cause.raw_os_error(), Some(libc::EIO));
        });
    })
    .success();
}

#[test]
fn the_global_context_is_tried_again_once_the_filter_would_let_it_pass() {
    in_child(
        "the_global_context_is_tried_again_once_the_filter_would_let_it_pass",
        || {
            let calls = Counter::default();
            let counter = calls.clone();
            need!(supervise(libc::SYS_io_setup, move |call| {
                counter.add();
                if call.index == 0 {
                    Answer::Fail(libc::EPERM)
                } else {
                    Answer::Pass
                }
            }));
            let file = tempfile::tempfile().unwrap();
            let refused = Iocb::alloc()
                .init_rw(file, Read, vec![0; 1], 0)
                .wait()
                .unwrap_err();
            let reason = setup_error(refused.error());
            assert!(matches!(
                reason,
                SetupError::Refused {
                    call: "io_setup",
                    ..
                }
            ));
            let done = refused.into_request().wait().unwrap();
            assert_eq!(done.result.unwrap(), 0);
            // The one refused, the one that asks whether the call is let through, and the one that counts.
            assert_eq!(calls.get(), 3);
        },
    )
    .success();
}

/// Reads, writes and shuts down: everything works.
fn works(dispatch: Dispatch) {
    let aio = Aio::builder().depth(4).dispatch(dispatch).build().unwrap();
    let file = Arc::new(tempfile::tempfile().unwrap());
    for block in 0..20 {
        let done = write(&aio, &file, block, block as u8 + 1).wait().unwrap();
        assert_eq!(done.result.unwrap(), BLOCK);
    }
    let (done, completions) = channel();
    (0..20).for_each(|block| read_to(&aio, &file, block, &done));
    aio.drain().unwrap();
    receive_blocks(&completions, 20);
    aio.shutdown(Duration::from_secs(30)).unwrap();
}

#[test]
fn a_refused_memfd_is_replaced() {
    for code in [libc::EPERM, libc::ENOSYS] {
        let child = Child::of("a_refused_memfd_is_replaced").case(&code.to_string());
        let exit = child.run(|| {
            Filter::new().fail(libc::SYS_memfd_create, code).install();
            works(Dispatch::Thread);
            works(Dispatch::Manual);
        });
        exit.success();
    }
}

#[test]
fn no_io_pgetevents_and_no_io_uring_are_needed() {
    const SYS_IO_PGETEVENTS: libc::c_long = if cfg!(target_arch = "x86_64") {
        333
    } else {
        292
    };
    in_child("no_io_pgetevents_and_no_io_uring_are_needed", || {
        Filter::new()
            .fail(SYS_IO_PGETEVENTS, libc::EPERM)
            .fail(libc::SYS_io_uring_setup, libc::EPERM)
            .fail(libc::SYS_io_uring_enter, libc::EPERM)
            .fail(libc::SYS_io_uring_register, libc::EPERM)
            .install();
        works(Dispatch::Thread);
        works(Dispatch::Anywhere);
        works(Dispatch::Manual);
    })
    .success();
}

#[test]
fn a_filter_that_refuses_io_getevents_is_noticed_at_setup() {
    in_child(
        "a_filter_that_refuses_io_getevents_is_noticed_at_setup",
        || {
            Filter::new()
                .fail(libc::SYS_io_getevents, libc::EPERM)
                .install();
            let error = Aio::builder()
                .build()
                .expect_err("a context whose events nobody can read");
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        },
    )
    .success();
}

#[test]
fn a_filter_that_refuses_io_submit_is_every_submitters_error() {
    in_child(
        "a_filter_that_refuses_io_submit_is_every_submitters_error",
        || {
            let aio = aio(4);
            let file = Arc::new(tempfile::tempfile().unwrap());
            Filter::new()
                .fail(libc::SYS_io_submit, libc::EPERM)
                .install();
            let refused = read(&aio, &file, 0).wait().unwrap_err();
            assert_eq!(refused.error().raw_os_error(), Some(libc::EPERM));
            assert_eq!(aio.stats().accepted, 0);
            aio.shutdown(Duration::from_secs(10)).unwrap();
        },
    )
    .success();
}

#[test]
fn storms_of_eagain_keep_the_order_and_lose_nothing() {
    need_root!();
    for (case, dispatch) in [
        ("thread", Dispatch::Thread),
        ("anywhere", Dispatch::Anywhere),
    ] {
        let child = Child::of("storms_of_eagain_keep_the_order_and_lose_nothing").case(case);
        let exit = child.run(|| {
            let fs = need!(SlowFs::new());
            let file = Arc::new(fs.file("f", blocks(250)));
            need!(supervise(libc::SYS_io_submit, |call| {
                match call.index % 7 {
                    _ if call.arguments[1] == 0 => Answer::Pass, // a new context is tried out
                    0 => Answer::Pass,
                    1 | 4 if call.index < 200 => Answer::Return(0), // no kernel says that; it is taken for EAGAIN
                    _ => Answer::Fail(libc::EAGAIN),
                }
            }));
            let aio = Aio::builder().depth(4).dispatch(dispatch).build().unwrap();
            let (done, completions) = channel();
            (0..250).for_each(|block| read_to(&aio, &file, block, &done));
            receive_blocks(&completions, 250);
            let wanted: Vec<u64> = (0..250).map(|block| block * B).collect();
            assert_eq!(fs.offsets(Op::Read), wanted);
            aio.drain().unwrap();
            let stats = aio.stats();
            assert_eq!(
                (stats.accepted, stats.completed, stats.refused_late),
                (250, 250, 0)
            );
        });
        exit.success();
    }
}

#[test]
fn a_storm_of_eagain_from_many_threads_loses_nothing() {
    need_root!();
    in_child("a_storm_of_eagain_from_many_threads_loses_nothing", || {
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(16)));
        need!(supervise(libc::SYS_io_submit, |call| {
            match call.index % 3 {
                _ if call.arguments[1] == 0 => Answer::Pass, // a new context is tried out
                0 => Answer::Pass,
                _ => Answer::Fail(libc::EAGAIN),
            }
        }));
        let aio = aio(2);
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let (aio, file) = (aio.clone(), Arc::clone(&file));
                Worker::start(move || {
                    (0..16)
                        .for_each(|block| verify(&read(&aio, &file, block).wait().unwrap(), block));
                    let started: Vec<_> = (0..16)
                        .map(|block| read(&aio, &file, block).start().unwrap())
                        .collect();
                    (0..)
                        .zip(started)
                        .for_each(|(block, pending)| verify(&pending.wait(), block));
                })
            })
            .collect();
        workers.into_iter().for_each(Worker::join);
        aio.drain().unwrap();
        assert_eq!(aio.stats().completed, 4 * 32);
    })
    .success();
}

#[test]
fn eagain_for_ever_with_nothing_in_flight_is_stalled() {
    in_child("eagain_for_ever_with_nothing_in_flight_is_stalled", || {
        let aio = aio(4);
        let file = Arc::new(tempfile::tempfile().unwrap());
        Filter::new()
            .fail_from(libc::SYS_io_submit, 1, 1, libc::EAGAIN)
            .install();
        let refused = write(&aio, &file, 0, 7).wait().unwrap_err();
        assert_eq!(unavailable(refused.error()), Some(AioError::Stalled));
        assert_eq!(refused.error().kind(), io::ErrorKind::OutOfMemory);
        let (_, buf) = refused.into_request().into_parts();
        assert!(buf.iter().all(|&byte| byte == 7));
        let refused = write(&aio, &file, 0, 7)
            .init_callback(|_| unreachable!())
            .submit();
        assert_eq!(
            unavailable(refused.unwrap_err().error()),
            Some(AioError::Stalled)
        );
        assert_eq!((aio.stats().accepted, aio.stats().queued), (0, 0));
        aio.shutdown(Duration::from_secs(30)).unwrap();
    })
    .success();
}

#[test]
fn eagain_for_ever_ends_in_enomem_once_nothing_is_in_flight() {
    need_root!();
    in_child(
        "eagain_for_ever_ends_in_enomem_once_nothing_is_in_flight",
        || {
            let fs = need!(SlowFs::new());
            let file = Arc::new(fs.file("f", blocks(4)));
            let gate = fs.hold_reads(0..B);
            let aio = aio(4);
            let (done, completions) = channel();
            read_to(&aio, &file, 0, &done);
            gate.wait_for(1);
            Filter::new()
                .fail_from(libc::SYS_io_submit, 1, 1, libc::EAGAIN)
                .install();
            (1..4).for_each(|block| read_to(&aio, &file, block, &done)); // accepted: there is something to wait for
            assert_eq!(aio.stats().queued, 3);
            gate.release();
            verify(&receive(&completions), 0);
            for _ in 1..4 {
                assert_eq!(errno(&receive(&completions).result), Some(libc::ENOMEM));
            }
            aio.drain().unwrap();
            let stats = aio.stats();
            assert_eq!(
                (stats.accepted, stats.completed, stats.refused_late),
                (4, 4, 3)
            );
        },
    )
    .success();
}

#[test]
fn a_sleeper_that_cannot_be_woken_does_not_hold_shutdown_for_ever() {
    need_root!();
    in_child(
        "a_sleeper_that_cannot_be_woken_does_not_hold_shutdown_for_ever",
        || {
            let fs = need!(SlowFs::new());
            let file = Arc::new(fs.file("f", blocks(1)));
            let gate = fs.hold_reads(0..B);
            let aio = named("unwakeable").build().unwrap();
            let (done, completions) = channel();
            read_to(&aio, &file, 0, &done);
            gate.wait_for(1);
            wait_until_asleep_in(thread_named("unwakeable"), libc::SYS_io_getevents);
            Filter::new()
                .fail_from(libc::SYS_io_submit, 1, 1, libc::EAGAIN)
                .install();
            let late = aio.shutdown(Duration::from_millis(5)).unwrap_err();
            assert_eq!(unavailable(&late), Some(AioError::TimedOut));
            drop(aio);
            gate.release();
            verify(&receive(&completions), 0);
        },
    )
    .success();
}

#[test]
fn groups_that_the_kernel_dislikes_go_one_by_one() {
    need_root!();
    in_child("groups_that_the_kernel_dislikes_go_one_by_one", || {
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(33)));
        let aio = aio(64);
        Filter::new()
            .fail_from(libc::SYS_io_submit, 1, 2, libc::EAGAIN)
            .install();
        let (done, completions) = channel();
        submit_in_a_callback(&aio, &file, 0, move |aio, file| {
            (0..33).for_each(|block| read_to(aio, file, block, &done));
        });
        receive_blocks(&completions, 33);
        let wanted: Vec<u64> = std::iter::once(0)
            .chain(0..33)
            .map(|block| block * B)
            .collect();
        assert_eq!(fs.offsets(Op::Read), wanted);
    })
    .success();
}

#[test]
fn einval_of_a_bad_request_is_that_requests_own() {
    in_child("einval_of_a_bad_request_is_that_requests_own", || {
        let aio = aio(4);
        let file = Arc::new(tempfile::tempfile().unwrap());
        let request = aio
            .alloc()
            .init_rw(Arc::clone(&file), Read, vec![0; 1], u64::MAX);
        let refused = request.wait().unwrap_err();
        assert_eq!(refused.error().raw_os_error(), Some(libc::EINVAL));
        let done = aio
            .alloc()
            .init_rw(file, Read, vec![0; 1], 0)
            .wait()
            .unwrap();
        assert_eq!(done.result.unwrap(), 0);
    })
    .success();
}
