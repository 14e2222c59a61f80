//! User code that is found while other user code waits does not run on top of it: however many there are, the
//! stack does not grow.

use crate::common::modes::in_both_modes;
use crate::common::*;
use crate::hostile::*;
use kiocb::op::{Read, Rw};
use kiocb::{Aio, Dispatch, Iocb, Pending};
use std::cell::Cell;
use std::fs::File;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::thread;

const MANY: usize = 20_000;

type Nothing = Rw<Arc<File>, Read, Vec<u8>>;

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

fn request(aio: &Aio, file: &Arc<File>) -> Iocb<Nothing> {
    aio.alloc().init_rw(Arc::clone(file), Read, Vec::new(), 0)
}

/// Runs it on a thread with 26 bytes of stack for each request: not enough for a frame of a function.
fn on_a_small_stack(body: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(26 * MANY).spawn(body);
    thread.unwrap().join().unwrap();
}

/// Counts how deep it is inside itself, and the deepest.
struct Deeper<'a>(&'a Counter);

impl Deeper<'_> {
    fn enter(nested: &Counter) -> Deeper<'_> {
        let depth = DEPTH.get() + 1;
        DEPTH.set(depth);
        if depth > 1 {
            nested.add();
        }
        Deeper(nested)
    }
}

impl Drop for Deeper<'_> {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        let _ = self.0;
    }
}

/// Handles for wakers to take the last from.
type Stock = Arc<Mutex<Vec<Pending<Nothing>>>>;

/// `MANY` queued requests, each of whose wakers does `deed` with another one.
fn with_many_wakers(
    dispatch: Dispatch,
    deed: impl Fn(&Aio, Pending<Nothing>) + Send + Sync + 'static,
) {
    let aio = build(Aio::builder().depth(1).dispatch(dispatch));
    let (file, stock) = (null(), Stock::default());
    let (woken, nested) = (Counter::default(), Counter::default());
    let wakes: Deed = {
        let (aio, stock, woken, nested) = (
            aio.clone(),
            Arc::clone(&stock),
            woken.clone(),
            nested.clone(),
        );
        Arc::new(move || {
            let _inside = Deeper::enter(&nested);
            let other = stock.lock().unwrap().pop();
            if let Some(other) = other {
                deed(&aio, other);
            }
            woken.add();
        })
    };
    let waker = waker(wakes);
    let occupied = occupy(&aio);
    let mut watched: Vec<_> = (0..MANY / 2)
        .map(|_| request(&aio, &file).start().unwrap())
        .collect();
    watched
        .iter_mut()
        .for_each(|pending| leave(pending, &waker));
    let others = (0..MANY / 2).map(|_| request(&aio, &file).start().unwrap());
    let others: Vec<_> = others.collect();
    *stock.lock().unwrap() = others;
    drop(occupied);
    aio.drain().unwrap();
    woken.until(MANY / 2);
    assert_eq!(nested.get(), 0);
    assert_eq!(aio.stats().panics, 0);
}

const ALL: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

#[test]
fn wakers_that_wait_inline_do_not_nest() {
    in_both_modes(|| {
        for dispatch in ALL {
            on_a_small_stack(move || {
                with_many_wakers(dispatch, |_, other| {
                    assert_eq!(other.wait().result.unwrap(), 0)
                });
            });
        }
    });
}

#[test]
fn wakers_that_poll_inline_do_not_nest() {
    in_both_modes(|| {
        for dispatch in ALL {
            on_a_small_stack(move || {
                with_many_wakers(dispatch, |_, mut other| {
                    let mut context = Context::from_waker(Waker::noop());
                    drop(Future::poll(Pin::new(&mut other), &mut context));
                });
            });
        }
    });
}

#[test]
fn wakers_that_read_inline_do_not_nest() {
    in_both_modes(|| {
        for dispatch in ALL {
            on_a_small_stack(move || {
                let file = null();
                with_many_wakers(dispatch, move |aio, _other| {
                    assert_eq!(aio.read_at(&file, &mut [0], 0).unwrap(), 0);
                });
            });
        }
    });
}

