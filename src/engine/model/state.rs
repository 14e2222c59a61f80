//! The state word of a watched request.

use super::*;

struct Unpark(crate::sync::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn waker() -> Waker {
    Waker::from(Arc::new(Unpark(current())))
}

/// A request on its way, and both of its ends.
fn in_flight(ends: &Count) -> (Request, Watch<Ask>) {
    let mut sent = None;
    let ask = Ask::new(Fate::Held, 7, ends);
    let watch = Request::offer_watched::<_, ()>(ask, false, |request| {
        sent = Some(request);
        Ok(())
    });
    (sent.expect("offered"), watch.expect("taken"))
}

/// The reaper's part.
fn settle(mut request: Request) {
    request.set_result(7);
    match request.settle() {
        Settled::Quiet => {}
        Settled::Wake(waker) => waker.wake(),
        Settled::Abandoned(request) => request.finish(),
    }
}

fn park_until_done(watch: &mut Watch<Ask>) {
    while watch.leave(&waker()) {
        crate::sync::park();
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
        if watch.leave(&waker()) {
            watch.leave(Waker::noop());
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
