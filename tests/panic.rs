//! User code that panics (callbacks, wakers, destructors, files) is survived: counted, and everybody else's
//! requests go on.

#![allow(
    unsafe_code,
    reason = "a waker whose clone panics, and buffers with destructors of the tests' own"
)]

mod common;

use common::*;
use kiocb::buf::IoBuf;
use kiocb::op::{Read, Write};
use kiocb::{Aio, Dispatch, Iocb};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};

/// Panics without a message on the terminal.
fn burst() -> ! {
    resume_unwind(Box::new("on purpose"))
}

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

fn write(aio: &Aio) -> Iocb<kiocb::op::Rw<Arc<File>, Write, [u8; 4]>> {
    aio.alloc().init_rw(null(), Write, [0; 4], 0)
}

#[test]
fn callbacks_that_panic_are_counted_and_the_others_called() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = build(Aio::builder().depth(4).dispatch(dispatch));
        let fates = Fates::default();
        for index in 0..300 {
            let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
            let callback = fates.callback();
            aio.alloc()
                .init_rw(file, Write, buf, 0)
                .init_callback(move |done| {
                    callback(done);
                    if index % 3 == 0 {
                        burst();
                    }
                })
                .submit()
                .unwrap();
        }
        aio.drain().unwrap();
        assert_eq!(fates.seen(), [300; 4]);
        let stats = aio.stats();
        assert_eq!(
            (stats.panics, stats.accepted, stats.completed),
            (100, 300, 300)
        );
    }
}

#[test]
fn what_a_callback_submitted_before_it_panicked_is_done() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = build(Aio::builder().dispatch(dispatch));
        let (inner, called) = (aio.clone(), Counter::default());
        let calls = called.clone();
        let request = write(&aio).init_callback(move |_| {
            for _ in 0..100 {
                let calls = calls.clone();
                let counted = write(&inner).init_callback(move |_| {
                    calls.add();
                });
                counted.submit().unwrap();
            }
            burst();
        });
        request.submit().unwrap();
        aio.drain().unwrap();
        assert_eq!((called.get(), aio.stats().panics), (100, 1));
    }
}

#[test]
fn a_payload_whose_destructor_panics_is_survived() {
    struct Nasty;
    impl Drop for Nasty {
        fn drop(&mut self) {
            burst();
        }
    }
    let _watchdog = watchdog();
    let aio = aio();
    let request = write(&aio).init_callback(|_| resume_unwind(Box::new(Nasty)));
    request.submit().unwrap();
    aio.drain().unwrap();
    assert_eq!(aio.stats().panics, 1);
    assert_eq!(write(&aio).wait().unwrap().result.unwrap(), 4);
}

/// A waker that does the worst.
struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        burst();
    }
}

#[test]
fn a_waker_that_panics_is_counted_and_the_others_woken() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = build(Aio::builder().depth(1).dispatch(dispatch));
        let nasty = Waker::from(Arc::new(PanickingWaker));
        let occupied = occupy(&aio);
        let mut pending: Vec<_> = (0..20).map(|_| write(&aio).start().unwrap()).collect();
        for (index, pending) in pending.iter_mut().enumerate() {
            let waker = if index % 2 == 0 {
                &nasty
            } else {
                Waker::noop()
            };
            let polled = Pin::new(pending).poll(&mut Context::from_waker(waker));
            assert!(polled.is_pending());
        }
        drop(occupied);
        aio.drain().unwrap();
        assert_eq!(aio.stats().panics, 10);
        for pending in pending {
            assert_eq!(pending.wait().result.unwrap(), 4);
        }
    }
}

#[test]
fn a_waker_that_panics_when_it_is_cloned_leaves_the_future_usable() {
    fn clone(_: *const ()) -> RawWaker {
        burst()
    }
    static TABLE: RawWakerVTable = RawWakerVTable::new(clone, |_| (), |_| (), |_| ());
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(1));
    let occupied = occupy(&aio);
    let mut pending = write(&aio).start().unwrap();
    // SAFETY: the functions of the table make nothing of the pointer.
    let nasty = unsafe { Waker::new(std::ptr::null(), &TABLE) };
    let polled = catch_unwind(AssertUnwindSafe(|| {
        Pin::new(&mut pending)
            .poll(&mut Context::from_waker(&nasty))
            .is_pending()
    }));
    polled.unwrap_err();
    let polled = Pin::new(&mut pending).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    drop(occupied);
    assert_eq!(pending.wait().result.unwrap(), 4);
}

/// A buffer with a destructor of the test's.
struct Trap<D: FnMut()>([u8; 4], D);

impl<D: FnMut()> Drop for Trap<D> {
    fn drop(&mut self) {
        (self.1)();
    }
}

