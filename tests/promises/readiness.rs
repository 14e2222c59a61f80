//! Waits for readiness end with their context, never hold up whoever drops them, and say when they starve
//! others.

use crate::common::modes::in_both_modes;
use crate::common::*;
use crate::hostile::*;
use crate::logger;
use kiocb::op::{PollReady, Read};
use kiocb::{Aio, Dispatch, Pending, PollFlags};
use log::Level;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

const ALL: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

/// Submits waits that never come true, more than there are slots, whose results arrive in the channel.
fn polls_with_callbacks(aio: &Aio, count: usize) -> (Vec<io::PipeWriter>, Receiver<bool>) {
    let (send, results) = channel();
    let writers = (0..count).map(|_| {
        let (reader, writer) = io::pipe().unwrap();
        let poll = aio.alloc().init_poll(OwnedFd::from(reader), PollFlags::IN);
        let send = send.clone();
        let poll = poll.init_callback(move |done| {
            send.send(is_cancelled(&done.result)).unwrap();
        });
        poll.submit().unwrap();
        writer
    });
    (writers.collect(), results)
}

#[test]
fn the_last_drop_cancels_waits_for_readiness() {
    in_both_modes(|| {
        for dispatch in ALL {
            let aio = build(Aio::builder().depth(2).dispatch(dispatch));
            let (_writers, results) = polls_with_callbacks(&aio, 5);
            drop(aio);
            assert_eq!(
                results.iter().collect::<Vec<_>>(),
                [true; 5],
                "{dispatch:?}"
            );
        }
        until(|| count_contexts() == 0);
    });
}

#[test]
fn shutdown_cancels_waits_for_readiness() {
    in_both_modes(|| {
        for dispatch in ALL {
            let aio = build(Aio::builder().depth(2).dispatch(dispatch));
            let (_writers, results) = polls_with_callbacks(&aio, 5);
            aio.shutdown(Duration::from_secs(3600)).unwrap();
            assert_eq!(
                results.iter().collect::<Vec<_>>(),
                [true; 5],
                "{dispatch:?}"
            );
        }
    });
}

#[test]
fn a_drain_does_not_cancel_waits_for_readiness() {
    in_both_modes(|| {
        let aio = build(Aio::builder().depth(2));
        let (writers, results) = polls_with_callbacks(&aio, 5);
        assert_too_late(aio.drain_timeout(Duration::from_millis(10)));
        writers.iter().for_each(poke);
        aio.drain().unwrap();
        drop(aio);
        assert_eq!(results.iter().collect::<Vec<_>>(), [false; 5]);
    });
}

/// As a program has it: fields are dropped in order.
struct Connection {
    #[allow(dead_code, reason = "dropped first")]
    aio: Aio,
    #[allow(dead_code, reason = "dropped second")]
    pending: Pending<PollReady<OwnedFd>>,
    _writer: io::PipeWriter,
}

#[test]
fn a_struct_with_a_context_and_a_wait_is_dropped() {
    in_both_modes(|| {
        for (dispatch, depth) in ALL.into_iter().zip([1, 2, 2]) {
            let aio = build(Aio::builder().depth(depth).dispatch(dispatch));
            let first = readable(&aio); // with a depth of 1 the second is queued
            let Readable { pending, writer } = readable(&aio);
            drop(Connection {
                aio,
                pending,
                _writer: writer,
            });
            assert!(is_cancelled(&first.pending.wait().result));
        }
        until(|| count_contexts() == 0);
    });
}

#[test]
fn a_handle_that_outlives_its_context_is_cancelled() {
    in_both_modes(|| {
        for dispatch in ALL {
            let aio = build(Aio::builder().depth(1).dispatch(dispatch));
            let mut waits = [(); 3].map(|()| readable(&aio)); // two are queued
            let woken = Counter::default();
            let count = woken.clone();
            let waker = waker(Arc::new(move || {
                count.add();
            }));
            waits
                .iter_mut()
                .for_each(|wait| leave(&mut wait.pending, &waker));
            drop(aio);
            woken.until(3);
            for wait in waits {
                assert!(is_cancelled(&wait.pending.wait().result));
            }
        }
    });
}

#[test]
fn a_thread_that_waits_for_readiness_hears_of_the_end() {
    in_both_modes(|| {
        for dispatch in ALL {
            let aio = build(Aio::builder().depth(1).dispatch(dispatch));
            let waits: Vec<_> = (0..3).map(|_| readable(&aio)).collect();
            let (writers, threads): (Vec<_>, Vec<_>) = waits
                .into_iter()
                .map(|wait| (wait.writer, thread::spawn(|| wait.pending.wait().result)))
                .unzip();
            aio.shutdown(Duration::from_secs(3600)).unwrap();
            for thread in threads {
                assert!(is_cancelled(&thread.join().unwrap()));
            }
            drop(writers);
        }
    });
}

