//! A request as a future: any executor, any waker, dropped at any stage.

mod common;

use common::*;
use kiocb::op::{Read, Rw, Write};
use kiocb::{Aio, Dispatch, Iocb, Pending};
use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::thread;

/// A waker that counts.
struct CountingWaker(Counter);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.add();
    }
}

fn counting() -> (Waker, Counter) {
    let counter = Counter::default();
    (
        Waker::from(Arc::new(CountingWaker(counter.clone()))),
        counter,
    )
}

type Job = Rw<Arc<File>, Write, [u8; 4]>;

fn request(aio: &Aio) -> Iocb<Job> {
    aio.alloc().init_rw(null(), Write, [0; 4], 0)
}

/// A request that can't complete before the slot is given back.
fn stuck(aio: &Aio) -> (Occupied, Pending<Job>) {
    let occupied = occupy(aio);
    (occupied, request(aio).start().unwrap())
}

const WITH_THREAD: [Dispatch; 2] = [Dispatch::Thread, Dispatch::Anywhere];

#[test]
fn a_request_can_be_awaited() {
    let _watchdog = watchdog();
    for dispatch in WITH_THREAD {
        for depth in [1, 128] {
            let aio = build(Aio::builder().depth(depth).dispatch(dispatch));
            let bytes = pattern(1, 1000);
            let file = Arc::new(scratch());
            block_on(async {
                for _ in 0..100 {
                    let request = aio.alloc().init_rw(file.clone(), Write, bytes.clone(), 7);
                    assert_eq!(request.await.unwrap().result.unwrap(), 1000);
                    let sync = aio.alloc().init_fdsync(file.clone());
                    assert_eq!(sync.await.unwrap().result.unwrap(), 0);
                    let request = aio.alloc().init_rw(file.clone(), Read, vec![0; 1000], 7);
                    assert_eq!(request.await.unwrap().buf, bytes);
                }
            });
        }
    }
}

#[test]
fn a_future_on_the_shared_context_needs_nothing_else() {
    let _watchdog = watchdog();
    let request = Iocb::alloc().init_rw(file_of(b"bytes"), Read, [0; 5], 0);
    assert_eq!(block_on(request).unwrap().buf, *b"bytes");
}

#[test]
fn many_tasks_wait_at_once() {
    let _watchdog = watchdog();
    for dispatch in WITH_THREAD {
        let aio = build(Aio::builder().depth(8).dispatch(dispatch));
        let file = Arc::new(scratch());
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let syncs = (0..32).map(|_| aio.alloc().init_fdsync(file.clone()));
                        let started: Vec<_> = syncs.map(|sync| sync.start().unwrap()).collect();
                        for pending in started {
                            assert_eq!(block_on(pending).result.unwrap(), 0);
                        }
                    }
                });
            }
        });
    }
}

#[test]
fn nothing_happens_before_the_first_poll() {
    let _watchdog = watchdog();
    let (aio, fates) = (aio(), Fates::default());
    let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
    let submission = aio.alloc().init_rw(file, Write, buf, 0).into_future();
    assert_eq!((aio.stats().accepted, fates.seen()), (0, [0; 4]));
    drop(submission);
    assert_eq!((aio.stats().accepted, fates.seen()), (0, [1, 1, 0, 0]));
}

#[test]
fn a_refused_request_comes_back_from_the_await() {
    let _watchdog = watchdog();
    let unwritable = File::open("/dev/null").unwrap();
    let request = Iocb::alloc().init_rw(unwritable, Write, pattern(2, 10), 0);
    let refused = block_on(request).unwrap_err();
    assert_eq!(refused.error().raw_os_error(), Some(libc::EBADF));
    assert_eq!(refused.into_request().into_parts().1, pattern(2, 10));
}

#[test]
fn a_future_may_be_dropped_at_every_stage() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let aio = build(Aio::builder().depth(1).dispatch(dispatch));
        let fates = Fates::default();
        let start = || {
            let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
            aio.alloc().init_rw(file, Write, buf, 0).start().unwrap()
        };
        let (waker, woken) = counting();
        let occupied = occupy(&aio);
        drop(start());
        let mut polled = start();
        assert!(poll_with(&mut polled, &waker).is_pending());
        drop(polled);
        let mut polled_twice = start();
        assert!(poll_with(&mut polled_twice, &waker).is_pending());
        assert!(poll_with(&mut polled_twice, Waker::noop()).is_pending());
        drop(polled_twice);
        let (finished, mut woken_later) = (start(), start());
        assert!(poll_with(&mut woken_later, &waker).is_pending());
        assert_eq!(fates.seen(), [0; 4], "the kernel may have them yet");
        drop(occupied);
        aio.drain().unwrap();
        assert_eq!(fates.seen(), [3, 3, 0, 0]);
        drop((finished, woken_later));
        assert_eq!(fates.seen(), [5, 5, 0, 0]);
        assert_eq!(woken.get(), 1, "only who was there is woken");
    }
}

