//! Readiness as a request: it fires once, with what came; it can be cancelled, which hits nobody else.

mod common;

use common::*;
use kiocb::op::{PollReady, Read, Write};
use kiocb::{Aio, Dispatch, Pending, PollFlags, Readiness};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fs::File;
use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{self, Waker};
use std::thread;
use std::time::Duration;

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

type Event = Arc<EventFd>;

fn event() -> Event {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    Arc::new(EventFd::from_value_and_flags(0, flags).unwrap())
}

fn raise(event: &EventFd) {
    event.write(1).unwrap();
}

fn arm<F: AsFd + Send + 'static>(aio: &Aio, file: F, events: PollFlags) -> Pending<PollReady<F>> {
    aio.alloc().init_poll(file, events).start().unwrap()
}

fn of(dispatch: Dispatch, depth: u32) -> Aio {
    build(Aio::builder().dispatch(dispatch).depth(depth))
}

/// What it was cancelled for, or what came.
fn outcome<F>(readiness: &Readiness<F>) -> Result<PollFlags, i32> {
    let error = |error: &io::Error| error.raw_os_error().expect("an errno");
    readiness.result.as_ref().copied().map_err(error)
}

const CANCELLED: Result<PollFlags, i32> = Err(libc::ECANCELED);
const IN: Result<PollFlags, i32> = Ok(PollFlags::IN);

/// The kernel's slot that a request needs is free: it goes through.
fn a_slot_is_free(aio: &Aio) {
    let read = aio.alloc().init_rw(file_of(b"bytes"), Read, [0; 5], 0);
    assert_eq!(read.wait().unwrap().result.unwrap(), 5);
}

#[test]
fn an_eventfd_is_ready_when_it_is_raised() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, event) = (of(dispatch, 4), event());
        let pending = arm(&aio, Arc::clone(&event), PollFlags::IN);
        let pending = pending.wait_timeout(Duration::ZERO).unwrap_err();
        let raiser = thread::spawn({
            let event = Arc::clone(&event);
            move || raise(&event)
        });
        let ready = pending.wait();
        assert_eq!(outcome(&ready), IN);
        assert_eq!(
            ready.file.read().unwrap(),
            1,
            "waiting has taken nothing, and the file came back"
        );
        raiser.join().unwrap();
    }
}

#[test]
fn what_is_ready_already_is_said_at_once() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, event) = (of(dispatch, 4), event());
        let both = PollFlags::IN | PollFlags::OUT;
        let ready = |events| {
            let poll = aio.alloc().init_poll(Arc::clone(&event), events);
            outcome(&poll.wait().unwrap()).unwrap()
        };
        assert_eq!(ready(both), PollFlags::OUT);
        raise(&event);
        assert_eq!(ready(both), both);
        assert_eq!(ready(PollFlags::OUT), PollFlags::OUT, "only what was asked");
    }
}

#[test]
fn it_fires_once() {
    let _watchdog = watchdog();
    let (aio, event) = (aio(), event());
    let calls = Counter::default();
    for round in 1..=3 {
        let counted = calls.clone();
        aio.alloc()
            .init_poll(Arc::clone(&event), PollFlags::IN)
            .init_callback(move |ready| {
                assert_eq!(outcome(&ready), IN);
                counted.add();
            })
            .submit()
            .unwrap();
        (0..5).for_each(|_| raise(&event));
        aio.drain().unwrap();
        assert_eq!(calls.get(), round);
        event.read().unwrap();
    }
    assert_eq!(aio.stats().panics, 0);
}

#[test]
fn a_pipe_says_when_it_is_readable_and_when_the_other_end_hangs_up() {
    let _watchdog = watchdog();
    let aio = aio();
    let (reader, mut writer) = io::pipe().unwrap();
    let pending = arm(&aio, reader, PollFlags::IN);
    assert!(!pending.is_complete());
    writer.write_all(b"bytes").unwrap();
    let ready = pending.wait();
    assert_eq!(outcome(&ready), IN);

    let mut reader = ready.file;
    reader.read_exact(&mut [0; 5]).unwrap();
    let pending = arm(&aio, reader, PollFlags::IN);
    drop(writer);
    assert_eq!(
        outcome(&pending.wait()),
        Ok(PollFlags::HUP),
        "not asked for"
    );

    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let ready = arm(&aio, writer, PollFlags::empty()).wait();
    assert_eq!(outcome(&ready), Ok(PollFlags::ERR), "not asked for");
}

