//! Wherever user code is called, whatever it does: nothing is lost, nothing is freed early, nobody waits for
//! ever and the process lives. One test for each place; in it every deed under every kind of dispatch.

use crate::common::modes::in_both_modes;
use crate::common::*;
use crate::hostile::*;
use crate::logger;
use kiocb::op::Read;
use kiocb::{Aio, Dispatch, PollFlags};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Where user code is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Callback,
    Wake,
    WakerDrop,
    WakerClone,
    FileDrop,
    BufDrop,
    ClosureDrop,
    AsFd,
    BufAddress,
    BufFilled,
    Logger,
    Payload,
    Debug,
}

impl Place {
    /// Whether the caller's own call is on the stack, or may be: it hears of a panic, and may wait.
    fn is_the_callers(self) -> bool {
        matches!(
            self,
            Place::AsFd
                | Place::BufAddress
                | Place::Debug
                | Place::ClosureDrop
                | Place::FileDrop
                | Place::BufDrop
        )
    }

    /// Whether it is called because of a panic, which is counted by itself.
    fn follows_a_panic(self) -> bool {
        matches!(self, Place::Logger | Place::Payload)
    }

    /// Panics that are counted when the deed is one: of the deed itself, and of what led to it.
    fn panics(self) -> Option<u64> {
        match self {
            Place::AsFd | Place::BufAddress | Place::Debug => Some(0),
            Place::Logger => Some(1), // what is logged is a panic; its own has a test of its own
            // The caller may hear of a clone instead; the others have a test of their own.
            Place::WakerClone | Place::WakerDrop => None,
            // The caller of `drop` may find it complete, and drop it itself.
            Place::FileDrop | Place::BufDrop => None,
            _ => Some(1),
        }
    }
}

/// What it does there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Nothing,
    Panics,
    PanicsWithWhatPanics,
    Blocks,
    Submits,
    Waits,
    Drains,
    Polls,
    ShutsDown,
    DropsTheLastHandle,
    Logs,
}

const ACTS: [Act; 11] = [
    Act::Nothing,
    Act::Panics,
    Act::PanicsWithWhatPanics,
    Act::Blocks,
    Act::Submits,
    Act::Waits,
    Act::Drains,
    Act::Polls,
    Act::ShutsDown,
    Act::DropsTheLastHandle,
    Act::Logs,
];

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

const PAGE: usize = 512;
const PAGES: usize = 8;

/// One cell of the matrix: a context, and what is seen of it.
struct Trial {
    place: Place,
    act: Act,
    dispatch: Dispatch,
    aio: Aio,
    /// What went wrong where a panic would not be heard.
    faults: Arc<Mutex<Vec<String>>>,
    /// How often the deed was done: counted when it is over, also by a panic.
    done: Counter,
    /// Callbacks of what the deed submitted, or left with another context.
    inner: Counter,
    file: Arc<std::fs::File>,
    content: Arc<Vec<u8>>,
    bystanders: Fates,
}

impl Trial {
    fn new(place: Place, act: Act, dispatch: Dispatch) -> Trial {
        let content = pattern(place as u64, PAGE * PAGES);
        Trial {
            place,
            act,
            dispatch,
            aio: build(Aio::builder().depth(4).dispatch(dispatch)),
            faults: Arc::default(),
            done: Counter::default(),
            inner: Counter::default(),
            file: Arc::new(file_of(&content)),
            content: Arc::new(content),
            bystanders: Fates::default(),
        }
    }

