//! Inside user code of any context nothing may wait for a context: `drain`, `drain_timeout`, `shutdown` and
//! `poll` answer at once. What may be done there is done.

use crate::common::modes::in_both_modes;
use crate::common::*;
use crate::hostile::*;
use crate::logger;
use kiocb::op::Read;
use kiocb::{Aio, Dispatch, SyncGroup, SyncKind};
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

const ALL: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

/// What each way of waiting for `aio` says, in the order of the words in [`REFUSED`].
fn wait_in_all_ways(aio: &Aio, manual: bool) -> Vec<String> {
    let deadlock = |result: io::Result<()>| match result {
        Err(error) if error.kind() == ErrorKind::Deadlock => "refused".to_owned(),
        other => format!("{other:?}"),
    };
    let mut answers = vec![
        deadlock(aio.drain()),
        deadlock(aio.drain_timeout(Duration::from_secs(3600))),
    ];
    if manual {
        answers.push(deadlock(aio.poll(0, usize::MAX, None).map(drop)));
        answers.push(deadlock(aio.poll(1, usize::MAX, None).map(drop)));
    }
    answers.push(deadlock(aio.shutdown(Duration::from_secs(3600))));
    answers
}

/// In user code of one context, tries to wait for it and for another one, which both have something
/// outstanding.
fn try_to_wait(at: &str, aios: &[(Aio, bool)], answers: &Sender<String>) {
    for (number, (aio, manual)) in aios.iter().enumerate() {
        for answer in wait_in_all_ways(aio, *manual) {
            if answer != "refused" {
                answers
                    .send(format!("in {at}, context {number}: {answer}"))
                    .unwrap();
            }
        }
    }
    answers.send(format!("{at} was here")).unwrap();
}

/// Runs `trigger` with a deed that tries to wait for its own context, and for one of each kind.
fn check(at: &'static str, trigger: impl Fn(&Aio, Deed)) {
    for dispatch in ALL {
        let of = |dispatch| {
            (
                build(Aio::builder().depth(4).dispatch(dispatch)),
                dispatch == Dispatch::Manual,
            )
        };
        let aios: Vec<_> = [dispatch].into_iter().chain(ALL).map(of).collect();
        // Something outstanding on each, so that waiting would wait.
        let never: Vec<_> = aios.iter().map(|(aio, _)| readable(aio)).collect();
        let (send, answers) = channel();
        let inside = aios.clone();
        let deed = once(move || try_to_wait(at, &inside, &send));
        trigger(&aios[0].0, deed);
        for readable in &never {
            poke(&readable.writer);
        }
        for (aio, _) in &aios {
            aio.drain().unwrap();
        }
        // The sender went with the deed.
        let answers: Vec<_> = answers.iter().collect();
        assert_eq!(answers, [format!("{at} was here")], "{dispatch:?}");
        // They were shut down in there, and say so.
        let refused = nothing(&aios[1].0).wait().unwrap_err();
        assert_eq!(refused.error().kind(), ErrorKind::BrokenPipe);
    }
}

#[test]
fn a_callback_may_wait_for_no_context() {
    in_both_modes(|| {
        check("a callback", |aio, deed| {
            nothing(aio)
                .init_callback(move |_| deed())
                .submit()
                .unwrap();
        });
    });
}

#[test]
fn a_waker_may_wait_for_no_context() {
    in_both_modes(|| {
        check("a waker", |aio, deed| {
            let Readable {
                mut pending,
                writer,
            } = readable(aio);
            leave(&mut pending, &waker(deed));
            poke(&writer);
            // A wait would replace the waker.
            until(|| {
                let _ = aio.poll(0, usize::MAX, None);
                pending.is_complete()
            });
            pending.wait().result.unwrap();
        });
    });
}

