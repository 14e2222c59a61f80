//! Dumps and latencies can be asked for anywhere: in user code of every kind, in a forked child, while the
//! kernel does not answer. And what is logged of a context says which one it is.

use crate::common::modes::{in_a_child, in_both_modes};
use crate::common::*;
use crate::hostile::*;
use crate::logger;
use kiocb::observe::Place;
use kiocb::op::Read;
use kiocb::{Aio, AioError, Dispatch};
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

/// Asks all that can be asked, and sends how many requests are listed.
fn ask(aio: &Aio, answers: &Sender<io::Result<usize>>) {
    let listed = aio.dump().map(|dump| dump.requests().len());
    let asked = aio.latencies().and(listed);
    answers.send(asked).unwrap();
}

#[test]
fn a_dump_may_be_asked_for_in_user_code_of_every_kind() {
    in_both_modes(|| {
        for dispatch in KINDS {
            let aio = build(Aio::builder().dispatch(dispatch));
            aio.observe(1);
            let (send, answers) = channel();
            let deed = || {
                let (aio, send) = (aio.clone(), send.clone());
                once(move || ask(&aio, &send))
            };
            // A destructor and a callback,
            let buf = DeedBuf::new(At::Dropped, deed());
            let (own, answer) = (aio.clone(), send.clone());
            let request = aio.alloc().init_rw(null(), Read, buf, 0);
            let request = request.init_callback(move |_| ask(&own, &answer));
            request.submit().unwrap();
            aio.drain().unwrap();
            assert!(answers.recv().unwrap().unwrap() >= 1);
            assert!(answers.recv().unwrap().unwrap() >= 1);
            // a waker,
            let (reader, writer) = io::pipe().unwrap();
            let poll = aio.alloc().init_poll(reader, kiocb::PollFlags::IN);
            let mut waits = poll.start().unwrap();
            leave(&mut waits, &waker(deed()));
            poke(&writer);
            aio.drain().unwrap();
            assert_eq!(answers.recv().unwrap().unwrap(), 0);
            // and a logger.
            let (own, answer) = (aio.clone(), send.clone());
            logger::on("on purpose", move || ask(&own, &answer));
            let request = nothing(&aio).init_callback(|_| burst());
            request.submit().unwrap();
            aio.drain().unwrap();
            logger::install(|_, _| ());
            assert_eq!(answers.recv().unwrap().unwrap(), 1);
        }
    });
}

#[test]
fn a_dump_does_not_wait_for_what_the_kernel_does_not_answer() {
    in_both_modes(|| {
        for dispatch in KINDS {
            let aio = build(Aio::builder().dispatch(dispatch).depth(1));
            aio.observe(1);
            let occupied = occupy(&aio); // a thread is inside `io_submit`
            let calls = Counter::default();
            submit_counted(&aio, &calls, 3);
            let dump = aio.dump().unwrap();
            let places: Vec<_> = dump
                .requests()
                .iter()
                .map(|request| request.place)
                .collect();
            assert_eq!(
                places,
                [Place::Kernel, Place::Queued, Place::Queued, Place::Queued]
            );
            drop(occupied);
            aio.drain().unwrap();
            assert_eq!((calls.get(), aio.dump().unwrap().requests().len()), (3, 0));
        }
    });
}

#[test]
fn a_forked_child_gets_neither_dump_nor_latencies_and_takes_no_lock() {
    in_both_modes(|| {
        let aio = aio();
        aio.observe(1);
        let (own, (send, gone)) = (aio.clone(), channel());
        // While a thread of the parent keeps asking, and so has the lock as often as not.
        let asking = std::thread::spawn(move || {
            while gone.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                drop((own.dump(), own.latencies()));
            }
        });
        for _ in 0..100 {
            let passed = forked(|| {
                let dump = aio.dump().unwrap_err();
                let latencies = aio.latencies().unwrap_err();
                aio.observe(1);
                let reasons = [&dump, &latencies].map(reason);
                assert_eq!(reasons, [Some(AioError::Forked); 2]);
            });
            assert!(passed);
        }
        drop::<Sender<()>>(send);
        asking.join().unwrap();
    });
}

#[test]
fn what_a_context_logs_begins_with_its_name() {
    in_a_child(|| {
        let (send, lines) = channel();
        logger::install(move |_, line| send.send(line.to_owned()).unwrap());
        let hook = || burst();
        let aio = build(
            Aio::builder()
                .thread_name("pages")
                .depth(1)
                .on_thread_start(hook),
        );
        nothing(&aio).init_callback(|_| burst()).submit().unwrap();
        aio.drain().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let poll = aio.alloc().init_poll(reader, kiocb::PollFlags::IN);
        let mut waits = poll.start().unwrap();
        leave(&mut waits, &waker(once(|| burst())));
        let queued = nothing(&aio).start().unwrap(); // and "hold all slots" is logged
        poke(&writer);
        aio.drain().unwrap();
        drop((waits, queued));
        aio.observe(1);
        let occupied = occupy(&aio);
        std::thread::sleep(Duration::from_millis(250)); // "io_submit blocked" is of what took more than 100
        assert!(aio.shutdown(Duration::ZERO).is_err());
        drop(occupied);
        logger::install(|_, _| ());
        let lines: Vec<_> = lines.iter().collect();
        for part in [
            "asked for 1 requests",
            "the hook on_thread_start panicked",
            "a callback panicked",
            "a waker panicked",
            "hold all 1 slots",
            "io_submit blocked for",
            "shutdown past its deadline: 1 requests",
            "; the oldest: ",
        ] {
            assert!(
                lines.iter().any(|line| line.contains(part)),
                "{part}: {lines:#?}"
            );
        }
        let unnamed: Vec<_> = lines
            .iter()
            .filter(|line| !line.starts_with("pages: "))
            .collect();
        assert!(unnamed.is_empty(), "{unnamed:#?}");
    });
}