    /// What user code shall do.
    fn deed(&self) -> Deed {
        let (aio, act, dispatch) = (self.aio.clone(), self.act, self.dispatch);
        let (faults, inner, done) = (
            Arc::clone(&self.faults),
            self.inner.clone(),
            self.done.clone(),
        );
        let refuses = !self.place.is_the_callers();
        let (file, content) = (Arc::clone(&self.file), Arc::clone(&self.content));
        let other = (act == Act::DropsTheLastHandle).then(|| left_with_another(dispatch, &inner));
        once(move || {
            // A drain does not wait for wakers: who counts on `done` must find all over that the deed does.
            let _over = OnDrop(Arc::new(move || {
                done.add();
            }));
            let check = |what: &str, good: bool| {
                if !good {
                    faults.lock().unwrap().push(what.to_owned());
                }
            };
            let refused = |answer: io::Result<()>| would_deadlock(&answer) || !refuses;
            match act {
                Act::Nothing => {}
                Act::Panics => burst(),
                Act::PanicsWithWhatPanics => burst_twice(),
                Act::Blocks => {
                    let other = thread::spawn(move || reads(&aio, &file, &content));
                    check("another thread's reads", other.join().unwrap_or(false));
                }
                Act::Submits => {
                    for _ in 0..3 {
                        let inner = inner.clone();
                        let request = nothing(&aio).init_callback(move |_| {
                            inner.add();
                        });
                        check("submit", request.submit().is_ok());
                    }
                }
                Act::Waits => check("its own reads", reads(&aio, &file, &content)),
                Act::Drains => {
                    check("drain", refused(aio.drain()));
                    check(
                        "drain_timeout",
                        refused(aio.drain_timeout(Duration::from_secs(3600))),
                    );
                }
                Act::Polls if dispatch == Dispatch::Manual => {
                    check("poll", refused(aio.poll(0, usize::MAX, None).map(drop)));
                    check("poll", refused(aio.poll(1, usize::MAX, None).map(drop)));
                }
                Act::Polls => {}
                Act::ShutsDown => {
                    check("shutdown", refused(aio.shutdown(Duration::from_secs(3600))));
                }
                Act::DropsTheLastHandle => drop(other),
                Act::Logs => log::warn!("this is logged by user code"),
            }
        })
    }

    /// Reads that have nothing to do with it, whose bytes are looked at.
    fn read_with_callbacks(&self) -> usize {
        let mut accepted = 0;
        for page in 0..PAGES {
            let (faults, content) = (Arc::clone(&self.faults), Arc::clone(&self.content));
            let called = self.bystanders.callback();
            let buf = self.bystanders.buffer(vec![0; PAGE]);
            let read =
                self.aio
                    .alloc()
                    .init_rw(Arc::clone(&self.file), Read, buf, (page * PAGE) as u64);
            let read = read.init_callback(move |done| {
                let place = page * PAGE..(page + 1) * PAGE;
                if done.result.as_ref().ok() != Some(&PAGE) || done.buf.0 != content[place] {
                    faults
                        .lock()
                        .unwrap()
                        .push(format!("page {page}: {:?}", done.result));
                }
                called(done);
            });
            accepted += usize::from(read.submit().is_ok());
        }
        accepted
    }

    fn run(self) {
        eprintln!("{:?} {:?} {:?}", self.place, self.act, self.dispatch);
        if self.act == Act::Logs {
            let (aio, file) = (self.aio.clone(), null());
            logger::on("logged by user code", move || {
                assert_eq!(aio.read_at(&file, &mut [0], 0).unwrap(), 0);
            });
        }
        let before = self.read_with_callbacks();
        assert_eq!(before, PAGES);
        let watched: Vec<_> = (0..3)
            .map(|_| nothing(&self.aio).start().unwrap())
            .collect();
        let clean_up = trigger(self.place, self.act, &self.aio, self.deed());
        let after = self.read_with_callbacks();
        assert!(after == PAGES || self.act == Act::ShutsDown);
        self.aio.drain().unwrap();
        self.done.until(1);
        clean_up();
        self.aio.drain().unwrap();
        watched
            .into_iter()
            .for_each(|handle| assert_eq!(handle.wait().result.unwrap(), 0));
        self.look(before + after, 2 * PAGES);
    }

