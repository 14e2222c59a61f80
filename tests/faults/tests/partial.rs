//! A tracer makes the kernel take part of a submission.

use std::thread;

use kiocb_faults::raw::{BLOCK, Driver};
use kiocb_faults::{Child, Submission};

const B: u64 = BLOCK as u64;

#[test]
fn four_are_asked_for_and_two_are_taken() {
    let child = Child::of("four_are_asked_for_and_two_are_taken");
    let (exit, seen) = child.run_limited(
        |asked| asked.min(2),
        || {
            let file = tempfile::tempfile().unwrap();
            let mut driver = Driver::new(8).unwrap();
            let writes: Vec<usize> = (0..5)
                .map(|block| driver.write(&file, block * B, 1))
                .collect();
            assert_eq!(driver.submit(&writes[..4]).unwrap(), 2);
            assert_eq!(driver.finish(), [4096, 4096]);
            assert_eq!(file.metadata().unwrap().len(), 2 * B);
            assert_eq!(driver.submit(&writes[2..]).unwrap(), 2);
            assert_eq!(driver.submit(&writes[4..]).unwrap(), 1);
            assert_eq!(driver.finish(), [4096, 4096, 4096]);
        },
    );
    exit.success();
    let pair = |(asked, passed)| Submission { asked, passed };
    assert_eq!(seen, [(4, 2), (3, 2), (1, 1)].map(pair));
}

#[test]
fn a_refused_request_ends_what_is_taken_at_its_place() {
    let child = Child::of("a_refused_request_ends_what_is_taken_at_its_place");
    let (exit, seen) = child.run_limited(
        |asked| asked.min(3),
        || {
            let file = tempfile::tempfile().unwrap();
            let mut driver = Driver::new(8).unwrap();
            let writes: Vec<usize> = (0..4)
                .map(|block| driver.write(&file, block * B, 1))
                .collect();
            driver.set_file(writes[1], -1);
            assert_eq!(driver.submit(&writes).unwrap(), 1);
            let error = driver.submit(&writes[1..]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
            assert_eq!(driver.submit(&writes[2..]).unwrap(), 2);
            assert_eq!(driver.finish(), [4096, 4096, 4096]);
        },
    );
    exit.success();
    assert_eq!(
        seen.iter().map(|call| call.passed).collect::<Vec<_>>(),
        [3, 3, 2]
    );
}

#[test]
fn threads_of_the_child_are_limited_too() {
    let child = Child::of("threads_of_the_child_are_limited_too");
    let (exit, seen) = child.run_limited(
        |_| 1,
        || {
            let submit = || {
                let file = tempfile::tempfile().unwrap();
                let mut driver = Driver::new(8).unwrap();
                let writes: Vec<usize> = (0..4)
                    .map(|block| driver.write(&file, block * B, 1))
                    .collect();
                for done in 0..4 {
                    assert_eq!(driver.submit(&writes[done..]).unwrap(), 1);
                }
                driver.finish();
            };
            thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(submit))));
        },
    );
    exit.success();
    assert_eq!(seen.len(), 16);
}

#[test]
fn a_traced_child_tells_its_end_as_any_other() {
    let name = "a_traced_child_tells_its_end_as_any_other";
    let (exit, _) = Child::of(name)
        .case("code")
        .run_limited(|asked| asked, || std::process::exit(7));
    exit.exited(7);
    let (exit, _) = Child::of(name)
        .case("signal")
        .run_limited(|asked| asked, || std::process::abort());
    exit.killed_by(libc::SIGABRT);
}
