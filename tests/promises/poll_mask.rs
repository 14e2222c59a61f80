//! A poll with a signal mask takes a signal that its thread blocks elsewhere, and returns.

use crate::common::modes::in_both_modes;
use crate::common::*;
use crate::hostile::*;
use crate::seccomp;
use kiocb::{Aio, AioError, Dispatch, PollFlags, SignalMask};
use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

const USR1: i32 = Signal::SIGUSR1 as i32;
const TAKES_USR1: SignalMask = SignalMask::all().without(USR1);
const LONG: Option<Duration> = Some(Duration::from_secs(600));
/// libc does not have the number everywhere.
const SYS_IO_PGETEVENTS: libc::c_long = if cfg!(target_arch = "x86_64") {
    333
} else {
    292
};

static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// The pipe into which the handler writes, if it is to.
static TO_POKE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn count(_: libc::c_int) {
    TAKEN.fetch_add(1, Ordering::SeqCst);
    let pipe = TO_POKE.load(Ordering::SeqCst);
    if pipe >= 0 {
        // SAFETY: one byte is read; a handler may write.
        unsafe { libc::write(pipe, c"!".as_ptr().cast(), 1) };
    }
}

/// From now on this thread, and those that it starts, block SIGUSR1, whose handler counts.
fn block_and_count() {
    let mut usr1 = SigSet::empty();
    usr1.add(Signal::SIGUSR1);
    usr1.thread_block().unwrap();
    let action = SigAction::new(
        SigHandler::Handler(count),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler only counts.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
}

fn taken() -> usize {
    TAKEN.load(Ordering::SeqCst)
}

fn manual() -> Aio {
    build(Aio::builder().dispatch(Dispatch::Manual))
}

/// A wait for readiness that counts.
fn waits(aio: &Aio, calls: &Counter) -> io::PipeWriter {
    let (reader, writer) = io::pipe().unwrap();
    let count = calls.clone();
    let poll = aio.alloc().init_poll(reader, PollFlags::IN);
    poll.init_callback(move |_| _ = count.add())
        .submit()
        .unwrap();
    writer
}

#[test]
fn a_signal_that_was_pending_ends_a_poll_that_lets_it_in() {
    in_both_modes(|| {
        block_and_count();
        let (aio, calls) = (manual(), Counter::default());
        let writer = waits(&aio, &calls);
        for round in 1..=3 {
            pthread_kill(pthread_self(), Signal::SIGUSR1).unwrap();
            assert_eq!(taken(), round - 1);
            assert_eq!(aio.poll_with_mask(1, 9, LONG, TAKES_USR1).unwrap(), 0);
            assert_eq!((taken(), calls.get()), (round, 0));
        }
        // The next one is as any other.
        poke(&writer);
        assert_eq!(aio.poll_with_mask(1, 9, None, TAKES_USR1).unwrap(), 1);
        assert_eq!(aio.poll(1, 9, None).unwrap(), 0);
        assert_eq!(calls.get(), 1);
    });
}

#[test]
fn a_signal_that_the_mask_blocks_stays_pending() {
    in_both_modes(|| {
        block_and_count();
        let (aio, calls) = (manual(), Counter::default());
        let writer = waits(&aio, &calls);
        pthread_kill(pthread_self(), Signal::SIGUSR1).unwrap();
        let poker = named("poker", move || {
            until(|| is_in("poller", &[SYS_IO_PGETEVENTS]));
            poke(&writer);
        });
        let poller = named("poller", move || {
            pthread_kill(pthread_self(), Signal::SIGUSR1).unwrap();
            (aio.poll_with_mask(1, 9, None, SignalMask::all()), taken())
        });
        let (delivered, taken) = poller.join().unwrap();
        assert_eq!((delivered.unwrap(), taken, calls.get()), (1, 0, 1));
        poker.join().unwrap();
    });
}

#[test]
fn a_signal_that_comes_during_the_sleep_ends_it() {
    in_both_modes(|| {
        block_and_count();
        let (aio, calls) = (manual(), Counter::default());
        let writer = waits(&aio, &calls);
        let (send, threads) = channel();
        let poller = named("poller", move || {
            send.send(pthread_self()).unwrap();
            (aio.poll_with_mask(1, 9, None, TAKES_USR1), aio)
        });
        let thread = threads.recv().unwrap();
        until(|| is_in("poller", &[SYS_IO_PGETEVENTS]));
        pthread_kill(thread, Signal::SIGUSR1).unwrap();
        let (delivered, _aio) = poller.join().unwrap();
        assert_eq!((delivered.unwrap(), taken(), calls.get()), (0, 1, 0));
        drop(writer);
    });
}

#[test]
fn a_signal_is_let_in_also_while_another_thread_leads() {
    in_both_modes(|| {
        block_and_count();
        let (aio, calls) = (manual(), Counter::default());
        let (reader, other) = io::pipe().unwrap();
        let poll = aio
            .alloc()
            .init_poll(reader, PollFlags::IN)
            .start()
            .unwrap();
        let leader = named("leader", move || poll.wait().result.unwrap());
        until_leading("leader");
        let writer = waits(&aio, &calls);
        pthread_kill(pthread_self(), Signal::SIGUSR1).unwrap();
        assert_eq!(aio.poll_with_mask(1, 9, LONG, TAKES_USR1).unwrap(), 0);
        assert_eq!((taken(), calls.get()), (1, 0));
        // And results are delivered there.
        poke(&writer);
        assert_eq!(aio.poll_with_mask(1, 9, None, TAKES_USR1).unwrap(), 1);
        assert_eq!(calls.get(), 1);
        poke(&other);
        leader.join().unwrap();
    });
}

#[test]
fn a_signal_is_not_lost_to_another_thread_that_polls() {
    in_both_modes(|| {
        block_and_count();
        let (aio, calls) = (manual(), Counter::default());
        let _outstanding = waits(&aio, &calls);
        let (reader, writer) = io::pipe().unwrap();
        TO_POKE.store(writer.as_raw_fd(), Ordering::SeqCst);
        let (own, poll) = (aio.clone(), aio.alloc().init_poll(reader, PollFlags::IN));
        // The handler makes it due: so another thread polls between the signal and the return.
        let due = poll.init_callback(move |_| {
            let other = named("other", move || {
                drop(own.poll_with_mask(0, 9, None, TAKES_USR1))
            });
            drop(other.join());
        });
        due.submit().unwrap();
        pthread_kill(pthread_self(), Signal::SIGUSR1).unwrap();
        let delivered = aio.poll_with_mask(9, 9, LONG, TAKES_USR1).unwrap();
        assert!(delivered <= 1);
        assert_eq!((taken(), calls.get()), (1, 0));
    });
}

#[test]
fn a_poll_with_a_mask_returns_when_an_event_has_ended_its_sleep() {
    in_both_modes(|| {
        let (aio, calls) = (manual(), Counter::default());
        let (first, second) = (waits(&aio, &calls), waits(&aio, &calls));
        let poker = named("poker", move || {
            until(|| is_in("poller", &[SYS_IO_PGETEVENTS]));
            poke(&first);
        });
        let poller = named("poller", move || {
            let delivered = aio.poll_with_mask(2, 9, LONG, TAKES_USR1);
            (delivered, aio)
        });
        let (delivered, aio) = poller.join().unwrap();
        assert_eq!((delivered.unwrap(), calls.get()), (1, 1));
        poker.join().unwrap();
        // What is there is delivered without a sleep, and so up to `min`.
        let third = waits(&aio, &calls);
        [&second, &third].into_iter().for_each(poke);
        assert_eq!(aio.poll_with_mask(2, 9, None, TAKES_USR1).unwrap(), 2);
    });
}

/// The C library changes the identity of each thread by a signal of its own, and waits for all of them.
#[test]
fn a_masked_sleep_keeps_no_other_thread_from_changing_the_identity() {
    in_both_modes(|| {
        let (aio, calls) = (manual(), Counter::default());
        let _writer = waits(&aio, &calls);
        let poller = named("poller", move || {
            aio.poll_with_mask(1, 9, LONG, SignalMask::all())
        });
        until(|| is_in("poller", &[SYS_IO_PGETEVENTS]));
        // SAFETY: no memory is passed.
        let own = unsafe { libc::getgid() };
        // SAFETY: as above, and the identity stays what it is.
        let changed = unsafe { libc::setgid(own) };
        assert_eq!(changed, 0);
        assert_eq!(poller.join().unwrap().unwrap(), 0);
    });
}

#[test]
fn a_poll_with_a_mask_is_bounded_by_its_timeout() {
    in_both_modes(|| {
        let (aio, calls) = (manual(), Counter::default());
        let _writer = waits(&aio, &calls);
        let moment = Some(Duration::from_millis(1));
        assert_eq!(
            aio.poll_with_mask(1, 9, moment, SignalMask::all()).unwrap(),
            0
        );
        assert_eq!(
            aio.poll_with_mask(0, 9, None, SignalMask::all()).unwrap(),
            0
        );
    });
}

#[test]
fn without_the_call_a_poll_with_a_mask_says_so_and_one_without_works() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        in_both_modes_with(errno);
    }
}

