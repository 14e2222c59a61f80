//! A wait for readiness that has a callback can be cancelled by a handle.

use crate::common::modes::in_both_modes;
use crate::common::*;
use crate::hostile::*;
use kiocb::{Aio, CancelHandle, Dispatch, PollFlags};
use std::io::{self, PipeWriter};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

/// A wait whose callback tells whether it was cancelled.
fn cancellable(aio: &Aio) -> (CancelHandle, PipeWriter, Receiver<bool>) {
    let ((send, results), (reader, writer)) = (channel(), io::pipe().unwrap());
    let poll = aio.alloc().init_poll(OwnedFd::from(reader), PollFlags::IN);
    let poll = poll.init_callback(move |done| send.send(is_cancelled(&done.result)).unwrap());
    (poll.submit_cancellable().unwrap(), writer, results)
}

#[test]
fn a_poll_with_a_callback_is_cancelled_by_its_handle() {
    in_both_modes(|| {
        for dispatch in KINDS {
            let aio = build(Aio::builder().depth(4).dispatch(dispatch));
            let (handle, _writer, results) = cancellable(&aio);
            assert!(handle.cancel());
            aio.drain().unwrap();
            assert_eq!(results.iter().collect::<Vec<_>>(), [true]);
            assert!(!handle.cancel()); // it is over
        }
    });
}

#[test]
fn a_queued_poll_with_a_callback_is_cancelled_by_its_handle() {
    in_both_modes(|| {
        for dispatch in KINDS {
            let aio = build(Aio::builder().depth(1).dispatch(dispatch));
            let occupied = occupy(&aio);
            let (handle, _writer, results) = cancellable(&aio);
            assert!(handle.cancel());
            if dispatch != Dispatch::Manual {
                assert!(results.recv().unwrap()); // without a slot
            }
            drop(occupied);
            aio.drain().unwrap();
            assert!(!handle.cancel());
        }
    });
}

#[test]
fn a_poll_that_came_true_is_not_cancelled() {
    in_both_modes(|| {
        for dispatch in KINDS {
            let aio = build(Aio::builder().dispatch(dispatch));
            let (handle, writer, results) = cancellable(&aio);
            poke(&writer);
            aio.drain().unwrap();
            assert!(!handle.cancel());
            assert_eq!(results.iter().collect::<Vec<_>>(), [false]);
        }
    });
}

#[test]
fn a_cancel_handle_that_is_dropped_cancels_nothing() {
    in_both_modes(|| {
        for dispatch in KINDS {
            let aio = build(Aio::builder().dispatch(dispatch));
            let (handle, writer, results) = cancellable(&aio);
            drop(handle);
            poke(&writer);
            aio.drain().unwrap();
            assert_eq!(results.iter().collect::<Vec<_>>(), [false]);
        }
    });
}

#[test]
fn a_cancel_handle_keeps_no_context_and_outlives_it() {
    in_both_modes(|| {
        for dispatch in KINDS {
            let aio = build(Aio::builder().dispatch(dispatch));
            let (handle, _writer, results) = cancellable(&aio);
            drop(aio);
            assert_eq!(results.iter().collect::<Vec<_>>(), [true]);
            until(|| count_contexts() == 0);
            assert!(!handle.cancel());
        }
    });
}

#[test]
fn cancelling_in_a_callback_and_in_a_waker_works() {
    in_both_modes(|| {
        for dispatch in KINDS {
            let aio = build(Aio::builder().dispatch(dispatch));
            let (handle, _writer, results) = cancellable(&aio);
            let request = nothing(&aio).init_callback(move |_| assert!(handle.cancel()));
            request.submit().unwrap();
            aio.drain().unwrap();
            assert_eq!(results.iter().collect::<Vec<_>>(), [true]);
            let (handle, _writer, results) = cancellable(&aio);
            let Readable {
                mut pending,
                writer,
            } = readable(&aio);
            let cancels = once(move || {
                handle.cancel();
            });
            leave(&mut pending, &waker(cancels));
            poke(&writer);
            aio.drain().unwrap();
            assert_eq!(results.iter().collect::<Vec<_>>(), [true]);
            assert_eq!(aio.stats().panics, 0);
        }
    });
}

