//! Forks while another thread is in the middle of the crate: asleep in a call, stopped at each of its
//! allocations, which often have a lock around them, or anywhere. The child never waits for that thread.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kiocb::op::{Rw, Write};
use kiocb::{Aio, Dispatch, Iocb, PollFlags, SyncKind};
use kiocb_faults::{Answer, Child, is_asleep_in, supervise};

use crate::deed::{Deed, end};
use crate::gated;
use crate::kit::{self, Worker, wait_until};
use crate::ledger::{Ledger, in_child};
use crate::place::Place;
use crate::world::{World, depth_for, fork_here, start_thread, world};
use crate::{BOUND, end_of_child, is_enough, kinds};

#[test]
fn a_fork_beside_a_thread_that_sleeps_disturbs_nobody() {
    kinds(
        "locks::a_fork_beside_a_thread_that_sleeps_disturbs_nobody",
        |dispatch| {
            let calls = Sleep::ALL
                .into_iter()
                .filter(|call| call.is_possible(dispatch));
            collect(calls.map(|call| beside_sleeper(dispatch, call)))
        },
    );
}

#[test]
fn a_fork_beside_a_thread_that_allocates_disturbs_nobody() {
    kinds(
        "locks::a_fork_beside_a_thread_that_allocates_disturbs_nobody",
        |dispatch| {
            let steps = 0..STEPS.len();
            collect(steps.map(|step| beside_allocations(dispatch, step)))
        },
    );
}

#[test]
fn a_fork_beside_threads_that_are_anywhere_disturbs_nobody() {
    kinds(
        "locks::a_fork_beside_threads_that_are_anywhere_disturbs_nobody",
        beside_load,
    );
}

/// The faults, until they are enough.
fn collect(each: impl Iterator<Item = Vec<String>>) -> Vec<String> {
    let mut all = Vec::new();
    for faults in each {
        all.extend(faults);
        if is_enough(&all) {
            break;
        }
    }
    all
}

/// Forks for the deed on this thread, which is in no user code; says what is wrong.
fn child_for(world: &mut World, deed: Deed, what: &str) -> Vec<String> {
    world.ledger = Ledger::new();
    world.deed = deed;
    fork_here();
    let fault = end_of_child(world).into_iter();
    let strays = world.ledger.strays();
    let strays = (strays > 0).then(|| format!("it called {strays} callbacks of the parent's"));
    fault
        .chain(strays)
        .map(|fault| format!("beside {what}, the child {deed:?}: {fault}"))
        .collect()
}

/// Where a thread can sleep inside the crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    Wait,
    Drain,
    Poll,
    Submit,
}

impl Sleep {
    const ALL: [Sleep; 4] = [Sleep::Wait, Sleep::Drain, Sleep::Poll, Sleep::Submit];

    fn is_possible(self, dispatch: Dispatch) -> bool {
        self != Sleep::Poll || dispatch == Dispatch::Manual
    }

    fn fall_asleep(self, file: File) {
        let aio = world().aio();
        match self {
            Sleep::Wait => {
                let waiting = aio.alloc().init_poll(file, PollFlags::IN).wait();
                waiting.unwrap().result.unwrap();
            }
            Sleep::Drain => aio.drain().unwrap(),
            Sleep::Poll => drop(aio.poll(1, usize::MAX, None).unwrap()),
            Sleep::Submit => {
                let read = aio.alloc().init_rw(file, kiocb::op::Read, [0; 1], 0).wait();
                read.unwrap().result.unwrap();
            }
        }
    }
}

fn beside_sleeper(dispatch: Dispatch, sleep: Sleep) -> Vec<String> {
    let mut world = World::new(dispatch, depth_for(Place::Callback), Deed::Returns);
    let (reader, writer) = std::io::pipe().unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(reader));
    let sleeper = Worker::start(move || sleep.fall_asleep(file));
    let asleep = [libc::SYS_io_getevents, libc::SYS_futex, libc::SYS_io_submit];
    wait_until("it sleeps", || {
        asleep
            .iter()
            .any(|&call| is_asleep_in(sleeper.thread, call))
    });
    let mut faults = Vec::new();
    for deed in Deed::AT_ONCE {
        if is_enough(&faults) {
            break;
        }
        faults.extend(child_for(
            &mut world,
            deed,
            &format!("a thread in {sleep:?}, {dispatch:?}"),
        ));
    }
    use std::io::Write as _;
    (&writer).write_all(b"!").unwrap();
    world.ring();
    sleeper.join();
    faults.extend(finish(&mut world));
    faults
}