#[test]
fn a_destructor_may_wait_for_no_context() {
    in_both_modes(|| {
        check("a destructor", |aio, deed| {
            let (reader, writer) = io::pipe().unwrap();
            let file = DropFile(OwnedFd::from(reader), OnDrop(deed));
            let poll = aio.alloc().init_poll(file, kiocb::PollFlags::IN);
            drop(poll.start().unwrap());
            drop(writer);
        });
    });
}

#[test]
fn a_logger_may_wait_for_no_context() {
    in_both_modes(|| {
        check("a logger", |aio, deed| {
            let logged = Latch::default();
            let seen = logged.clone();
            logger::on("panicked", move || {
                deed();
                seen.open();
            });
            nothing(aio).init_callback(|_| burst()).submit().unwrap();
            until(|| {
                let _ = aio.poll(0, usize::MAX, None);
                logged.wait_timeout(Duration::ZERO)
            });
            logger::install(|_, _| ());
        });
    });
}

#[test]
fn a_payload_may_wait_for_no_context() {
    in_both_modes(|| {
        check("a payload", |aio, deed| {
            let payload = OnDrop(deed);
            let bursts =
                nothing(aio).init_callback(|_| std::panic::resume_unwind(Box::new(payload)));
            bursts.submit().unwrap();
        });
    });
}

#[test]
fn a_logger_that_drains_between_two_parts_is_refused() {
    in_both_modes(|| {
        let (aio, (send, answer)) = (aio(), channel());
        let inner = aio.clone();
        logger::on("io_submit blocked", move || {
            send.send(inner.drain()).unwrap();
            assert_eq!(inner.read_at(&null(), &mut [0], 0).unwrap(), 0); // but it may use it
        });
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"1").unwrap();
        let read = aio.alloc().init_rw(OwnedFd::from(reader), Read, [0; 2], 0);
        thread::spawn(move || {
            // Longer than the crate calls usual.
            thread::sleep(Duration::from_millis(250));
            writer.write_all(b"2").unwrap();
        });
        let done = read.read_exact().wait().unwrap();
        assert_eq!((done.result.unwrap(), &done.buf), (2, b"12"));
        assert!(would_deadlock(&answer.recv().unwrap()));
        assert_eq!(aio.stats().panics, 0);
    });
}

/// Two contexts, each of which is in a callback that does `deed` to the other one at the same time.
fn at_each_other(dispatch: Dispatch, deed: impl Fn(Aio) + Send + Sync + Clone + 'static) {
    let [one, two] = [(), ()].map(|()| build(Aio::builder().dispatch(dispatch)));
    let (both, done) = (Arc::new(Barrier::new(2)), Counter::default());
    let submitters =
        [(one.clone(), two.clone()), (two.clone(), one.clone())].map(|(aio, other)| {
            let (both, done, deed) = (Arc::clone(&both), done.clone(), deed.clone());
            // Elsewhere: the callback may run inside `submit`.
            thread::spawn(move || {
                let request = nothing(&aio).init_callback(move |_| {
                    both.wait();
                    deed(other);
                    both.wait();
                    done.add();
                });
                request.submit().unwrap();
            })
        });
    let mut submitters = Vec::from(submitters);
    if dispatch == Dispatch::Manual {
        let all = submitters.drain(..);
        all.for_each(|thread| thread.join().unwrap()); // there is something to drain
    }
    let ends = [one, two].map(|aio| {
        thread::spawn(move || match dispatch {
            Dispatch::Manual => aio.drain().unwrap(),
            _ => drop(aio), // the other's callback may have the last handle
        })
    });
    done.until(2);
    submitters
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    ends.into_iter().for_each(|end| end.join().unwrap());
}

#[test]
fn callbacks_that_drain_each_others_contexts_do_not_hang() {
    in_both_modes(|| {
        for dispatch in ALL {
            at_each_other(dispatch, |other| assert!(would_deadlock(&other.drain())));
        }
    });
}