#[test]
fn a_full_pipe_says_when_there_is_room() {
    let _watchdog = watchdog();
    let aio = aio();
    let (mut reader, mut writer) = io::pipe().unwrap();
    writer.write_all(&[0; 65536]).unwrap();
    let pending = arm(&aio, writer, PollFlags::OUT);
    let pending = pending.wait_timeout(Duration::from_millis(1)).unwrap_err();
    reader.read_exact(&mut [0; 65536]).unwrap();
    assert_eq!(outcome(&pending.wait()), Ok(PollFlags::OUT));
}

#[test]
fn a_socket_says_when_bytes_come_and_when_its_peer_closes() {
    let _watchdog = watchdog();
    let aio = aio();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let asked = PollFlags::IN | PollFlags::RDHUP;
    let pending = arm(&aio, ours, asked);
    theirs.write_all(b"bytes").unwrap();
    let ready = pending.wait();
    assert_eq!(outcome(&ready), IN);
    let mut ours = ready.file;
    ours.read_exact(&mut [0; 5]).unwrap();
    let pending = arm(&aio, ours, asked);
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(outcome(&pending.wait()), Ok(asked), "the end is readable");
}

#[test]
fn a_listener_says_when_somebody_connects() {
    let _watchdog = watchdog();
    let (aio, dir) = (aio(), tempfile::tempdir().unwrap());
    let path = dir.path().join("socket");
    let pending = arm(&aio, UnixListener::bind(&path).unwrap(), PollFlags::IN);
    let peer = thread::spawn(move || UnixStream::connect(path).unwrap());
    let ready = pending.wait();
    assert_eq!(outcome(&ready), IN);
    ready.file.accept().unwrap();
    peer.join().unwrap();
}

/// As `poll(2)` has it: what can't wait is always ready to be read and written. For anything else the kernel
/// refuses to wait.
#[test]
fn a_regular_file_is_always_ready_and_for_nothing_else() {
    let _watchdog = watchdog();
    let aio = aio();
    let both = PollFlags::IN | PollFlags::OUT;
    for file in [scratch(), File::open("/").unwrap()] {
        let ready = aio.alloc().init_poll(file, both).wait().unwrap();
        assert_eq!(outcome(&ready), Ok(both));
    }
    let refused = aio.alloc().init_poll(scratch(), PollFlags::PRI).wait();
    let refused = refused.unwrap_err();
    assert_eq!(refused.error().raw_os_error(), Some(libc::EINVAL));
    let file: File = refused.into_request().into_file();
    assert_eq!(file.metadata().unwrap().len(), 0, "the file came back");
}

/// It has two queues to wait in, and the kernel can wait in one. What is ready needs none.
#[test]
fn a_terminal_is_refused_where_it_would_have_to_be_waited_for() {
    let _watchdog = watchdog();
    let aio = aio();
    let terminal = match File::options().read(true).write(true).open("/dev/ptmx") {
        Ok(terminal) => Arc::new(terminal),
        Err(error) => return skip(&format!("no terminals: {error}")),
    };
    let poll = |events| aio.alloc().init_poll(Arc::clone(&terminal), events).wait();
    let refused = poll(PollFlags::IN).unwrap_err();
    assert_eq!(refused.error().raw_os_error(), Some(libc::EINVAL));
    assert_eq!(outcome(&poll(PollFlags::OUT).unwrap()), Ok(PollFlags::OUT));
}

#[test]
fn closing_the_descriptor_elsewhere_does_not_end_it() {
    let _watchdog = watchdog();
    let aio = aio();
    let (reader, mut writer) = io::pipe().unwrap();
    let reader = Arc::new(OwnedFd::from(reader));
    let pending = arm(&aio, reader.try_clone().unwrap(), PollFlags::IN);
    drop(reader);
    writer.write_all(b"bytes").unwrap();
    assert_eq!(outcome(&pending.wait()), IN);
}

#[test]
fn a_cancelled_poll_says_so_and_gives_the_file_back() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, fates) = (of(dispatch, 4), Fates::default());
        let (reader, _writer) = io::pipe().unwrap();
        let file = fates.file(File::from(OwnedFd::from(reader)));
        let pending = arm(&aio, file, PollFlags::IN);
        assert!(pending.cancel());
        let cancelled = pending.wait();
        assert_eq!(outcome(&cancelled), CANCELLED);
        assert_eq!(fates.files.get(), 0);
        drop(cancelled);
        assert_eq!(fates.files.get(), 1);
        let stats = aio.stats();
        assert_eq!((stats.accepted, stats.completed), (1, 1));
    }
}