#[test]
fn a_cancellable_poll_is_gathered_in_a_callback_and_cancelled() {
    in_both_modes(|| {
        let (aio, (send, results)) = (aio(), channel());
        let (inner, (tell, cancels)) = (aio.clone(), channel());
        let request = nothing(&aio).init_callback(move |_| {
            let (reader, writer) = io::pipe().unwrap();
            let poll = inner
                .alloc()
                .init_poll(OwnedFd::from(reader), PollFlags::IN);
            let poll =
                poll.init_callback(move |done| send.send(is_cancelled(&done.result)).unwrap());
            let handle = poll.submit_cancellable().unwrap();
            tell.send(handle.cancel()).unwrap();
            drop(writer);
        });
        request.submit().unwrap();
        aio.drain().unwrap();
        assert_eq!(cancels.iter().collect::<Vec<_>>(), [true]);
        assert_eq!(results.iter().collect::<Vec<_>>(), [true]);
    });
}

#[test]
fn cancelling_and_coming_true_at_once_has_one_result() {
    in_both_modes(|| {
        for dispatch in KINDS {
            let aio = build(Aio::builder().depth(2).dispatch(dispatch));
            for _ in 0..500 {
                let ((send, results), (reader, writer)) = (channel(), io::pipe().unwrap());
                let file = OwnedFd::from(reader.try_clone().unwrap());
                let poll = aio.alloc().init_poll(file, PollFlags::IN);
                let poll = poll.init_callback(move |done| {
                    send.send(is_cancelled(&done.result)).unwrap();
                });
                let handle = poll.submit_cancellable().unwrap();
                let both = Arc::new(Barrier::new(2));
                let canceller = thread::spawn({
                    let both = Arc::clone(&both);
                    move || {
                        both.wait();
                        handle.cancel()
                    }
                });
                both.wait();
                poke(&writer);
                let cancelled = canceller.join().unwrap();
                aio.drain_timeout(Duration::from_secs(3600)).unwrap();
                let results = results.iter().collect::<Vec<_>>();
                assert_eq!(results.len(), 1);
                // What the kernel said first counts; but a refusal to cancel means that it came true.
                assert!(cancelled || results == [false]);
                drop(reader);
            }
        }
    });
}

#[test]
fn a_handle_of_one_poll_cancels_no_other() {
    in_both_modes(|| {
        for dispatch in KINDS {
            let aio = build(Aio::builder().depth(4).dispatch(dispatch));
            let (old, writer, results) = cancellable(&aio);
            poke(&writer);
            aio.drain().unwrap();
            assert_eq!(results.iter().collect::<Vec<_>>(), [false]);
            // New ones may live where the old one did.
            let others: Vec<_> = (0..100).map(|_| cancellable(&aio)).collect();
            assert!(!old.cancel());
            for (_, writer, _) in &others {
                poke(writer);
            }
            aio.drain().unwrap();
            for (handle, _, results) in others {
                assert_eq!(results.iter().collect::<Vec<_>>(), [false]);
                drop(handle);
            }
        }
    });
}

#[test]
fn a_refused_cancellable_poll_comes_back_whole() {
    in_both_modes(|| {
        let aio = aio();
        aio.shutdown(Duration::from_secs(3600)).unwrap();
        let (reader, _writer) = io::pipe().unwrap();
        let poll = aio.alloc().init_poll(OwnedFd::from(reader), PollFlags::IN);
        let refused = poll.init_callback(drop).submit_cancellable().unwrap_err();
        assert_eq!(refused.error().kind(), io::ErrorKind::BrokenPipe);
        let _whole = refused.into_request();
    });
}
