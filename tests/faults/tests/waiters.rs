//! Many threads wait at once, in every way there is, for requests that complete in adverse orders: each gets
//! its own result, and nobody hangs.

mod kit;

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kiocb::{Aio, Dispatch, Pending};
use kiocb_faults::{Gate, SlowFs, Watchdog, need, need_root};
use kit::*;

const ALL: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];
const CROWD: u64 = 12;

/// How a thread waits for a block.
#[derive(Clone, Copy, Debug)]
enum Way {
    Wait,
    Handle,
    Impatient,
    Future,
    Callback,
}

const WAYS: [Way; 5] = [
    Way::Wait,
    Way::Handle,
    Way::Impatient,
    Way::Future,
    Way::Callback,
];

/// Reads block `number` and waits for it. Under Manual, futures and callbacks rely on somebody who polls.
fn await_block(aio: &Aio, file: &Arc<File>, number: u64, way: Way) {
    let request = read(aio, file, number);
    let done = match way {
        Way::Wait => request.wait().unwrap(),
        Way::Handle => request.start().unwrap().wait(),
        Way::Impatient => patiently(request.start().unwrap()),
        Way::Future => block_on(request.into_future()).unwrap(),
        Way::Callback => {
            let (done, completion) = channel();
            request
                .init_callback(move |completion| done.send(completion).unwrap())
                .submit()
                .unwrap();
            receive(&completion)
        }
    };
    verify(&done, number);
}

fn patiently(mut handle: Pending<ReadingState>) -> Done {
    loop {
        match handle.wait_timeout(Duration::from_micros(300)) {
            Ok(done) => return done,
            Err(again) => handle = again,
        }
    }
}

/// Polls a Manual context until this is dropped.
struct Poller(Arc<AtomicBool>, Option<Worker<()>>);

impl Poller {
    fn of(aio: &Aio, dispatch: Dispatch) -> Option<Poller> {
        let stop = Arc::new(AtomicBool::new(false));
        let (aio, stopped) = (aio.clone(), Arc::clone(&stop));
        let poll = move || {
            while !stopped.load(Ordering::Relaxed) {
                aio.poll(1, 4, Some(Duration::from_millis(2))).unwrap();
            }
        };
        (dispatch == Dispatch::Manual).then(|| Poller(stop, Some(Worker::start(poll))))
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        if let Some(worker) = self.1.take() {
            worker.join();
        }
    }
}

/// In which order held requests are let go.
#[derive(Clone, Copy, Debug)]
enum Order {
    OldestFirst,
    NewestFirst,
    InsideOut,
    AtOnce,
}

const ORDERS: [Order; 4] = [
    Order::OldestFirst,
    Order::NewestFirst,
    Order::InsideOut,
    Order::AtOnce,
];

fn open(gate: Gate, order: Order) {
    let mut left = gate.held().len();
    while left > 0 {
        match order {
            Order::OldestFirst => gate.let_through(0),
            Order::NewestFirst => gate.let_through(left - 1),
            Order::InsideOut => gate.let_through(left / 2),
            Order::AtOnce => return gate.release(),
        }
        left -= 1;
    }
}

/// A crowd of threads, each waiting in its way for its own block; all are held, then let go in this order.
fn crowd(dispatch: Dispatch, order: Order, ways: &[Way], depth: u32) {
    let fs = need!(SlowFs::new());
    let file = Arc::new(fs.file("f", blocks(CROWD as u8)));
    let gate = fs.hold_reads(0..u64::MAX);
    let aio = Aio::builder()
        .depth(depth)
        .dispatch(dispatch)
        .build()
        .unwrap();
    let poller = Poller::of(&aio, dispatch);
    let workers: Vec<_> = (0..CROWD)
        .zip(ways.iter().cycle())
        .map(|(number, &way)| {
            let (aio, file) = (aio.clone(), Arc::clone(&file));
            Worker::start(move || await_block(&aio, &file, number, way))
        })
        .collect();
    gate.wait_for((CROWD as usize).min(depth as usize));
    open(gate, order);
    workers.into_iter().for_each(Worker::join);
    aio.drain().unwrap();
    let stats = aio.stats();
    assert_eq!(
        (stats.completed, stats.in_flight, stats.queued),
        (CROWD, 0, 0)
    );
    drop(poller);
}