#[test]
fn cancelling_what_has_fired_changes_nothing() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, event) = (of(dispatch, 4), event());
        let pending = arm(&aio, Arc::clone(&event), PollFlags::IN);
        raise(&event);
        assert!(!pending.cancel() && pending.is_complete());
        assert!(!pending.cancel());
        assert_eq!(outcome(&pending.wait()), IN);
    }
}

#[test]
fn cancelling_twice_is_cancelling_once() {
    let _watchdog = watchdog();
    let aio = aio();
    let pending = arm(&aio, event(), PollFlags::IN);
    assert!(pending.cancel());
    pending.cancel();
    assert_eq!(outcome(&pending.wait()), CANCELLED);
    assert_eq!(aio.stats().completed, 1);
}

#[test]
fn a_dropped_handle_cancels_and_its_slot_comes_back() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, fates) = (of(dispatch, 1), Fates::default());
        for _ in 0..20 {
            let (reader, _writer) = io::pipe().unwrap();
            let file = fates.file(File::from(OwnedFd::from(reader)));
            drop(arm(&aio, file, PollFlags::IN));
            a_slot_is_free(&aio);
        }
        aio.drain().unwrap();
        assert_eq!(fates.files.get(), 20);
    }
}

#[test]
fn a_dropped_future_cancels_at_every_stage() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, event) = (of(dispatch, 1), event());
        let request = || aio.alloc().init_poll(Arc::clone(&event), PollFlags::IN);
        drop(request().into_future());
        assert_eq!(aio.stats().accepted, 0);
        let mut future = request().into_future();
        assert!(poll_once(&mut future).is_pending());
        drop(future);
        a_slot_is_free(&aio);
        let mut future = request().into_future();
        assert!(poll_once(&mut future).is_pending());
        raise(&event);
        drop(future);
        a_slot_is_free(&aio);
        aio.drain().unwrap();
        assert_eq!(Arc::strong_count(&event), 1);
    }
}

#[test]
fn a_forgotten_handle_leaves_it_armed() {
    let _watchdog = watchdog();
    let (aio, event) = (of(Dispatch::Thread, 4), event());
    std::mem::forget(arm(&aio, Arc::clone(&event), PollFlags::IN));
    let late = aio.drain_timeout(Duration::from_millis(5)).unwrap_err();
    assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    raise(&event);
    aio.drain().unwrap();
    assert_eq!(Arc::strong_count(&event), 2, "the file is leaked");
}

#[test]
fn a_wait_that_is_over_may_be_cancelled() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch, 4);
        let pending = arm(&aio, event(), PollFlags::IN);
        let pending = pending.wait_timeout(Duration::from_millis(2)).unwrap_err();
        assert!(pending.cancel());
        assert_eq!(outcome(&pending.wait()), CANCELLED);
    }
}

#[test]
fn one_thread_waits_and_another_cancels() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch, 4);
        for _ in 0..50 {
            let (send, receive) = mpsc::channel();
            let mut pending = arm(&aio, event(), PollFlags::IN);
            let canceller = thread::spawn(move || {
                let pending: Pending<_> = receive.recv().unwrap();
                assert!(pending.cancel());
                pending
            });
            pending = pending.wait_timeout(Duration::ZERO).unwrap_err();
            send.send(pending).unwrap();
            let pending = canceller.join().unwrap();
            assert_eq!(outcome(&pending.wait()), CANCELLED);
        }
    }
}

#[test]
fn a_callback_may_arm_and_cancel() {
    let _watchdog = watchdog();
    let (aio, event) = (of(Dispatch::Thread, 2), event());
    let (send, receive) = mpsc::channel();
    let (inner, quiet) = (aio.clone(), Arc::clone(&event));
    aio.alloc()
        .init_rw(null(), Read, [0; 1], 0)
        .init_callback(move |_| {
            let pending = arm(&inner, quiet, PollFlags::IN);
            assert!(pending.cancel());
            send.send(outcome(&pending.wait())).unwrap();
        })
        .submit()
        .unwrap();
    assert_eq!(receive.recv().unwrap(), CANCELLED);
}

