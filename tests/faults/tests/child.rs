//! Children run what they are told, and tell how they ended.

use kiocb_faults::raw::{BLOCK, Driver};
use kiocb_faults::{Child, in_child, inside, limit_file_size, limit_open_files};

#[test]
fn success_and_output_are_told() {
    let exit = in_child("success_and_output_are_told", || {
        println!("inside: {}", inside())
    });
    exit.success();
    exit.said("inside: true");
    assert!(!inside());
}

#[test]
fn the_exit_code_is_told() {
    let exit = in_child("the_exit_code_is_told", || std::process::exit(42));
    exit.exited(42);
}

#[test]
fn a_panic_is_told_with_its_message() {
    let exit = in_child("a_panic_is_told_with_its_message", || panic!("no luck"));
    exit.exited(101);
    exit.said("no luck");
}

#[test]
fn a_signal_is_told() {
    in_child("a_signal_is_told", || std::process::abort()).killed_by(libc::SIGABRT);
}

#[test]
fn several_children_of_one_test_each_run_their_own_part() {
    let child = |case| {
        Child::of("several_children_of_one_test_each_run_their_own_part")
            .case(case)
            .env("NOTE", case)
    };
    for case in ["one", "other"] {
        let exit = child(case).run(|| println!("note: {}", std::env::var("NOTE").unwrap()));
        exit.success();
        exit.said(&format!("note: {case}\n"));
    }
}

#[test]
#[should_panic(expected = "child started: a_mispelt_name")]
fn a_misspelt_name_is_no_success() {
    in_child("a_mispelt_name_is_no_success", || ());
}

#[test]
fn a_file_size_limit_is_an_errno_and_no_death() {
    in_child("a_file_size_limit_is_an_errno_and_no_death", || {
        let file = tempfile::tempfile().unwrap();
        limit_file_size(BLOCK as u64);
        let mut driver = Driver::new(2).unwrap();
        let writes = [
            driver.write(&file, 0, 1),
            driver.write(&file, BLOCK as u64, 1),
        ];
        assert_eq!(driver.submit(&writes).unwrap(), 2);
        assert_eq!(driver.finish(), [4096, -i64::from(libc::EFBIG)]);
    })
    .success();
}

#[test]
fn a_limit_of_open_files_is_an_errno() {
    in_child("a_limit_of_open_files_is_an_errno", || {
        limit_open_files(3);
        let error = std::fs::File::open("/dev/null").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    })
    .success();
}