fn all_orders(ways: &[Way]) {
    for dispatch in ALL {
        for order in ORDERS {
            crowd(dispatch, order, ways, CROWD as u32);
            crowd(dispatch, order, ways, 3);
        }
    }
}

#[test]
fn a_crowd_of_waits_in_every_order() {
    need_root!();
    let _watchdog = Watchdog::new("waits");
    all_orders(&[Way::Wait]);
}

#[test]
fn a_crowd_of_handles_patient_and_impatient_in_every_order() {
    need_root!();
    let _watchdog = Watchdog::new("handles");
    all_orders(&[Way::Handle, Way::Impatient]);
}

#[test]
fn a_crowd_of_every_way_to_wait_in_every_order() {
    need_root!();
    let _watchdog = Watchdog::new("every way");
    all_orders(&WAYS);
}

/// Where every kind of waiter is present, a callback that takes its time must stop nobody else's wait, or
/// resubmission.
#[test]
fn a_crowd_behind_a_callback_that_waits_for_all_of_them() {
    need_root!();
    let _watchdog = Watchdog::new("callback waits for the crowd");
    for _ in 0..20 {
        for order in ORDERS {
            let fs = need!(SlowFs::new());
            let file = Arc::new(fs.file("f", blocks(CROWD as u8)));
            let gate = fs.hold_reads(0..u64::MAX);
            let aio = aio(32);
            let (finished, count) = channel::<()>();
            let (called, calls) = channel();
            read(&aio, &file, 0)
                .init_callback(move |done| {
                    (1..CROWD).for_each(|_| receive(&count)); // only the waiters themselves can make that true
                    called.send(done).unwrap();
                })
                .submit()
                .unwrap();
            let workers: Vec<_> = (1..CROWD)
                .map(|number| {
                    let (aio, file, finished) = (aio.clone(), Arc::clone(&file), finished.clone());
                    let way = if number % 2 == 0 {
                        Way::Wait
                    } else {
                        Way::Impatient
                    };
                    Worker::start(move || {
                        await_block(&aio, &file, number, way);
                        finished.send(()).unwrap();
                    })
                })
                .collect();
            gate.wait_for(CROWD as usize);
            open(gate, order);
            workers.into_iter().for_each(Worker::join);
            verify(&receive(&calls), 0);
        }
    }
}

/// A chain of callbacks, each of which submits the next; its last link tells.
fn chain(aio: Aio, file: Arc<File>, links: u64, end: Sender<()>) {
    let (next, again) = (aio.clone(), Arc::clone(&file));
    let submitted = read(&aio, &file, links % CROWD).init_callback(move |done| {
        verify(&done, links % CROWD);
        match links {
            0 => end.send(()).unwrap(),
            _ => chain(next, again, links - 1, end),
        }
    });
    submitted.submit().unwrap();
}

/// Nothing is held long; what completes when is left to a thread that opens a gate for whichever comes.
#[test]
fn a_long_storm_of_everything_at_once() {
    need_root!();
    let _watchdog = Watchdog::new("storm");
    for dispatch in ALL {
        for depth in [1, 4, 64] {
            let fs = Arc::new(need!(SlowFs::new()));
            let file = Arc::new(fs.file("f", blocks(CROWD as u8)));
            let aio = Aio::builder()
                .depth(depth)
                .dispatch(dispatch)
                .build()
                .unwrap();
            let poller = Poller::of(&aio, dispatch);
            let (end, ended) = channel();
            (0..3).for_each(|_| chain(aio.clone(), Arc::clone(&file), 60, end.clone()));
            let left = Arc::new(AtomicUsize::new(8));
            let workers: Vec<_> = (0..8_u64)
                .map(|seed| {
                    let (aio, file, left) = (aio.clone(), Arc::clone(&file), Arc::clone(&left));
                    Worker::start(move || {
                        for round in 0..40 {
                            let way = WAYS[(seed + round) as usize % WAYS.len()];
                            await_block(&aio, &file, (seed * 5 + round * 7) % CROWD, way);
                            if round % 9 == 0 {
                                drop(read(&aio, &file, 3).start().unwrap());
                            }
                        }
                        left.fetch_sub(1, Ordering::Relaxed);
                    })
                })
                .collect();
            while left.load(Ordering::Relaxed) > 0 {
                let gate = fs.hold_reads(0..4 * B);
                std::thread::yield_now();
                open(gate, ORDERS[left.load(Ordering::Relaxed) % ORDERS.len()]);
            }
            workers.into_iter().for_each(Worker::join);
            (0..3).for_each(|_| receive(&ended));
            aio.drain().unwrap();
            let stats = aio.stats();
            assert_eq!(
                stats.accepted,
                3 * 61 + 8 * (40 + 5),
                "{dispatch:?} {depth}"
            );
            assert_eq!(
                (stats.completed, stats.in_flight, stats.queued),
                (stats.accepted, 0, 0)
            );
            assert_eq!((stats.refused_late, stats.panics), (0, 0));
            drop(poller);
        }
    }
}

