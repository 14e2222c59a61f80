//! What the crate's threads do with signals, and what they hand down to threads and children made in a
//! callback.

use crate::common::modes::{in_a_child, in_both_modes};
use crate::common::*;
use crate::hostile::*;
use kiocb::op::Read;
use kiocb::{Aio, Dispatch};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use std::os::unix::process::ExitStatusExt;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Sent to the thread that made the fault, or to the one that uses the processor: never to be blocked.
const OF_THE_THREAD: [Signal; 8] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGABRT,
    Signal::SIGPROF,
];

/// The program's own: their handlers do not run on the crate's threads.
const OF_THE_PROGRAM: [Signal; 8] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGALRM,
    Signal::SIGCHLD,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

fn mask() -> SigSet {
    let mut mask = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_BLOCK, None, Some(&mut mask)).unwrap();
    mask
}

/// The mask of the thread that runs the callbacks of `aio`.
fn mask_in_a_callback(aio: &Aio) -> SigSet {
    let (send, receive) = channel();
    let request = nothing(aio).init_callback(move |_| send.send(mask()).unwrap());
    request.submit().unwrap();
    receive.recv().unwrap()
}

#[track_caller]
fn assert_is_the_rule(mask: SigSet) {
    for signal in OF_THE_THREAD {
        assert!(!mask.contains(signal), "{signal} is blocked");
    }
    for signal in OF_THE_PROGRAM {
        assert!(mask.contains(signal), "{signal} is not blocked");
    }
}

#[test]
fn the_completion_thread_blocks_only_what_interrupts() {
    in_both_modes(|| {
        let before = mask();
        assert_is_the_rule(mask_in_a_callback(&aio()));
        assert_eq!(mask(), before); // the maker's own is as it was
    });
}

#[test]
fn a_fault_is_not_blocked_though_the_maker_blocks_it() {
    in_both_modes(|| {
        SigSet::all().thread_block().unwrap();
        let aio = aio();
        assert_is_the_rule(mask_in_a_callback(&aio));
        assert_is_the_rule(mask_of_the_helper(&aio));
    });
}

/// The mask of the helper thread, on which the destructor of an abandoned request runs.
fn mask_of_the_helper(aio: &Aio) -> SigSet {
    let (reader, writer) = std::io::pipe().unwrap();
    let read = aio
        .alloc()
        .init_rw(reader, Read, [0; 1], 0)
        .nowait_or_offload();
    let pending = read.start().unwrap();
    let helper = "kiocb-helper";
    until(|| is_in(helper, &[libc::SYS_io_submit]));
    let blocked = blocked_signals_of(helper);
    poke(&writer);
    assert_eq!(pending.wait().result.unwrap(), 1);
    let mut mask = SigSet::empty();
    let both = OF_THE_THREAD.into_iter().chain(OF_THE_PROGRAM);
    for signal in both.filter(|&signal| blocked & (1 << (signal as i32 - 1)) != 0) {
        mask.add(signal);
    }
    mask
}

/// What the thread of this name blocks, as `/proc` tells it.
fn blocked_signals_of(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let status =
        tasks.map(|task| std::fs::read_to_string(task.path().join("status")).unwrap_or_default());
    let mut named =
        status.filter(|status| status.lines().any(|line| line == format!("Name:\t{name}")));
    let status = named.next().unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("SigBlk:\t"));
    u64::from_str_radix(line.unwrap(), 16).unwrap()
}

#[test]
fn the_helper_thread_blocks_what_the_completion_thread_does() {
    in_both_modes(|| assert_is_the_rule(mask_of_the_helper(&aio())));
}

#[test]
fn a_thread_that_ends_a_context_blocks_what_the_others_do() {
    in_both_modes(|| {
        // What is left of a Manual context when its last handle goes inside user code runs on a thread that
        // is made for it.
        let other = build(Aio::builder().dispatch(Dispatch::Manual));
        let (send, masks) = channel();
        for _ in 0..3 {
            let send = send.clone();
            let request = nothing(&other).init_callback(move |_| send.send(mask()).unwrap());
            request.submit().unwrap();
        }
        let aio = aio();
        nothing(&aio)
            .init_callback(move |_| drop(other))
            .submit()
            .unwrap();
        drop(send);
        for mask in masks.iter().collect::<Vec<_>>() {
            assert_is_the_rule(mask);
        }
        until(|| count_contexts() == 1);
    });
}

#[test]
fn a_child_started_in_a_callback_can_be_profiled_and_can_fault() {
    in_both_modes(|| {
        let (aio, (send, receive)) = (aio(), channel());
        let request = nothing(&aio).init_callback(move |_| {
            let status = std::process::Command::new("cat")
                .arg("/proc/self/status")
                .output();
            send.send(String::from_utf8(status.unwrap().stdout).unwrap())
                .unwrap();
        });
        request.submit().unwrap();
        let status = receive.recv().unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("SigBlk:\t"));
        let blocked = u64::from_str_radix(line.unwrap(), 16).unwrap();
        for signal in OF_THE_THREAD {
            assert!(
                blocked & (1 << (signal as i32 - 1)) == 0,
                "{signal} is blocked in a child"
            );
        }
    });
}

/// Uses the stack up.
#[allow(unconditional_recursion, reason = "on purpose")]
fn overflow(depth: u64) -> u64 {
    let page = std::hint::black_box([depth; 512]);
    overflow(depth + 1) + page[0]
}

#[test]
fn a_stack_overflow_in_a_callback_is_reported() {
    // A process of its own inside: what it prints is looked at.
    if std::env::var_os("KIOCB_OVERFLOW").is_some() {
        let aio = aio();
        let request = nothing(&aio).init_callback(|_| {
            std::hint::black_box(overflow(0));
        });
        request.submit().unwrap();
        std::thread::sleep(Duration::from_secs(3600)); // the process ends before
    }
    let output = child(
        "threads::a_stack_overflow_in_a_callback_is_reported",
        &[("KIOCB_OVERFLOW", "1")],
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("has overflowed its stack"),
        "{}: {said}",
        output.status
    );
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
}

#[test]
fn a_handler_of_sigprof_runs_on_the_completion_thread() {
    in_a_child(|| {
        use std::sync::atomic::{AtomicBool, Ordering};
        static PROFILED: AtomicBool = AtomicBool::new(false);
        extern "C" fn on_profile(_: libc::c_int) {
            PROFILED.store(true, Ordering::SeqCst);
        }
        let handler = nix::sys::signal::SigHandler::Handler(on_profile);
        // SAFETY: the handler stores to an atomic and does nothing else.
        unsafe { nix::sys::signal::signal(Signal::SIGPROF, handler) }.unwrap();
        let (aio, (send, profiled)) = (aio(), channel());
        let request = nothing(&aio).init_callback(move |_| {
            // To this thread, as a profiler's timer of the thread does it.
            nix::sys::signal::raise(Signal::SIGPROF).unwrap();
            send.send(PROFILED.load(Ordering::SeqCst)).unwrap();
        });
        request.submit().unwrap();
        assert!(profiled.recv().unwrap());
    });
}
