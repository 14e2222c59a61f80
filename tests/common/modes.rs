//! Running a test in processes of its own, one for each way of taking events.

use super::{check_child, child, is_alone, watchdog};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// Runs `body` in two processes that run nothing else, at the same time: one reads the ring of events, the
/// other takes events by system calls. Panics, with what the child said, if one fails.
///
/// `body` is a closure of the test itself: the test's name is a part of its type's.
#[track_caller]
pub(crate) fn in_both_modes<F: FnOnce()>(body: F) {
    in_each::<F>(
        body,
        &[("KIOCB_FORCE_SYSCALLS", "0"), ("KIOCB_FORCE_SYSCALLS", "1")],
    );
}

/// As [`in_both_modes`], in one process.
#[track_caller]
pub(crate) fn in_a_child<F: FnOnce()>(body: F) {
    in_each::<F>(body, &[("KIOCB_CASE", "0")]);
}

/// As [`in_both_modes`], in a process for each of these variables.
#[track_caller]
pub(crate) fn in_each<F: FnOnce()>(body: F, variables: &[(&str, &str)]) {
    let name = test_of::<F>();
    if is_alone(name) {
        let _watchdog = watchdog();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
            std::mem::forget(panic); // it may be one of a test's that panics when it is dropped
            panic!("the test panicked: see above, or it was on purpose and reached the test");
        }
        return;
    }
    let outputs: Vec<_> = thread::scope(|scope| {
        let run = |variable| scope.spawn(move || child(name, &[variable]));
        let children: Vec<_> = variables.iter().copied().map(run).collect();
        children
            .into_iter()
            .map(|child| child.join().unwrap())
            .collect()
    });
    for (variable, output) in variables.iter().zip(outputs) {
        check_child(name, &output);
        println!("{variable:?}: passed");
    }
}

/// The full name of the test of which this is a closure: `program::module::test::{{closure}}`.
fn test_of<F>() -> &'static str {
    let name = std::any::type_name::<F>();
    let name = name.split_once("::").map_or(name, |(_, name)| name);
    name.split("::{{closure}}").next().unwrap_or(name)
}