#[test]
fn handles_may_move_between_threads_before_they_are_waited_for() {
    need_root!();
    let _watchdog = Watchdog::new("handles change hands");
    for dispatch in ALL {
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(CROWD as u8)));
        let gate = fs.hold_reads(0..u64::MAX);
        let aio = Aio::builder().depth(32).dispatch(dispatch).build().unwrap();
        let poller = Poller::of(&aio, dispatch);
        let started = (0..CROWD).map(|number| (number, read(&aio, &file, number).start().unwrap()));
        let pile = Arc::new(Mutex::new(started.collect::<Vec<_>>()));
        let count = Counter::default();
        let workers: Vec<_> = (0..5)
            .map(|index| {
                let (pile, count) = (Arc::clone(&pile), count.clone());
                Worker::start(move || {
                    while count.get() < CROWD as usize {
                        let Some((number, mut handle)) = pile.lock().unwrap().pop() else {
                            std::thread::yield_now();
                            continue;
                        };
                        // Sometimes it has been polled as a future in between, and has a waker of that.
                        let polled = if index == 0 {
                            poll_once(&mut handle)
                        } else {
                            std::task::Poll::Pending
                        };
                        let waited = match polled {
                            std::task::Poll::Ready(done) => Ok(done),
                            std::task::Poll::Pending => {
                                handle.wait_timeout(Duration::from_micros(200))
                            }
                        };
                        match waited {
                            Ok(done) => {
                                verify(&done, number);
                                count.add();
                            }
                            Err(handle) => pile.lock().unwrap().insert(0, (number, handle)),
                        }
                    }
                })
            })
            .collect();
        gate.wait_for(CROWD as usize);
        open(gate, Order::InsideOut);
        workers.into_iter().for_each(Worker::join);
        drop(poller);
    }
}

#[test]
fn poll_delivers_no_more_than_it_is_asked_for() {
    need_root!();
    let _watchdog = Watchdog::new("poll's max");
    let fs = need!(SlowFs::new());
    let file = Arc::new(fs.file("f", blocks(CROWD as u8)));
    for _ in 0..20 {
        let gate = fs.hold_reads(0..u64::MAX);
        let aio = Aio::builder()
            .depth(32)
            .dispatch(Dispatch::Manual)
            .build()
            .unwrap();
        let (done, completions) = channel();
        (0..CROWD).for_each(|number| read_to(&aio, &file, number, &done));
        gate.wait_for(CROWD as usize);
        let polling = aio.clone();
        let poller = Worker::start(move || polling.poll(1, 2, None).unwrap());
        poller.wait_until_leading();
        gate.release();
        let first = poller.join();
        assert!((1..=2).contains(&first), "{first}");
        assert_eq!(completions.try_iter().count(), first);
        let mut left = CROWD as usize - first;
        while left > 0 {
            let more = aio.poll(1, 3, None).unwrap();
            assert!((1..=3).contains(&more), "{more}");
            assert_eq!(completions.try_iter().count(), more);
            left -= more;
        }
    }
}