/// The parent's end of a world in which only children of [`child_for`] were forked.
fn finish(world: &mut World) -> Option<String> {
    assert!(!in_child());
    if let Some(tools) = &mut world.tools {
        tools.end_write();
    }
    let drained = world
        .aio()
        .drain_timeout(BOUND)
        .err()
        .map(|error| format!("drain: {error}"));
    std::mem::forget(world.aio.take());
    drained
}

type Step = fn(&World);

/// What a thread does over and over; each takes other locks.
const STEPS: [(&str, Step); 8] = [
    ("wait", |world| {
        assert_eq!(null(world).wait().unwrap().result.unwrap(), 4);
    }),
    ("callbacks", |world| {
        for _ in 0..4 {
            CALLS.fetch_add(1, Ordering::SeqCst);
            let request = null(world).init_callback(move |_| called());
            request.submit().unwrap();
        }
        throttle(world);
    }),
    ("handles", |world| {
        let handles: Vec<_> = (0..70).map(|_| null(world).start().unwrap()).collect();
        drop(handles);
    }),
    ("futures", |world| {
        let (handle, bell) = watched_handle(world);
        drop(bell); // readable: hung up
        kit::block_on(handle).result.unwrap();
    }),
    ("batch", |world| {
        let mut batch = world.aio().batch();
        let handles: Vec<_> = (0..40).map(|_| batch.push(null(world))).collect();
        assert!(batch.submit().is_empty());
        drop(handles);
    }),
    ("scope", |world| {
        let file = null_file();
        let pieces = (0..6).map(|offset| (&[0_u8][..], offset));
        world
            .aio()
            .write_many(&file, pieces)
            .into_iter()
            .for_each(|result| assert_eq!(result.unwrap(), 1));
    }),
    ("group", |world| {
        let group = &world.tools.as_ref().unwrap().idle_group;
        CALLS.fetch_add(2, Ordering::SeqCst);
        let written = group.write([1; 8], 0, |_| called());
        assert!(written.is_ok());
        let made = group.barrier(SyncKind::Data, |_| called());
        assert!(made.is_ok());
        throttle(world);
    }),
    ("pool", |world| {
        let pool = &world.tools.as_ref().unwrap().pool;
        for _ in 0..100 {
            drop(pool.take());
            drop(pool.try_take());
        }
    }),
];

/// Callbacks that shall be called, and that were.
static CALLS: AtomicUsize = AtomicUsize::new(0);
static CALLED: AtomicUsize = AtomicUsize::new(0);

fn called() {
    if in_child() {
        world().ledger.stray();
    }
    CALLED.fetch_add(1, Ordering::SeqCst);
}

/// Waits while more than so many callbacks are outstanding: memory is not endless.
fn throttle(world: &World) {
    let outstanding = || CALLS.load(Ordering::SeqCst) - CALLED.load(Ordering::SeqCst);
    while outstanding() > 100 && !in_child() {
        reap(world);
        std::thread::yield_now();
    }
}

/// One descriptor for all.
fn null_file() -> Arc<File> {
    static NULL: OnceLock<Arc<File>> = OnceLock::new();
    let open = || Arc::new(File::options().write(true).open("/dev/null").unwrap());
    Arc::clone(NULL.get_or_init(open))
}

fn null(world: &World) -> Iocb<Rw<Arc<File>, Write, [u8; 4]>> {
    world.aio().alloc().init_rw(null_file(), Write, [0; 4], 0)
}

fn watched_handle(world: &World) -> (crate::world::Readable, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut handle = world
        .aio()
        .alloc()
        .init_poll(reader, PollFlags::HUP)
        .start()
        .unwrap();
    let _ = kit::poll_once(&mut handle);
    (handle, writer)
}

/// How far apart are the allocations at which a step is stopped: not every one has a lock of its own.
const STRIDE: usize = 3;
/// At most so many of a step's allocations.
const POINTS: i32 = 24;

