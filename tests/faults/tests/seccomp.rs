//! Refused system calls: by name, by argument, call by call.

use std::io;

use kiocb_faults::raw::{BLOCK, Driver};
use kiocb_faults::{Answer, Child, Filter, SlowFs, in_child, inside, need, need_root, supervise};

const B: u64 = BLOCK as u64;

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn io_setup_fails_with_the_errno_asked_for() {
    for (case, code) in [
        ("ENOSYS", libc::ENOSYS),
        ("EPERM", libc::EPERM),
        ("EAGAIN", libc::EAGAIN),
    ] {
        let child = Child::of("io_setup_fails_with_the_errno_asked_for").case(case);
        let exit = child.run(|| {
            assert!(Driver::new(1).is_ok());
            Filter::new().fail(libc::SYS_io_setup, code).install();
            assert_eq!(errno(Driver::new(1)), Some(code));
        });
        exit.success();
    }
}

#[test]
fn the_filter_holds_for_threads_of_before_and_after() {
    in_child("the_filter_holds_for_threads_of_before_and_after", || {
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let before = std::thread::spawn(move || {
            gone.recv().unwrap();
            errno(Driver::new(1))
        });
        Filter::new()
            .fail(libc::SYS_io_setup, libc::EPERM)
            .install();
        go.send(()).unwrap();
        assert_eq!(before.join().unwrap(), Some(libc::EPERM));
        let after = std::thread::spawn(|| errno(Driver::new(1)));
        assert_eq!(after.join().unwrap(), Some(libc::EPERM));
    })
    .success();
}

#[test]
fn io_submit_fails_from_three_requests_on() {
    for (case, code) in [
        ("EAGAIN", libc::EAGAIN),
        ("EINVAL", libc::EINVAL),
        ("ENOMEM", libc::ENOMEM),
    ] {
        let child = Child::of("io_submit_fails_from_three_requests_on").case(case);
        let exit = child.run(|| {
            let file = tempfile::tempfile().unwrap();
            let mut driver = Driver::new(4).unwrap();
            let writes: Vec<usize> = (0..3)
                .map(|block| driver.write(&file, block * B, 1))
                .collect();
            Filter::new()
                .fail_from(libc::SYS_io_submit, 1, 3, code)
                .install();
            assert_eq!(errno(driver.submit(&writes)), Some(code));
            assert_eq!(driver.submit(&writes[..2]).unwrap(), 2);
            assert_eq!(driver.submit(&[]).unwrap(), 0); // the context probe
            assert_eq!(driver.finish(), [4096, 4096]);
        });
        exit.success();
    }
}

#[test]
fn an_argument_is_compared_as_64_bits() {
    in_child("an_argument_is_compared_as_64_bits", || {
        Filter::new()
            .fail_from(libc::SYS_lseek, 1, 3, libc::EPERM)
            .install();
        let seek = |offset: i64| {
            // SAFETY: integers only.
            let done = unsafe { libc::syscall(libc::SYS_lseek, -1, offset, libc::SEEK_SET) };
            (done < 0).then(last_errno)
        };
        assert_eq!(seek(2), Some(libc::EBADF));
        assert_eq!(seek(3), Some(libc::EPERM));
        assert_eq!(seek(1 << 32), Some(libc::EPERM)); // its low half is 0
    })
    .success();
}

#[test]
fn several_system_calls_fail_each_in_its_way() {
    in_child("several_system_calls_fail_each_in_its_way", || {
        let filter = Filter::new()
            .fail(SYS_IO_PGETEVENTS, libc::EPERM)
            .fail(libc::SYS_memfd_create, libc::EACCES);
        filter.install();
        assert_eq!(io_pgetevents(), Some(libc::EPERM));
        assert_eq!(memfd_create(), Some(libc::EACCES));
        assert!(Driver::new(1).is_ok());
    })
    .success();
}

/// Its number is not in libc for glibc targets.
const SYS_IO_PGETEVENTS: libc::c_long = if cfg!(target_arch = "x86_64") {
    333
} else {
    292
};

fn io_pgetevents() -> Option<i32> {
    // SAFETY: there is no such context, so nothing is read or written.
    let done = unsafe { libc::syscall(SYS_IO_PGETEVENTS, 0, 0, 0, 0, 0, 0) };
    (done < 0).then(last_errno)
}

fn memfd_create() -> Option<i32> {
    // SAFETY: a C string that lives across the call.
    let done = unsafe { libc::syscall(libc::SYS_memfd_create, c"x".as_ptr(), 0) };
    (done < 0).then(last_errno)
}

fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap()
}

#[test]
fn a_supervisor_answers_call_by_call() {
    in_child("a_supervisor_answers_call_by_call", || {
        let file = tempfile::tempfile().unwrap();
        need!(supervise(libc::SYS_io_submit, |call| match call.index {
            0..3 => Answer::Fail(libc::EAGAIN),
            3 => Answer::Return(0),
            _ => Answer::Pass,
        }));
        let mut driver = Driver::new(1).unwrap();
        let write = [driver.write(&file, 0, 1)];
        for _ in 0..3 {
            assert_eq!(errno(driver.submit(&write)), Some(libc::EAGAIN));
        }
        assert_eq!(driver.submit(&write).unwrap(), 0);
        assert_eq!(driver.in_flight(), 0);
        assert_eq!(driver.submit(&write).unwrap(), 1);
        assert_eq!(driver.finish(), [4096]);
    })
    .success();
}

#[test]
fn a_supervisor_sees_the_arguments_of_every_new_thread() {
    in_child(
        "a_supervisor_sees_the_arguments_of_every_new_thread",
        || {
            let (tell, told) = std::sync::mpsc::channel();
            need!(supervise(libc::SYS_io_submit, move |call| {
                let _ = tell.send(call.arguments[1]);
                Answer::Pass
            }));
            let submit = |count: u64| {
                let file = tempfile::tempfile().unwrap();
                let mut driver = Driver::new(8).unwrap();
                let writes: Vec<usize> = (0..count)
                    .map(|block| driver.write(&file, block * B, 1))
                    .collect();
                assert_eq!(driver.submit(&writes).unwrap() as u64, count);
                driver.finish();
            };
            std::thread::scope(|scope| {
                scope.spawn(|| submit(3)).join().unwrap();
                scope.spawn(|| submit(5)).join().unwrap();
            });
            assert_eq!(told.try_iter().collect::<Vec<u64>>(), [3, 5]);
        },
    )
    .success();
}

#[test]
fn a_supervisor_submits_a_part_for_real() {
    need_root!();
    in_child("a_supervisor_submits_a_part_for_real", || {
        let fs = need!(SlowFs::new());
        let file = fs.file("f", vec![1; 4 * BLOCK]);
        need!(supervise(libc::SYS_io_submit, |_| Answer::Only(2)));
        let mut driver = Driver::new(4).unwrap();
        let reads: Vec<usize> = (0..4).map(|block| driver.read(&file, block * B)).collect();
        assert_eq!(driver.submit(&reads).unwrap(), 2);
        assert_eq!(driver.submit(&reads[2..]).unwrap(), 2);
        assert_eq!(driver.finish(), [4096; 4]);
        assert_eq!(fs.offsets(kiocb_faults::Op::Read), [0, B, 2 * B, 3 * B]);
    })
    .success();
}

#[test]
#[should_panic(expected = "use it in a child")]
fn a_filter_outside_a_child_is_refused() {
    assert!(!inside());
    Filter::new().install();
}