#[test]
fn polling_for_nothing_changes_nothing() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(1));
    let (occupied, mut pending) = stuck(&aio);
    let (waker, woken) = counting();
    for _ in 0..100 {
        assert!(poll_with(&mut pending, &waker).is_pending());
        assert!(!pending.is_complete());
    }
    drop(occupied);
    woken.until(1);
    assert!(pending.is_complete());
    assert_eq!(pending.wait().result.unwrap(), 4);
    assert_eq!(woken.get(), 1);
}

#[test]
fn the_last_waker_is_woken_and_no_other() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(1));
    let (occupied, mut pending) = stuck(&aio);
    let wakers: Vec<_> = (0..10).map(|_| counting()).collect();
    for (waker, _) in &wakers {
        assert!(poll_with(&mut pending, waker).is_pending());
    }
    drop(occupied);
    wakers[9].1.until(1);
    let woken: Vec<usize> = wakers.iter().map(|(_, woken)| woken.get()).collect();
    assert_eq!(woken, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    match poll_with(&mut pending, Waker::noop()) {
        Poll::Ready(done) => assert_eq!(done.result.unwrap(), 4),
        Poll::Pending => panic!("woken before it was complete"),
    }
}

#[test]
fn wakers_are_dropped_with_their_requests() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(1));
    let shared = Arc::new(CountingWaker(Counter::default()));
    let occupied = occupy(&aio);
    let mut pending: Vec<_> = (0..20).map(|_| request(&aio).start().unwrap()).collect();
    for pending in &mut pending {
        let waker = Waker::from(shared.clone());
        assert!(poll_with(pending, &waker).is_pending());
    }
    assert_eq!(Arc::strong_count(&shared), 21);
    pending.truncate(10);
    assert_eq!(Arc::strong_count(&shared), 11);
    drop(occupied);
    aio.drain().unwrap();
    until(|| Arc::strong_count(&shared) == 1);
    assert_eq!(shared.0.get(), 10);
}

#[test]
fn a_future_may_move_between_threads_while_it_waits() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(1));
    let (occupied, mut pending) = stuck(&aio);
    for _ in 0..10 {
        let other = thread::spawn(move || {
            let (waker, _) = counting();
            assert!(poll_with(&mut pending, &waker).is_pending());
            pending
        });
        pending = other.join().unwrap();
    }
    let waiter = thread::spawn(move || block_on(pending));
    drop(occupied);
    assert_eq!(waiter.join().unwrap().result.unwrap(), 4);
}

#[test]
fn a_polled_future_may_still_be_waited_for() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(1));
    let (occupied, mut pending) = stuck(&aio);
    assert!(poll_with(&mut pending, &counting().0).is_pending());
    let waiter = thread::spawn(move || pending.wait());
    drop(occupied);
    assert_eq!(waiter.join().unwrap().result.unwrap(), 4);
}

#[test]
#[should_panic(expected = "answers once")]
fn a_future_polled_after_its_answer_panics() {
    let _watchdog = watchdog();
    let aio = aio();
    let mut pending = request(&aio).start().unwrap();
    until(|| poll_with(&mut pending, Waker::noop()).is_ready());
    let _ = poll_with(&mut pending, Waker::noop()).is_ready();
}

#[test]
fn a_race_of_two_futures_may_leave_the_slower_behind() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(2));
    let fates = Fates::default();
    for _ in 0..200 {
        let start = || {
            let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
            aio.alloc().init_rw(file, Write, buf, 0).start().unwrap()
        };
        let (mut one, mut two) = (start(), start());
        let first = std::future::poll_fn(|context| match Pin::new(&mut one).poll(context) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => Pin::new(&mut two).poll(context),
        });
        assert_eq!(block_on(first).result.unwrap(), 4);
    }
    aio.drain().unwrap();
    assert_eq!(fates.seen(), [400, 400, 0, 0]);
}

#[test]
fn futures_under_manual_are_completed_by_their_own_polls_and_by_poll() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(1).dispatch(Dispatch::Manual));
    let (waker, woken) = counting();
    let occupied = occupy(&aio);
    let mut pending = request(&aio).start().unwrap();
    assert!(poll_with(&mut pending, &waker).is_pending());
    drop(occupied);
    while woken.get() == 0 {
        aio.poll(1, 10, None).unwrap();
    }
    assert!(poll_with(&mut pending, &waker).is_ready());
    // Without `poll` its own polls look.
    let mut pending = request(&aio).start().unwrap();
    until(|| poll_with(&mut pending, Waker::noop()).is_ready());
}
