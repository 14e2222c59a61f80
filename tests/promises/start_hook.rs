//! A hook that runs first on each thread that a context starts.

use crate::common::modes::in_both_modes;
use crate::common::*;
use crate::hostile::*;
use kiocb::op::Read;
use kiocb::{Aio, Dispatch};
use nix::sys::signal::{SigSet, Signal};
use std::cell::Cell;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;

thread_local! {
    static HOOKED: Cell<u32> = const { Cell::new(0) };
}

#[test]
fn the_hook_runs_once_before_any_callback() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
            let (calls, (send, names)) = (Counter::default(), channel());
            let count = calls.clone();
            let hook = move || {
                count.add();
                HOOKED.set(HOOKED.get() + 1);
                send.send(thread::current().name().map(str::to_owned))
                    .unwrap();
            };
            let builder = Aio::builder().thread_name("hooked").dispatch(dispatch);
            let aio = build(builder.shards(3).on_thread_start(hook));
            until_asleep("hooked");
            calls.until(3);
            let (send, hooked) = channel();
            let (reader, writer) = io::pipe().unwrap();
            let poll = aio.alloc().init_poll(reader, kiocb::PollFlags::IN);
            poll.init_callback(move |_| send.send(HOOKED.get()).unwrap())
                .submit()
                .unwrap();
            poke(&writer);
            assert_eq!(hooked.recv().unwrap(), 1);
            drop(aio);
            assert_eq!(
                names.iter().collect::<Vec<_>>(),
                vec![Some("hooked".to_owned()); 3]
            );
        }
    });
}

#[test]
fn the_hook_runs_on_the_helper_thread() {
    in_both_modes(|| {
        let calls = Counter::default();
        let count = calls.clone();
        let hook = move || {
            count.add();
        };
        let aio = build(
            Aio::builder()
                .dispatch(Dispatch::Manual)
                .on_thread_start(hook),
        );
        assert_eq!(calls.get(), 0);
        let (reader, writer) = io::pipe().unwrap();
        let read = aio
            .alloc()
            .init_rw(reader, Read, [0; 1], 0)
            .nowait_or_offload();
        let pending = read.start().unwrap();
        poke(&writer);
        assert_eq!(pending.wait().result.unwrap(), 1);
        assert_eq!(calls.get(), 1);
    });
}

#[test]
fn a_hook_that_panics_is_counted_and_the_thread_lives() {
    in_both_modes(|| {
        let aio = build(Aio::builder().on_thread_start(|| burst()));
        let calls = Counter::default();
        submit_counted(&aio, &calls, 1);
        aio.drain().unwrap();
        assert_eq!((calls.get(), aio.stats().panics), (1, 1));
    });
}

#[test]
fn a_hook_that_unblocks_signals_lets_children_be_ended() {
    in_both_modes(|| {
        let hook = || SigSet::all().thread_unblock().unwrap();
        let (aio, (send, receive)) = (build(Aio::builder().on_thread_start(hook)), channel());
        let request = nothing(&aio).init_callback(move |_| {
            let child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
            send.send(child).unwrap();
        });
        request.submit().unwrap();
        let mut child = receive.recv().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        let stdin = child.stdin.take();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
        drop(stdin);
    });
}

#[test]
fn a_hook_may_use_other_contexts() {
    in_both_modes(|| {
        let other = aio();
        let hook = move || {
            assert_eq!(other.read_at(&null(), &mut [0], 0).unwrap(), 0);
        };
        let aio = build(Aio::builder().on_thread_start(hook));
        nothing(&aio).init_callback(|_| ()).submit().unwrap();
        aio.drain().unwrap();
        assert_eq!(aio.stats().panics, 0);
    });
}