#[test]
fn a_wait_that_is_renewed_when_it_is_cancelled_ends() {
    fn again(aio: &Aio, file: OwnedFd, ends: &Counter) {
        let (inner, count) = (aio.clone(), ends.clone());
        let poll = aio.alloc().init_poll(file, PollFlags::IN);
        let poll = poll.init_callback(move |done| again(&inner, done.file, &count));
        if poll.submit().is_err() {
            ends.add();
        }
    }
    in_both_modes(|| {
        for dispatch in ALL {
            let aio = build(Aio::builder().depth(1).dispatch(dispatch));
            let (ends, (reader, _writer)) = (Counter::default(), io::pipe().unwrap());
            let other = OwnedFd::from(reader.try_clone().unwrap());
            again(&aio, OwnedFd::from(reader), &ends);
            again(&aio, other, &ends);
            aio.shutdown(Duration::from_secs(3600)).unwrap();
            ends.until(2);
        }
    });
}

#[test]
fn dropping_a_wait_does_not_wait_for_its_submission() {
    in_both_modes(|| {
        for dispatch in ALL {
            let aio = build(Aio::builder().depth(4).dispatch(dispatch));
            let ((reader, writer), (idle, _idle)) = (io::pipe().unwrap(), io::pipe().unwrap());
            let ((send, handles), inner) = (channel(), aio.clone());
            let submitter = named("submitter", move || {
                let mut batch = inner.batch();
                let read = inner
                    .alloc()
                    .init_rw(OwnedFd::from(reader), Read, [0; 1], 0);
                let read = batch.push(read);
                let poll = inner.alloc().init_poll(OwnedFd::from(idle), PollFlags::IN);
                send.send(batch.push(poll)).unwrap();
                assert!(batch.submit().is_empty());
                read.wait().result.unwrap()
            });
            let pending = handles.recv().unwrap();
            until_submitting("submitter");
            drop(pending); // on its way to the kernel, and not there yet
            poke(&writer);
            assert_eq!(submitter.join().unwrap(), 1);
            aio.drain().unwrap();
        }
    });
}

#[test]
fn dropping_a_wait_does_not_wait_for_a_stuck_thread() {
    in_both_modes(|| {
        let (aio, fates) = (build(Aio::builder().depth(4)), Fates::default());
        let busy = keep_busy(&aio);
        for _ in 0..50 {
            let (reader, _writer) = io::pipe().unwrap();
            let file = fates.file(std::fs::File::from(OwnedFd::from(reader)));
            drop(aio.alloc().init_poll(file, PollFlags::IN).start().unwrap());
        }
        busy.release();
        aio.drain().unwrap();
        assert_eq!(fates.seen(), [50, 0, 0, 0]);
    });
}

#[test]
fn waits_that_hold_all_slots_are_reported() {
    in_both_modes(|| {
        for dispatch in ALL {
            let (send, warnings) = channel();
            logger::install(move |level, text| {
                if level == Level::Warn {
                    let _ = send.send(text.to_owned());
                }
            });
            let aio = build(Aio::builder().depth(2).dispatch(dispatch));
            let waits = [readable(&aio), readable(&aio)];
            let reads: Vec<_> = (0..10).map(|_| nothing(&aio).start().unwrap()).collect();
            let poller = {
                let aio = aio.clone();
                thread::spawn(move || aio.drain().unwrap())
            };
            warnings.recv().expect("a warning");
            waits.iter().for_each(|wait| poke(&wait.writer));
            poller.join().unwrap();
            reads
                .into_iter()
                .for_each(|read| assert_eq!(read.wait().result.unwrap(), 0));
        }
    });
}

#[test]
fn waits_that_leave_slots_are_not_reported() {
    in_both_modes(|| {
        let warnings = Counter::default();
        let count = warnings.clone();
        logger::install(move |level, _| {
            if level == Level::Warn {
                count.add();
            }
        });
        let aio = build(Aio::builder().depth(4));
        let wait = readable(&aio);
        let reads: Vec<_> = (0..1000).map(|_| nothing(&aio).start().unwrap()).collect();
        reads
            .into_iter()
            .for_each(|read| assert_eq!(read.wait().result.unwrap(), 0));
        poke(&wait.writer);
        aio.drain().unwrap();
        assert_eq!(warnings.get(), 0);
    });
}