fn beside_allocations(dispatch: Dispatch, step: usize) -> Vec<String> {
    let mut world = World::new(dispatch, 4, Deed::Returns);
    let (name, run) = STEPS[step];
    let (orders, done) = stoppable(run);
    let mut deeds = Deed::AT_ONCE.into_iter().cycle();
    let mut faults = Vec::new();
    for nth in 0..POINTS {
        orders.send(nth).unwrap();
        let mut is_done = false;
        wait_until("it is stopped, or done", || {
            reap(&world);
            is_done = done.try_recv().is_ok();
            is_done || gated::is_stopped()
        });
        if is_done || is_enough(&faults) {
            break;
        }
        for deed in deeds.by_ref().take(STRIDE) {
            let what = format!("{name} at its allocation {nth}, {dispatch:?}");
            faults.extend(child_for(&mut world, deed, &what));
        }
        gated::go_on();
        wait_until("it is done", || {
            reap(&world);
            done.try_recv().is_ok()
        });
    }
    // The thread stays: one that ends has locks, too.
    std::mem::forget(orders);
    world.ring();
    faults.extend(finish(&mut world));
    faults
}

/// A thread that takes the step when it is told at which of its allocations to stop, and says when it is
/// done.
fn stoppable(run: Step) -> (Sender<i32>, Receiver<()>) {
    let (order, orders) = channel();
    let (tell, done) = channel();
    std::thread::spawn(move || {
        for nth in orders {
            gated::stop_at(nth);
            run(world());
            gated::go_on();
            tell.send(()).unwrap();
        }
    });
    (order, done)
}

/// Under `Dispatch::Manual` somebody has to.
fn reap(world: &World) {
    let _ = world.aio().poll(0, usize::MAX, Some(Duration::ZERO));
}

/// Forks under load for each deed so many times.
const ROUNDS: usize = 2;

/// Threads that make load.
const HAMMERS: usize = 3;

fn beside_load(dispatch: Dispatch) -> Vec<String> {
    let mut world = World::new(dispatch, 4, Deed::Returns);
    let over = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..HAMMERS).map(|first| hammer(first, &over)).collect();
    let mut faults = Vec::new();
    for deed in std::iter::repeat_n(Deed::AT_ONCE, ROUNDS).flatten() {
        if is_enough(&faults) {
            break;
        }
        faults.extend(child_for(&mut world, deed, &format!("load, {dispatch:?}")));
        reap(&world);
    }
    over.store(true, Ordering::SeqCst);
    for mut thread in load {
        wait_until("the load is over", || {
            reap(&world);
            thread.is_done().is_some()
        });
    }
    world.ring();
    faults.extend(finish(&mut world));
    let (calls, called) = (CALLS.load(Ordering::SeqCst), CALLED.load(Ordering::SeqCst));
    if calls != called {
        faults.push(format!("{called} of {calls} callbacks were called"));
    }
    faults
}

/// One of the threads that take all steps, again and again.
fn hammer(first: usize, over: &Arc<AtomicBool>) -> Worker<()> {
    let over = Arc::clone(over);
    Worker::start(move || {
        for step in (0..STEPS.len()).cycle().skip(first) {
            if over.load(Ordering::SeqCst) {
                return;
            }
            (STEPS[step].1)(world());
        }
    })
}

#[test]
fn a_fork_while_the_shared_context_is_made_does_not_stop_the_child() {
    let test = "locks::a_fork_while_the_shared_context_is_made_does_not_stop_the_child";
    for mode in ["0", "1"] {
        let child = Child::of(test).case(mode).env("KIOCB_FORCE_SYSCALLS", mode);
        child.run(fork_while_it_is_made).success();
    }
}

/// The supervisor of `io_setup` forks while another thread waits in that call for its answer.
fn fork_while_it_is_made() {
    let ledger = Ledger::new();
    let decide = move |call: &kiocb_faults::Call| {
        if call.index == 0 && ledger.fork(false) {
            end(use_the_global_or_hear);
        }
        Answer::Pass
    };
    kiocb_faults::need!(supervise(libc::SYS_io_setup, decide));
    let shared = Aio::global().unwrap();
    start_thread(&shared);
    let status = crate::wait_for(ledger.child()).expect("the child hangs");
    assert_eq!(libc::WEXITSTATUS(status), crate::deed::GOOD, "{status:#x}");
}

/// A context of the child's own, or the refusal: both will do.
fn use_the_global_or_hear() {
    let zero = || File::open("/dev/zero").unwrap();
    match Aio::global() {
        Err(error) => crate::deed::is_forked(&error),
        Ok(_) => {
            let done = Iocb::alloc()
                .init_rw(zero(), kiocb::op::Read, [1; 2], 0)
                .wait();
            assert_eq!(done.unwrap().result.unwrap(), 2);
        }
    }
}
