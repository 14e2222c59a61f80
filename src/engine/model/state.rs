//! The state word of a watched request.

use super::*;

fn waker() -> Waker {
    Waker::from(Parker::current())
}

/// A request on its way, and both of its ends.
fn in_flight(ends: &Count) -> (OwnedCell, Watch<TestOp>) {
    OwnedCell::watched(TestOp::new(Behaviour::Held, 7, ends), false)
}

/// The reaper's part.
fn settle(mut request: OwnedCell) {
    request.set_result(7);
    match request.settle() {
        Settled::Quiet => {}
        Settled::Wake(waker) | Settled::Unpark(waker) => waker.wake(),
        Settled::Abandoned(request) => request.finish(),
    }
}

fn park_until_done(watch: &mut Watch<TestOp>) {
    while watch.register_waker(&waker()) {
        Parker::current().park(None);
    }
}

#[test]
fn a_watcher_that_sleeps_is_woken_and_finds_the_result() {
    explore(|| {
        let ends = Count::new();
        let (request, mut watch) = in_flight(&ends);
        let reaper = thread::spawn(move || settle(request));
        park_until_done(&mut watch);
        assert_eq!(watch.take().expect("done"), 7);
        join(reaper);
        assert_eq!(ends.get(), 1);
    });
}

#[test]
fn a_watcher_that_changes_its_waker_and_goes_leaves_the_body_to_one_side() {
    explore(|| {
        let ends = Count::new();
        let (request, mut watch) = in_flight(&ends);
        let reaper = thread::spawn(move || settle(request));
        if watch.register_waker(&waker()) {
            watch.register_waker(Waker::noop());
        }
        drop(watch);
        join(reaper);
        assert_eq!(ends.get(), 1);
    });
}

#[test]
fn a_watcher_that_looks_and_goes_takes_the_result_or_leaves_it() {
    explore(|| {
        let ends = Count::new();
        let (request, watch) = in_flight(&ends);
        let reaper = thread::spawn(move || settle(request));
        match watch.take() {
            Ok(result) => assert_eq!(result, 7),
            Err(watch) => drop(watch),
        }
        join(reaper);
        assert_eq!(ends.get(), 1);
    });
}
