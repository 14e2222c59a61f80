//! Signals: none is handled on a thread of the crate's, and none loses or repeats anything.

mod kit;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use kiocb::{Aio, Dispatch};
use kiocb_faults::{Child, SlowFs, Watchdog, need, need_root};
use kit::*;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid};

static HANDLED: AtomicUsize = AtomicUsize::new(0);
static HANDLED_THERE: AtomicUsize = AtomicUsize::new(0);
static THERE: AtomicI32 = AtomicI32::new(0);

extern "C" fn handler(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
    if kiocb_faults::thread_id() == THERE.load(Ordering::Relaxed) {
        HANDLED_THERE.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads all eight blocks by all ways of waiting.
fn load(aio: &Aio, file: &Arc<std::fs::File>) {
    let (done, completions) = channel();
    (0..8).for_each(|block| read_to(aio, file, block, &done));
    for block in 0..8 {
        verify(&read(aio, file, block).wait().unwrap(), block);
        verify(&block_on(read(aio, file, block).start().unwrap()), block);
    }
    receive_blocks(&completions, 8);
}

/// A process that sends `signals` to this one, over and over, until this is dropped.
struct Storm(Pid);

impl Storm {
    fn of(signals: &'static [Signal]) -> Storm {
        let target = Pid::this();
        // SAFETY: the child calls nothing but kill(2) and usleep(3), which are async-signal-safe enough:
        // neither allocates or locks.
        match unsafe { nix::unistd::fork() }.unwrap() {
            ForkResult::Parent { child } => Storm(child),
            ForkResult::Child => loop {
                for &signal in signals {
                    if kill(target, signal).is_err() {
                        // SAFETY: ends this process at once.
                        unsafe { libc::_exit(0) };
                    }
                    // SAFETY: a number.
                    unsafe { libc::usleep(500) };
                }
            },
        }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGKILL).unwrap();
        waitpid(self.0, None).unwrap();
        let _ = kill(Pid::this(), Signal::SIGCONT);
    }
}

#[test]
fn handlers_never_run_on_the_completion_thread() {
    need_root!();
    Child::of("handlers_never_run_on_the_completion_thread")
        .run(|| {
            let _watchdog = Watchdog::new("handlers");
            let fs = need!(SlowFs::new());
            let file = Arc::new(fs.file("f", blocks(8)));
            let aio = named("no-handlers").build().unwrap();
            THERE.store(thread_named("no-handlers"), Ordering::Relaxed);
            let action = SigAction::new(
                SigHandler::Handler(handler),
                SaFlags::empty(),
                SigSet::empty(),
            );
            // SAFETY: the handler touches atomics and asks for a number.
            unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
            let storm = Storm::of(&[Signal::SIGUSR1]);
            while HANDLED.load(Ordering::Relaxed) < 500 {
                load(&aio, &file);
            }
            drop(storm);
            assert_eq!(HANDLED_THERE.load(Ordering::Relaxed), 0);
        })
        .success();
}

#[test]
fn the_completion_thread_blocks_what_interrupts_and_no_fault() {
    let aio = named("blocks-signals").build().unwrap();
    let thread = thread_named("blocks-signals");
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigBlk:"))
        .unwrap();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
    let blocked = |signal: Signal| mask & (1 << (signal as i32 - 1)) != 0;
    let open = [
        Signal::SIGILL,
        Signal::SIGTRAP,
        Signal::SIGABRT,
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGKILL,
        Signal::SIGSEGV,
        Signal::SIGSTOP,
        Signal::SIGPROF,
        Signal::SIGSYS,
    ];
    let not_blocked = Signal::iterator().filter(|&signal| !blocked(signal));
    assert_eq!(not_blocked.collect::<Vec<_>>(), open);
    drop(aio);
    let own = SigSet::thread_get_mask().unwrap();
    assert!(
        !own.contains(Signal::SIGUSR1),
        "the maker's own mask is as it was"
    );
}

#[test]
fn stopping_and_continuing_all_the_time_loses_and_repeats_nothing() {
    need_root!();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
        let case = format!("{dispatch:?}");
        let exit = Child::of("stopping_and_continuing_all_the_time_loses_and_repeats_nothing")
            .case(&case)
            .run(|| {
                let _watchdog = Watchdog::new("stop and continue");
                let fs = need!(SlowFs::new());
                let file = Arc::new(fs.file("f", blocks(8)));
                let aio = Aio::builder().depth(3).dispatch(dispatch).build().unwrap();
                let storm = Storm::of(&[Signal::SIGSTOP, Signal::SIGCONT]);
                let stop = Arc::new(AtomicBool::new(false));
                let others: Vec<_> = (0..3)
                    .map(|_| {
                        let (aio, file, stop) = (aio.clone(), Arc::clone(&file), Arc::clone(&stop));
                        Worker::start(move || {
                            while !stop.load(Ordering::Relaxed) {
                                load(&aio, &file);
                            }
                        })
                    })
                    .collect();
                (0..30).for_each(|_| load(&aio, &file));
                stop.store(true, Ordering::Relaxed);
                others.into_iter().for_each(Worker::join);
                drop(storm);
                aio.drain().unwrap();
                let stats = aio.stats();
                assert_eq!(
                    (stats.accepted, stats.in_flight, stats.queued),
                    (stats.completed, 0, 0)
                );
                assert_eq!(fs.seen().len() as u64, stats.accepted, "each was sent once");
            });
        exit.success();
    }
}

#[test]
fn a_handler_that_interrupts_a_waiter_does_not_end_its_wait() {
    need_root!();
    Child::of("a_handler_that_interrupts_a_waiter_does_not_end_its_wait")
        .run(|| {
            let fs = need!(SlowFs::new());
            let file = Arc::new(fs.file("f", blocks(1)));
            let gate = fs.hold_reads(0..B);
            let aio = aio(4);
            let action = SigAction::new(
                SigHandler::Handler(handler),
                SaFlags::empty(),
                SigSet::empty(),
            );
            // SAFETY: as above.
            unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
            let request = read(&aio, &file, 0);
            let mut waiter = Worker::start(move || request.wait().unwrap());
            for count in 1..=20 {
                waiter.wait_until_leading();
                // SAFETY: integers only.
                let sent = unsafe {
                    libc::syscall(
                        libc::SYS_tgkill,
                        libc::getpid(),
                        waiter.thread,
                        libc::SIGUSR1,
                    )
                };
                assert_eq!(sent, 0);
                wait_until("the handler ran", || {
                    HANDLED.load(Ordering::Relaxed) == count
                });
            }
            assert!(waiter.is_done().is_none());
            gate.release();
            verify(&waiter.join(), 0);
        })
        .success();
}