#[test]
fn a_poll_that_queues_is_armed_when_it_has_a_slot() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, first, second) = (of(dispatch, 1), event(), event());
        let one = arm(&aio, Arc::clone(&first), PollFlags::IN);
        let two = arm(&aio, Arc::clone(&second), PollFlags::IN);
        assert_eq!(aio.stats().queued, 1);
        raise(&second);
        assert!(!two.is_complete());
        raise(&first);
        assert_eq!(outcome(&one.wait()), IN);
        assert_eq!(outcome(&two.wait()), IN);
    }
}

/// The one before it never fires: whoever waits for the cancelled one must not wait for that.
#[test]
fn a_queued_poll_is_cancelled_without_a_slot() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, fates) = (of(dispatch, 1), Fates::default());
        let armed = arm(&aio, event(), PollFlags::IN);
        let file = || fates.file(File::from(OwnedFd::from(io::pipe().unwrap().0)));
        let (one, two, three) = (
            arm(&aio, file(), PollFlags::IN),
            arm(&aio, event(), PollFlags::IN),
            arm(&aio, file(), PollFlags::IN),
        );
        assert_eq!(aio.stats().queued, 3);
        assert!(two.cancel());
        assert_eq!(outcome(&two.wait()), CANCELLED);
        drop(one);
        drop(three);
        until(|| fates.files.get() == 2);
        assert_eq!((aio.stats().queued, aio.stats().in_flight), (0, 1));
        assert!(armed.cancel());
        assert_eq!(outcome(&armed.wait()), CANCELLED);
        a_slot_is_free(&aio);
    }
}

#[test]
fn a_poll_of_an_unsubmitted_batch_is_cancelled_before_the_kernel_has_it() {
    let _watchdog = watchdog();
    let (aio, event) = (aio(), event());
    raise(&event);
    let mut batch = aio.batch();
    let cancelled = batch.push(aio.alloc().init_poll(Arc::clone(&event), PollFlags::IN));
    let kept = batch.push(aio.alloc().init_poll(Arc::clone(&event), PollFlags::IN));
    drop(batch.push(aio.alloc().init_poll(Arc::clone(&event), PollFlags::IN)));
    assert!(cancelled.cancel());
    assert!(batch.submit().is_empty());
    assert_eq!(outcome(&cancelled.wait()), CANCELLED);
    assert_eq!(outcome(&kept.wait()), IN);
    aio.drain().unwrap();
    assert_eq!(Arc::strong_count(&event), 1);
}

#[test]
fn a_batch_on_its_way_is_cancelled_by_another_thread() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch, 16);
        for _ in 0..200 {
            let mut batch = aio.batch();
            let polls: Vec<_> = (0..8)
                .map(|_| batch.push(aio.alloc().init_poll(event(), PollFlags::IN)))
                .collect();
            let canceller = thread::spawn(move || {
                polls.iter().for_each(|poll| assert!(poll.cancel()));
                polls
            });
            assert!(batch.submit().is_empty());
            for poll in canceller.join().unwrap() {
                assert_eq!(outcome(&poll.wait()), CANCELLED);
            }
        }
        let stats = aio.stats();
        // What was cancelled before the kernel had it was never accepted.
        assert_eq!((stats.completed, stats.in_flight), (stats.accepted, 0));
    }
}

/// One of the ten thousand.
struct Armed {
    pending: Pending<PollReady<Event>>,
    fires: bool,
    cancels: bool,
}

impl Armed {
    fn new(aio: &Aio, random: &mut Random) -> (Armed, Option<Event>) {
        let event = event();
        let fate = random.below(4);
        let armed = Armed {
            pending: arm(aio, Arc::clone(&event), PollFlags::IN),
            fires: fate != 0,
            cancels: fate != 1,
        };
        let fires = armed.fires.then_some(event);
        (armed, fires)
    }

    /// The only outcomes that are right: what nobody raises is cancelled, what nobody cancels fires, and
    /// where both happen the answer is that of whoever was first.
    fn verify(self) -> bool {
        let agreed = self.cancels && self.pending.cancel();
        let ready = self.pending.wait();
        let came = outcome(&ready);
        match (self.fires, self.cancels) {
            (false, _) => assert_eq!((agreed, came), (true, CANCELLED)),
            (true, false) => assert_eq!(came, IN),
            (true, true) if agreed => assert!([IN, CANCELLED].contains(&came), "{came:?}"),
            (true, true) => assert_eq!(came, IN, "the kernel did not agree"),
        }
        came == CANCELLED
    }
}