    fn look(self, accepted: usize, made: usize) {
        assert_eq!(*self.faults.lock().unwrap(), Vec::<String>::new());
        assert_eq!(self.bystanders.seen(), [0, made, made, accepted]);
        assert_eq!(self.done.get(), 1);
        let stats = self.aio.stats();
        assert_eq!(
            (stats.accepted, stats.in_flight, stats.queued),
            (stats.completed, 0, 0)
        );
        match (self.act, self.place.panics()) {
            (Act::Panics, Some(panics)) if self.place.follows_a_panic() => {
                until(|| self.aio.stats().panics >= panics);
            }
            // Counted when the unwinding is over, which nothing waits for.
            (Act::Panics, Some(panics)) => until(|| self.aio.stats().panics == panics),
            (Act::PanicsWithWhatPanics, Some(panics)) => {
                until(|| self.aio.stats().panics >= panics);
            }
            (Act::Panics | Act::PanicsWithWhatPanics, None) => {}
            _ => assert!(stats.panics <= 1, "{}", stats.panics),
        }
        logger::install(|_, _| ());
        drop(self.aio);
        match self.act {
            Act::Submits => self.inner.until(3),
            Act::DropsTheLastHandle => self.inner.until(LEFT),
            _ => {}
        }
        until(|| count_contexts() == 0);
    }
}

/// How many requests are outstanding on the other context.
const LEFT: usize = 5;

/// The last handle of another context that has something outstanding.
fn left_with_another(dispatch: Dispatch, calls: &Counter) -> Aio {
    let other = build(Aio::builder().depth(1).dispatch(dispatch));
    submit_counted(&other, calls, LEFT);
    other
}

/// Reads in all ways in which the reader waits; whether the bytes are right.
fn reads(aio: &Aio, file: &Arc<std::fs::File>, content: &[u8]) -> bool {
    let page = &content[PAGE..2 * PAGE];
    let [mut first, mut second] = [[0; PAGE]; 2];
    let counts = [
        aio.read_at(file, &mut first, PAGE as u64),
        aio.scope(|s| s.read_at(file, &mut second, PAGE as u64).wait()),
    ];
    let read = aio
        .alloc()
        .init_rw(Arc::clone(file), Read, vec![0; PAGE], PAGE as u64);
    let started = read.start().map(kiocb::Pending::wait);
    let third = started.is_ok_and(|done| done.buf == page);
    counts.iter().all(|count| matches!(count, Ok(PAGE))) && first == page && second == page && third
}

type CleanUp = Box<dyn FnOnce()>;

/// Calls `inside`, which may panic if the deed does.
#[track_caller]
fn own_call(act: Act, inside: impl FnOnce()) {
    let outcome = catch_unwind(AssertUnwindSafe(inside));
    let panics = matches!(act, Act::Panics | Act::PanicsWithWhatPanics);
    if let Err(panic) = outcome {
        std::mem::forget(panic); // it may panic when it is dropped
        assert!(panics, "a panic out of nowhere");
    }
}

/// Brings it about that the deed is done in that place, at once or soon.
fn trigger(place: Place, act: Act, aio: &Aio, deed: Deed) -> CleanUp {
    match place {
        Place::Callback => nothing(aio)
            .init_callback(move |_| deed())
            .submit()
            .unwrap(),
        Place::Wake | Place::WakerDrop | Place::WakerClone => {
            return trigger_waker(place, act, aio, deed);
        }
        Place::FileDrop => {
            let (reader, _writer) = io::pipe().unwrap();
            let file = DropFile(OwnedFd::from(reader), OnDrop(deed));
            let pending = aio.alloc().init_poll(file, PollFlags::IN).start().unwrap();
            own_call(act, || drop(pending));
        }
        Place::BufDrop => {
            let (reader, writer) = io::pipe().unwrap();
            let buf = DeedBuf::new(At::Dropped, deed);
            let read = aio.alloc().init_rw(OwnedFd::from(reader), Read, buf, 0);
            let pending = read.nowait_or_offload().start().unwrap();
            own_call(act, || drop(pending));
            poke(&writer);
        }
        Place::ClosureDrop => {
            let mut batch = aio.batch();
            let captured = OnDrop(deed);
            let _ = batch.push_callback(nothing(aio).init_callback(move |_| drop(captured)));
            drop(batch);
        }
        Place::AsFd => own_call(act, || {
            let read = aio
                .alloc()
                .init_rw(DeedFile(null(), deed), Read, vec![0; 4], 0);
            let _ = read.init_callback(drop).submit();
        }),
        Place::BufAddress => own_call(act, || {
            let read = aio
                .alloc()
                .init_rw(null(), Read, DeedBuf::new(At::Address, deed), 0);
            let _ = read.init_callback(drop).submit();
        }),
        Place::BufFilled => {
            let read = aio
                .alloc()
                .init_rw(null(), Read, DeedBuf::new(At::Filled, deed), 0);
            read.init_callback(drop).submit().unwrap();
        }
        Place::Logger => {
            logger::on("panicked", move || deed());
            nothing(aio).init_callback(|_| burst()).submit().unwrap();
        }
        Place::Payload => {
            let payload = OnDrop(deed);
            let request = nothing(aio).init_callback(move |_| resume_unwind(Box::new(payload)));
            request.submit().unwrap();
        }
        Place::Debug => own_call(act, || write!(Writes(deed), "{aio:?}").unwrap()),
    }
    Box::new(|| ())
}