#[test]
fn callbacks_that_shut_each_other_down_do_not_hang() {
    in_both_modes(|| {
        for dispatch in ALL {
            at_each_other(dispatch, |other| {
                let answer = other.shutdown(Duration::from_secs(3600));
                assert!(would_deadlock(&answer));
            });
        }
    });
}

#[test]
fn callbacks_that_poll_each_other_do_not_hang() {
    in_both_modes(|| {
        at_each_other(Dispatch::Manual, |other| {
            assert!(would_deadlock(&other.poll(1, usize::MAX, None)));
            assert!(would_deadlock(&other.poll(0, usize::MAX, None)));
        });
    });
}

#[test]
fn callbacks_that_drop_each_others_contexts_do_not_hang() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
            at_each_other(dispatch, drop);
            until(|| count_contexts() == 0);
        }
    });
}

#[test]
fn wakers_that_drop_each_others_contexts_do_not_hang() {
    in_both_modes(|| {
        let both = Arc::new(Barrier::new(2));
        let contexts = [(), ()].map(|()| Arc::new(Mutex::new(Some(aio()))));
        let handle = |number: usize| contexts[number].lock().unwrap().clone().unwrap();
        let waits = [0, 1].map(|number| {
            let (both, other) = (Arc::clone(&both), Arc::clone(&contexts[1 - number]));
            let Readable {
                mut pending,
                writer,
            } = readable(&handle(number));
            let deed = once(move || {
                both.wait();
                drop(other.lock().unwrap().take());
                both.wait();
            });
            leave(&mut pending, &waker(deed));
            (pending, writer)
        });
        drop(contexts);
        for (_, writer) in &waits {
            poke(writer);
        }
        until(|| waits.iter().all(|(pending, _)| pending.is_complete()));
        for (pending, _) in waits {
            pending.wait().result.unwrap();
        }
        until(|| count_contexts() == 0);
    });
}

/// What a writer of debug output may do with what it writes about.
struct Busybody<F: FnMut()>(F);

impl<F: FnMut()> std::fmt::Write for Busybody<F> {
    fn write_str(&mut self, _: &str) -> std::fmt::Result {
        (self.0)();
        Ok(())
    }
}

#[test]
fn debug_output_may_use_what_it_is_about() {
    in_both_modes(|| {
        for dispatch in ALL {
            let aio = build(Aio::builder().depth(1).dispatch(dispatch));
            let log = SyncGroup::new(&aio, scratch());
            let use_it = || {
                assert_eq!(aio.read_at(&null(), &mut [0], 0).unwrap(), 0);
                let pending: Vec<_> = (0..3).map(|_| nothing(&aio).start().unwrap()).collect();
                pending.into_iter().for_each(|pending| drop(pending.wait()));
                log.track().end(&Ok(()));
                drop(log.barrier(SyncKind::Data, |result| result.unwrap()));
                let _ = log.take_error();
            };
            write!(Busybody(use_it), "{aio:?}").unwrap();
            write!(Busybody(use_it), "{aio:#?}").unwrap();
            write!(Busybody(use_it), "{log:?}").unwrap();
            let batch = aio.batch();
            write!(Busybody(use_it), "{batch:?}").unwrap();
            aio.scope(|s| write!(Busybody(use_it), "{s:?}").unwrap());
            let pending = nothing(&aio).start().unwrap();
            write!(Busybody(use_it), "{pending:?}").unwrap();
            drop(pending);
            aio.drain().unwrap();
        }
    });
}

#[test]
fn debug_output_may_drain() {
    in_both_modes(|| {
        let aio = build(Aio::builder().dispatch(Dispatch::Manual));
        let log = SyncGroup::new(&aio, scratch());
        write!(Busybody(|| drop(aio.drain())), "{aio:?} {log:?}").unwrap();
        let aio = build(Aio::builder());
        write!(Busybody(|| drop(aio.drain())), "{aio:?}").unwrap();
    });
}
