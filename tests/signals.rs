//! Signals: the completion thread takes none, and a process that is stopped and continued all the time loses
//! nothing.
#![allow(unsafe_code, reason = "installs a handler and sends signals")]

mod common;

use common::*;
use kiocb::op::{Read, Write};
use kiocb::{Aio, Dispatch, PollFlags};
use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The masks of blocked signals of the threads with this name.
fn blocked(name: &str) -> Vec<u64> {
    let statuses = fs::read_dir("/proc/self/task").unwrap().map(|task| {
        let status = task.unwrap().path().join("status");
        fs::read_to_string(status).unwrap_or_default()
    });
    let field = |status: &str, field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.map(|value| value.trim().to_owned())
            .unwrap_or_default()
    };
    let named = statuses.filter(|status| field(status, "Name:") == name);
    named
        .map(|status| u64::from_str_radix(&field(&status, "SigBlk:"), 16).unwrap())
        .collect()
}

#[test]
fn the_completion_thread_blocks_what_interrupts_and_no_fault() {
    let _watchdog = watchdog();
    let name = "all blocked";
    let aio = build(Aio::builder().thread_name(name).shards(2));
    // The threads name themselves.
    until(|| blocked(name).len() == 2);
    let masks = blocked(name);
    drop(aio);
    for mask in masks {
        // The kernel allows neither SIGKILL nor SIGSTOP; glibc keeps 32 and 33 for itself.
        let unknown = [libc::SIGKILL, libc::SIGSTOP, 32, 33];
        let open = [
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGILL,
            libc::SIGTRAP,
            libc::SIGSYS,
            libc::SIGABRT,
            libc::SIGPROF,
        ];
        let bits = |signals: &[i32]| {
            signals
                .iter()
                .fold(0, |bits, signal| bits | 1 << (signal - 1))
        };
        let looked_at: u64 = !bits(&unknown);
        assert_eq!(mask & looked_at, looked_at & !bits(&open), "{mask:#x}");
    }
}

#[test]
fn building_a_context_leaves_the_callers_mask_alone() {
    let _watchdog = watchdog();
    let mine = || {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("SigBlk:"));
        line.unwrap().to_owned()
    };
    let before = mine();
    let aio = aio();
    assert_eq!(mine(), before);
    drop(aio);
}

/// A child that signals this process some hundred times, each time with all of `signals`.
struct Storm(Child);

impl Storm {
    fn of(signals: &[&str]) -> Storm {
        let round: String = signals
            .iter()
            .map(|signal| format!("kill -{signal} $0; "))
            .collect();
        // A moment's peace after each: without it we would hardly ever run.
        let script = format!("i=0; while [ $i -lt 300 ]; do {round} sleep 0.001; i=$((i+1)); done");
        let child = Command::new("sh")
            .args(["-c", &script, &std::process::id().to_string()])
            .stdin(Stdio::null())
            .spawn();
        Storm(child.unwrap())
    }

    fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some_and(|status| {
            assert!(status.success(), "the storm could not blow: {status}");
            true
        })
    }
}

/// Every way to wait, on files whose I/O is not finished when it is submitted: a sync happens on a thread of
/// the kernel's.
fn work_until_over(mut storm: Storm) {
    let aios = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual]
        .map(|dispatch| build(Aio::builder().depth(4).dispatch(dispatch)));
    let bytes = pattern(6, 4096);
    let (file, synced) = (Arc::new(file_of(&bytes)), Arc::new(scratch()));
    let (called, mut expected) = (Counter::default(), 0);
    while !storm.is_over() {
        for aio in &aios {
            for _ in 0..4 {
                let called = called.clone();
                let request = aio.alloc().init_rw(file.clone(), Read, vec![0; 4096], 0);
                let right = bytes.clone();
                let submitted = request.init_callback(move |done| {
                    assert_eq!(done.result.unwrap(), 4096);
                    assert!(done.buf == right);
                    called.add();
                });
                submitted.submit().unwrap();
                expected += 1;
            }
            let started = aio.alloc().init_fdsync(synced.clone()).start().unwrap();
            let request = aio.alloc().init_rw(synced.clone(), Write, [1; 100], 0);
            assert_eq!(request.wait().unwrap().result.unwrap(), 100);
            let sync = aio.alloc().init_fdsync(synced.clone());
            assert_eq!(sync.wait().unwrap().result.unwrap(), 0);
            assert_eq!(started.wait().result.unwrap(), 0);
            while aio.poll(1, 64, None).is_ok_and(|count| count > 0) {}
        }
    }
    for aio in &aios {
        aio.drain().unwrap();
        assert_eq!(aio.stats().panics, 0);
    }
    assert_eq!(called.get(), expected);
}

#[test]
fn a_storm_of_stops_and_continues_loses_nothing() {
    alone("a_storm_of_stops_and_continues_loses_nothing", || {
        work_until_over(Storm::of(&["STOP", "CONT"]));
    });
}

/// Counts what the crate reports as errors.
struct Errors;

static ERRORS: AtomicUsize = AtomicUsize::new(0);

impl log::Log for Errors {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() == log::Level::Error {
            ERRORS.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn flush(&self) {}
}

#[test]
fn who_is_stopped_in_its_sleep_goes_back_to_sleep_without_a_complaint() {
    let name = "who_is_stopped_in_its_sleep_goes_back_to_sleep_without_a_complaint";
    alone(name, || {
        log::set_logger(&Errors).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        let aio = aio();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let poll = aio.alloc().init_poll(OwnedFd::from(reader), PollFlags::IN);
        let pending = poll.start().unwrap();
        // It sleeps in the kernel all the time, because nothing completes.
        let sleeper = thread::spawn(move || pending.wait());
        let mut storm = Storm::of(&["STOP", "CONT"]);
        until(|| storm.is_over());
        let waits = aio.stats().waits;
        writer.write_all(b"!").unwrap();
        assert!(
            sleeper
                .join()
                .unwrap()
                .result
                .unwrap()
                .contains(PollFlags::IN)
        );
        assert_eq!(ERRORS.load(Ordering::SeqCst), 0);
        assert!(waits > 10, "300 stops, and woken only {waits} times");
    });
}

static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn handle(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn a_storm_of_handled_signals_loses_nothing() {
    alone("a_storm_of_handled_signals_loses_nothing", || {
        // SAFETY: all zero is a valid action: no flags (so nothing is restarted), nothing blocked.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handle as extern "C" fn(libc::c_int) as usize;
        // SAFETY: the action is valid for the read, and its handler only counts.
        let installed =
            unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
        assert_eq!(installed, 0);
        work_until_over(Storm::of(&["USR1"]));
        assert!(HANDLED.load(Ordering::SeqCst) > 0);
    });
}