fn trigger_waker(place: Place, act: Act, aio: &Aio, deed: Deed) -> CleanUp {
    let Readable {
        mut pending,
        writer,
    } = readable(aio);
    let mut answered = false;
    match place {
        Place::Wake => leave(&mut pending, &waker(deed)),
        Place::WakerDrop => {
            leave(&mut pending, &waker_with_drop(deed));
            answered = poll_once(&mut pending).is_ready();
        }
        _ => {
            let evil = waker_with_clone(deed);
            own_call(act, || answered = poll_with(&mut pending, &evil).is_ready());
            answered = answered || poll_once(&mut pending).is_ready();
        }
    }
    assert!(!answered || act == Act::ShutsDown); // which cancels it
    // Cancelled, it has closed the other end.
    let poked = (&writer).write(b"!");
    assert!(poked.is_ok() || act == Act::ShutsDown);
    Box::new(move || {
        if !answered {
            let ready = pending.wait().result;
            assert!(ready.is_ok() || act == Act::ShutsDown);
        }
    })
}

/// A writer of debug output.
struct Writes(Deed);

impl std::fmt::Write for Writes {
    fn write_str(&mut self, _: &str) -> std::fmt::Result {
        (self.0)();
        Ok(())
    }
}

/// A row of the matrix.
fn every_act_in(place: Place) {
    for dispatch in KINDS {
        for act in ACTS {
            Trial::new(place, act, dispatch).run();
        }
    }
}

#[test]
fn a_callback_may_do_everything() {
    in_both_modes(|| every_act_in(Place::Callback));
}

#[test]
fn a_waker_may_do_everything() {
    in_both_modes(|| every_act_in(Place::Wake));
}

#[test]
fn a_wakers_destructor_may_do_everything() {
    in_both_modes(|| every_act_in(Place::WakerDrop));
}

#[test]
fn a_wakers_clone_may_do_everything() {
    in_both_modes(|| every_act_in(Place::WakerClone));
}

#[test]
fn a_files_destructor_may_do_everything() {
    in_both_modes(|| every_act_in(Place::FileDrop));
}

#[test]
fn a_buffers_destructor_may_do_everything() {
    in_both_modes(|| every_act_in(Place::BufDrop));
}

#[test]
fn a_closures_destructor_may_do_everything() {
    in_both_modes(|| every_act_in(Place::ClosureDrop));
}

#[test]
fn as_fd_may_do_everything() {
    in_both_modes(|| every_act_in(Place::AsFd));
}

#[test]
fn a_buffers_address_may_do_everything() {
    in_both_modes(|| every_act_in(Place::BufAddress));
}

#[test]
fn a_buffer_that_was_filled_may_do_everything() {
    in_both_modes(|| every_act_in(Place::BufFilled));
}

#[test]
fn a_logger_may_do_everything() {
    in_both_modes(|| every_act_in(Place::Logger));
}

#[test]
fn a_panics_payload_may_do_everything() {
    in_both_modes(|| every_act_in(Place::Payload));
}

#[test]
fn a_writer_of_debug_output_may_do_everything() {
    in_both_modes(|| every_act_in(Place::Debug));
}