#[test]
fn ten_thousand_polls_cancelled_while_they_fire_complete_once_each() {
    const ROUND: usize = 200;
    let _watchdog = watchdog();
    for dispatch in KINDS {
        // More than there are slots: some are cancelled while they queue.
        let aio = of(dispatch, 128);
        let mut random = Random(7);
        let mut cancelled = 0;
        for _ in 0..10_000 / ROUND {
            let round = (0..ROUND).map(|_| Armed::new(&aio, &mut random));
            let (armed, mut fires): (Vec<_>, Vec<_>) = round.unzip();
            fires.sort_by_cached_key(|_| random.next());
            let raiser = thread::spawn(move || fires.iter().flatten().for_each(|e| raise(e)));
            let verified = armed.into_iter().map(Armed::verify);
            cancelled += verified.filter(|&cancelled| cancelled).count();
            raiser.join().unwrap();
        }
        assert!((2_000..10_000).contains(&cancelled), "{cancelled}");
        let stats = aio.stats();
        assert_eq!(
            (stats.accepted, stats.completed, stats.in_flight),
            (10_000, 10_000, 0)
        );
    }
}

/// A poll that is complete, or about to be, is cancelled by one thread, while other threads' polls come to
/// live where it was.
#[test]
fn a_cancel_never_hits_another_request() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch, 32);
        let over = Arc::new(AtomicBool::new(false));
        let cancellers: Vec<_> = (0..2)
            .map(|_| {
                let (aio, over) = (aio.clone(), Arc::clone(&over));
                thread::spawn(move || cancel_until(&aio, &over))
            })
            .collect();
        for _ in 0..5_000 {
            let event = event();
            let bystander = arm(&aio, Arc::clone(&event), PollFlags::IN);
            raise(&event);
            assert_eq!(outcome(&bystander.wait()), IN);
        }
        over.store(true, Ordering::Relaxed);
        for canceller in cancellers {
            canceller.join().unwrap();
        }
        aio.drain().unwrap();
    }
}

fn cancel_until(aio: &Aio, over: &AtomicBool) {
    let event = event();
    while !over.load(Ordering::Relaxed) {
        let quiet = arm(aio, Arc::clone(&event), PollFlags::IN);
        assert!(quiet.cancel());
        let fired = arm(aio, Arc::clone(&event), PollFlags::OUT);
        fired.cancel();
        drop(quiet);
        let fired = outcome(&fired.wait());
        assert!([Ok(PollFlags::OUT), CANCELLED].contains(&fired));
    }
}

#[test]
fn reads_and_writes_beside_polls_go_on() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, event) = (of(dispatch, 4), event());
        let armed: Vec<_> = (0..3)
            .map(|_| arm(&aio, Arc::clone(&event), PollFlags::IN))
            .collect();
        for _ in 0..100 {
            let write = aio.alloc().init_rw(null(), Write, [0; 8], 0);
            assert_eq!(write.wait().unwrap().result.unwrap(), 8);
        }
        assert!(armed.iter().all(|poll| !poll.is_complete()));
        raise(&event);
        armed
            .into_iter()
            .for_each(|poll| assert_eq!(outcome(&poll.wait()), IN));
    }
}

#[test]
fn shutting_down_cancels_armed_polls() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, event) = (of(dispatch, 4), event());
        let armed: Vec<_> = (0..8)
            .map(|_| arm(&aio, Arc::clone(&event), PollFlags::IN))
            .collect(); // four in the kernel, four queued
        aio.shutdown(Duration::from_secs(60)).unwrap();
        for poll in armed {
            assert_eq!(outcome(&poll.wait()), CANCELLED);
        }
    }
}

#[test]
fn an_awaited_poll_wakes_its_task() {
    let _watchdog = watchdog();
    let (aio, event) = (aio(), event());
    let (send, woken) = mpsc::channel();
    struct Send(mpsc::Sender<()>);
    impl task::Wake for Send {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }
    let waker = Waker::from(Arc::new(Send(send)));
    let request = aio.alloc().init_poll(Arc::clone(&event), PollFlags::IN);
    let mut future = pin!(request.into_future());
    let mut context = task::Context::from_waker(&waker);
    assert!(future.as_mut().poll(&mut context).is_pending());
    raise(&event);
    woken.recv().unwrap();
    let task::Poll::Ready(ready) = future.as_mut().poll(&mut context) else {
        panic!("woken and not ready");
    };
    assert_eq!(outcome(&ready.unwrap()), IN);
}