#[test]
fn wakers_of_refused_requests_do_not_nest() {
    in_both_modes(|| {
        for dispatch in ALL {
            on_a_small_stack(move || refused(dispatch));
        }
    });
}

/// Queued requests that the kernel refuses one after the other, each of whose wakers starts one more.
fn refused(dispatch: Dispatch) {
    let aio = build(Aio::builder().depth(1).dispatch(dispatch));
    let unwritable = Arc::new(File::open("/dev/null").unwrap());
    let write = {
        let aio = aio.clone();
        move || {
            aio.alloc()
                .init_rw(Arc::clone(&unwritable), kiocb::op::Write, [0; 4], 0)
        }
    };
    let (woken, nested) = (Counter::default(), Counter::default());
    let wakes: Deed = {
        let (write, woken, nested) = (write.clone(), woken.clone(), nested.clone());
        Arc::new(move || {
            let _inside = Deeper::enter(&nested);
            drop(write().wait());
            woken.add();
        })
    };
    let waker = waker(wakes);
    let occupied = occupy(&aio);
    let mut watched: Vec<_> = (0..MANY).map(|_| write().start().unwrap()).collect();
    watched
        .iter_mut()
        .for_each(|pending| leave(pending, &waker));
    drop(occupied);
    aio.drain().unwrap();
    woken.until(MANY);
    assert_eq!(nested.get(), 0);
    for pending in watched {
        assert_eq!(
            pending.wait().result.unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
    }
}

#[test]
fn destructors_that_wait_inline_do_not_nest() {
    in_both_modes(|| {
        for dispatch in ALL {
            on_a_small_stack(move || destructors(dispatch));
        }
    });
}

/// Abandoned requests, each of whose buffers reads a file when it is dropped.
fn destructors(dispatch: Dispatch) {
    let aio = build(Aio::builder().depth(1).dispatch(dispatch));
    let file = null();
    let (dropped, nested) = (Counter::default(), Counter::default());
    let deed: Deed = {
        let (aio, file, dropped, nested) = (
            aio.clone(),
            Arc::clone(&file),
            dropped.clone(),
            nested.clone(),
        );
        Arc::new(move || {
            let _inside = Deeper::enter(&nested);
            assert_eq!(aio.read_at(&file, &mut [0], 0).unwrap(), 0);
            dropped.add();
        })
    };
    let occupied = occupy(&aio);
    for _ in 0..MANY {
        let buf = DeedBuf {
            bytes: Vec::new(),
            at: At::Dropped,
            deed: Arc::clone(&deed),
        };
        drop(
            aio.alloc()
                .init_rw(Arc::clone(&file), Read, buf, 0)
                .start()
                .unwrap(),
        );
    }
    drop(occupied);
    aio.drain().unwrap();
    assert_eq!((dropped.get(), nested.get()), (MANY, 0));
}

#[test]
fn callbacks_that_wait_inline_do_not_nest() {
    in_both_modes(|| {
        for dispatch in ALL {
            on_a_small_stack(move || callbacks(dispatch));
        }
    });
}

fn callbacks(dispatch: Dispatch) {
    let aio = build(Aio::builder().depth(4).dispatch(dispatch));
    let (file, called, nested) = (null(), Counter::default(), Counter::default());
    for _ in 0..MANY {
        let (inner, zero) = (aio.clone(), Arc::clone(&file));
        let (called, nested) = (called.clone(), nested.clone());
        let counted = request(&aio, &file).init_callback(move |_| {
            let _inside = Deeper::enter(&nested);
            assert_eq!(inner.read_at(&zero, &mut [0], 0).unwrap(), 0);
            called.add();
        });
        counted.submit().unwrap();
    }
    aio.drain().unwrap();
    assert_eq!((called.get(), nested.get()), (MANY, 0));
}
