//! Forks in the middle of user code: where it happens × what the child then does, or returns from × where
//! callbacks run × how events are read. The parent loses nothing and doubles nothing; the child hears
//! `Forked`, or ends.
//!
//! Each place, dispatch and mode has a process of its own, in which the cells come one after the other, each
//! with a context, a file and a forked child of its own. All failing cells are reported at once.

#[path = "../kit/mod.rs"]
mod kit;

mod call;
mod deed;
mod gated;
mod ledger;
mod locks;
mod place;
mod tools;
mod world;

use std::panic::catch_unwind;
use std::time::Duration;

use call::Call;
use deed::{Deed, GOOD};
use kiocb::Dispatch;
use kiocb_faults::Child;
use ledger::in_child;
use place::{Logger, Place};
use tools::Tools;
use world::{Busy, Loose, World};

/// A child that is not over by then hangs. Far above what any takes.
const BOUND: Duration = Duration::from_secs(10);

/// Children that hang before the other cells of a kind are given up.
const MOST_HANGS: usize = 4;

#[test]
fn a_fork_in_a_callback_disturbs_nobody() {
    forks_in("a_fork_in_a_callback_disturbs_nobody", Place::Callback);
}

#[test]
fn a_fork_in_a_waker_disturbs_nobody() {
    forks_in("a_fork_in_a_waker_disturbs_nobody", Place::Waker);
}

#[test]
fn a_fork_in_a_destructor_disturbs_nobody() {
    forks_in("a_fork_in_a_destructor_disturbs_nobody", Place::Destructor);
}

#[test]
fn a_fork_in_a_logger_disturbs_nobody() {
    forks_in("a_fork_in_a_logger_disturbs_nobody", Place::Logger);
}

/// All cells of a place.
fn forks_in(test: &str, place: Place) {
    kinds(test, |dispatch| row(place, dispatch));
}

/// Runs the cells of each dispatch and mode in a process of their own; they say what is wrong. One that fails
/// does not keep the others from being tried.
fn kinds(test: &str, cells: impl Fn(Dispatch) -> Vec<String>) {
    let mut good = true;
    for mode in ["0", "1"] {
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
            let child = Child::of(test).case(&format!("{dispatch:?}, syscalls: {mode}"));
            let child = child
                .env("KIOCB_FORCE_SYSCALLS", mode)
                .env("RUST_BACKTRACE", "0");
            let exit = child.run(|| {
                let faults = cells(dispatch);
                assert!(faults.is_empty(), "{}", faults.join("\n"));
            });
            good &= catch_unwind(|| exit.success()).is_ok();
        }
    }
    assert!(good, "see above");
}

/// The cells of a process.
fn row(place: Place, dispatch: Dispatch) -> Vec<String> {
    hide_wanted_panics();
    log::set_logger(&Logger).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    let sleeping_call = if dispatch == Dispatch::Manual {
        Call::Poll
    } else {
        Call::Wait
    };
    let at_once = Deed::AT_ONCE.map(|deed| [(deed, sleeping_call), (deed, Call::Drain)]);
    let returning = Call::ALL.map(|call| (Deed::Returns, call));
    let cells = returning.into_iter().chain(at_once.into_iter().flatten());
    let mut failures = Vec::new();
    for (deed, call) in cells {
        if is_enough(&failures) {
            break;
        }
        for fault in cell(place, dispatch, deed, call) {
            failures.push(format!(
                "in a {place:?} inside {call:?}, the child {deed:?}: {fault}"
            ));
        }
    }
    failures
}

/// The callbacks that panic on purpose say nothing.
fn hide_wanted_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.to_string().contains(place::WANTED) {
            before(panic);
        }
    }));
}

/// Whether to try no more cells of this kind: each that hangs takes its time.
fn is_enough(faults: &[String]) -> bool {
    faults
        .iter()
        .filter(|fault| fault.contains("hangs"))
        .count()
        >= MOST_HANGS
}

/// One cell; says what is wrong.
fn cell(place: Place, dispatch: Dispatch, deed: Deed, call: Call) -> Vec<String> {
    eprintln!("cell: {place:?} {dispatch:?} {call:?} {deed:?}");
    // SAFETY: a number. If the parent hangs, this says in which cell.
    unsafe { libc::alarm(BOUND.as_secs() as u32 * 4) };
    let mut world = World::new(dispatch, world::depth_for(place), deed);
    world.plugs = !matches!(call, Call::LastDrop | Call::Shutdown);
    if call == Call::LastDrop {
        world.tools = None; // they keep a handle
    }
    let mut loose = Loose::default();
    if call.wants_busy_thread(place, dispatch) {
        loose.busy = Some(Busy::keep(world.aio()));
    }
    if call.waits_for_all() {
        world.ring();
    }
    place.lay(&world, &mut loose);
    loose.set_off();
    call.carry_out(&mut world);
    let faults = settle(&mut world, loose, call);
    // Threads that end are no better than threads that start, see `start_thread`: contexts stay, but for the
    // cells about their end.
    std::mem::forget(world.aio.take());
    faults
}

/// In the parent: completes everything, waits for the child, and compares.
fn settle(world: &mut World, loose: Loose, call: Call) -> Vec<String> {
    assert!(!in_child(), "the child goes its own way");
    let Loose { handles, busy, .. } = loose;
    drop(busy);
    if !call.waits_for_all() {
        world.ring();
    }
    world.tools.as_mut().map(Tools::end_write);
    let mut faults: Vec<String> = Call::drain(world).err().into_iter().collect();
    // A result can be seen before the waker was called.
    if !kit::comes_true(BOUND, || world.ledger.has_forked()) {
        faults.push("nothing forked".to_owned());
        return faults;
    }
    let held = world.held.take().into_iter();
    held.chain(handles)
        .for_each(|handle| world::finish(handle, world.aio.as_ref()));
    faults.extend(end_of_child(world));
    faults.extend(world.ledger.faults(&world.bytes()));
    let stats = world.aio.as_ref().map(kiocb::Aio::stats);
    if let Some(stats) = stats.filter(|stats| stats.completed != stats.accepted) {
        faults.push(format!("{stats:?}"));
    }
    faults
}

/// Waits for the child; says what is wrong with its end.
fn end_of_child(world: &World) -> Option<String> {
    // A completion thread that returns is the child's last thread, and ends with its process.
    let returns_elsewhere = world.deed == Deed::Returns && !world.ledger.forked_on_main();
    let wanted = if returns_elsewhere { 0 } else { GOOD };
    let status = wait_for(world.ledger.child());
    let place = if world.ledger.forked_on_main() {
        "the main thread"
    } else {
        "another thread"
    };
    match status {
        None => Some(format!("hangs, forked on {place}")),
        Some(status) if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == wanted => None,
        Some(status) if libc::WIFEXITED(status) => Some(format!(
            "exits with {}, forked on {place}",
            libc::WEXITSTATUS(status)
        )),
        Some(status) => Some(format!(
            "dies of signal {}, forked on {place}",
            libc::WTERMSIG(status)
        )),
    }
}

/// The status of a child that ends in time; one that does not is killed.
fn wait_for(child: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` is valid for the write.
    let mut wait = |options| unsafe { libc::waitpid(child, &raw mut status, options) };
    if kit::comes_true(BOUND, || wait(libc::WNOHANG) == child) {
        return Some(status);
    }
    // SAFETY: a child of ours that was not waited for.
    unsafe { libc::kill(child, libc::SIGKILL) };
    wait(0);
    None
}