// SAFETY: the array's own promise.
unsafe impl<D: FnMut()> IoBuf for Trap<D> {
    fn buf_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    fn buf_len(&self) -> usize {
        4
    }
}

#[test]
fn an_abandoned_buffer_whose_destructor_panics_is_counted() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = build(Aio::builder().depth(1).dispatch(dispatch));
        let occupied = occupy(&aio);
        for _ in 0..20 {
            let request = aio
                .alloc()
                .init_rw(null(), Write, Trap([0; 4], || burst()), 0);
            drop(request.start().unwrap());
        }
        let last = write(&aio).start().unwrap();
        drop(occupied);
        assert_eq!(last.wait().result.unwrap(), 4);
        aio.drain().unwrap();
        assert_eq!(aio.stats().panics, 20);
    }
}

#[test]
fn a_buffer_or_closure_whose_destructor_panics_in_a_callback_is_counted() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = build(Aio::builder().dispatch(dispatch));
        for _ in 0..10 {
            let request = aio
                .alloc()
                .init_rw(null(), Write, Trap([0; 4], || burst()), 0);
            request.init_callback(drop).submit().unwrap();
            let captured = Trap([0; 4], || burst());
            let request = write(&aio).init_callback(move |_| drop(captured));
            request.submit().unwrap();
        }
        aio.drain().unwrap();
        assert_eq!((aio.stats().panics, aio.stats().completed), (20, 20));
    }
}

#[test]
fn an_abandoned_buffer_may_submit_when_it_is_dropped() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = build(Aio::builder().depth(1).dispatch(dispatch));
        let (send, receive) = mpsc::channel();
        let occupied = occupy(&aio);
        for _ in 0..20 {
            let (inner, send) = (aio.clone(), send.clone());
            let trap = Trap([0; 4], move || {
                let send = send.clone();
                let request = write(&inner).init_callback(move |done| {
                    send.send(done.result.unwrap()).unwrap();
                });
                request.submit().unwrap();
            });
            drop(aio.alloc().init_rw(null(), Write, trap, 0).start().unwrap());
        }
        drop((occupied, send));
        while dispatch == Dispatch::Manual && aio.poll(1, 64, None).unwrap() > 0 {}
        assert_eq!(receive.iter().sum::<usize>(), 80);
    }
}

/// A file that does not even say what it is.
struct NastyFile;

impl AsFd for NastyFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        burst()
    }
}

#[test]
fn a_file_that_panics_in_as_fd_stops_only_its_submitter() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(1));
    for _ in 0..10 {
        let request = aio.alloc().init_rw(NastyFile, Read, [0; 4], 0);
        catch_unwind(AssertUnwindSafe(|| request.wait().is_ok())).unwrap_err();
        let request = aio.alloc().init_rw(NastyFile, Read, [0; 4], 0);
        let request = request.init_callback(|_| ());
        catch_unwind(AssertUnwindSafe(|| request.submit().is_ok())).unwrap_err();
    }
    assert_eq!(aio.stats().accepted, 0);
    assert_eq!(write(&aio).wait().unwrap().result.unwrap(), 4);
    aio.drain().unwrap();
}

#[test]
fn a_future_that_is_dropped_by_a_panic_is_as_any_other() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(1));
    let fates = Fates::default();
    let occupied = occupy(&aio);
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
        let request = aio.alloc().init_rw(file, Write, buf, 0);
        let future = pin!(request.into_future());
        let polled = future.poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
        burst()
    }));
    unwound.unwrap_err();
    assert_eq!(fates.seen(), [0; 4]);
    drop(occupied);
    aio.drain().unwrap();
    assert_eq!(fates.seen(), [1, 1, 0, 0]);
}
#[test]
fn a_buffer_refused_inside_a_callback_may_submit_when_it_is_dropped() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = build(Aio::builder().dispatch(dispatch));
        let (inner, (send, receive)) = (aio.clone(), mpsc::channel());
        let request = write(&aio).init_callback(move |_| {
            let last = inner.clone();
            let trap = Trap([0; 4], move || {
                let send = send.clone();
                let request = write(&last).init_callback(move |done| {
                    send.send(done.result.unwrap()).unwrap();
                });
                request.submit().unwrap();
            });
            // Not open for writing: refused, now or later, and nobody waits for it.
            let unwritable = File::open("/dev/null").unwrap();
            let request = inner.alloc().init_rw(unwritable, Write, trap, 0);
            drop(request.start());
        });
        request.submit().unwrap();
        while dispatch == Dispatch::Manual && aio.poll(1, 64, None).unwrap() > 0 {}
        assert_eq!(receive.recv().unwrap(), 4);
        aio.drain().unwrap();
        assert_eq!(aio.stats().panics, 0);
    }
}