fn in_both_modes_with(errno: i32) {
    let refused = named("refused", move || {
        let _watchdog = watchdog();
        seccomp::refuse(SYS_IO_PGETEVENTS, errno);
        for syscalls in [false, true] {
            let builder = Aio::builder().dispatch(Dispatch::Manual);
            let (aio, calls) = (build(builder.force_syscalls(syscalls)), Counter::default());
            let writer = waits(&aio, &calls);
            let error = aio.poll_with_mask(1, 9, LONG, TAKES_USR1).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno));
            poke(&writer);
            assert_eq!(aio.poll(1, 9, None).unwrap(), 1);
            assert_eq!(calls.get(), 1);
        }
    });
    refused.join().unwrap();
}

#[test]
fn a_poll_with_a_mask_is_refused_where_a_poll_is() {
    in_both_modes(|| {
        let mask = SignalMask::none();
        let threaded = aio().poll_with_mask(1, 1, None, mask).unwrap_err();
        assert_eq!(reason(&threaded), Some(AioError::NotManual));
        let (aio, (send, inside)) = (manual(), channel());
        let own = aio.clone();
        let request = nothing(&aio).init_callback(move |_| {
            send.send(own.poll_with_mask(1, 1, None, mask)).unwrap();
        });
        request.submit().unwrap();
        assert_eq!(aio.poll_with_mask(1, 1, None, mask).unwrap(), 1);
        assert!(would_deadlock(&inside.recv().unwrap()));
        let passed = forked(|| {
            let refused = aio.poll_with_mask(1, 1, None, mask);
            assert_eq!(reason(&refused.unwrap_err()), Some(AioError::Forked));
        });
        assert!(passed);
    });
}
