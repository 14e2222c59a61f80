//! Each way in which a context can end, with each thing under way: every callback is called once, every
//! waiter answered, all memory that was passed in dropped, and the kernel's context destroyed.

use crate::common::modes::in_both_modes;
use crate::common::*;
use crate::hostile::*;
use kiocb::op::Read;
use kiocb::{Aio, Dispatch, Iocb, PollFlags, SyncGroup, SyncKind};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Drop,
    DrainAndDrop,
    Shutdown,
    ShutdownAndDropElsewhere,
    PastTheDeadline,
    InItsOwnCallback,
    InAnothersCallback,
    InAWaker,
    InADestructor,
}

/// What is under way then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    Nothing,
    Queued,
    InFlight,
    Handles,
    Abandoned,
    AThreadThatWaits,
    APollWithACallback,
    APollThatIsWaitedFor,
    ABatchThatWasNotSubmitted,
    AScopeElsewhere,
    Barriers,
    CallbacksThatSubmit,
    ARequestInParts,
    AnOffloadedRead,
    AQueue,
    AQueueThatWasDropped,
    AThreadThatWaitsForAQueue,
}

const BUSY: [Busy; 17] = [
    Busy::Nothing,
    Busy::Queued,
    Busy::InFlight,
    Busy::Handles,
    Busy::Abandoned,
    Busy::AThreadThatWaits,
    Busy::APollWithACallback,
    Busy::APollThatIsWaitedFor,
    Busy::ABatchThatWasNotSubmitted,
    Busy::AScopeElsewhere,
    Busy::Barriers,
    Busy::CallbacksThatSubmit,
    Busy::ARequestInParts,
    Busy::AnOffloadedRead,
    Busy::AQueue,
    Busy::AQueueThatWasDropped,
    Busy::AThreadThatWaitsForAQueue,
];

/// What is left to do once the end has begun: letting go what the test holds back.
type LetGo = Box<dyn FnOnce() + Send>;
/// What must be true in the end.
type Check = Box<dyn FnOnce()>;

/// Something under way on `aio`. It keeps no handle of it, where it can do without.
fn begin(busy: Busy, aio: &Aio) -> (LetGo, Check) {
    let calls = Counter::default();
    match busy {
        Busy::Nothing => quiet(),
        Busy::Queued => called(&calls, count_calls(aio, &calls, 20)),
        Busy::InFlight => in_flight(aio, calls),
        Busy::Handles => handles(aio),
        Busy::Abandoned => abandoned(aio),
        Busy::AThreadThatWaits => waiting_thread(aio),
        Busy::APollWithACallback => poll_with_callback(aio),
        Busy::APollThatIsWaitedFor => poll_waited_for(aio),
        Busy::ABatchThatWasNotSubmitted => unsubmitted(aio),
        Busy::AScopeElsewhere => scope_elsewhere(aio),
        Busy::Barriers => barriers(aio),
        Busy::CallbacksThatSubmit => chain(aio, calls),
        Busy::ARequestInParts => in_parts(aio, false),
        Busy::AnOffloadedRead => in_parts(aio, true),
        Busy::AQueue => queue(aio),
        Busy::AQueueThatWasDropped => dropped_queue(aio),
        Busy::AThreadThatWaitsForAQueue => thread_at_a_queue(aio),
    }
}

fn quiet() -> (LetGo, Check) {
    (Box::new(|| ()), Box::new(|| ()))
}

/// Nothing is held back, and the callbacks are called so often.
fn called(calls: &Counter, count: usize) -> (LetGo, Check) {
    let calls = calls.clone();
    let check = move || {
        calls.until(count);
        assert_eq!(calls.get(), count);
    };
    (Box::new(|| ()), Box::new(check))
}

fn count_calls(aio: &Aio, calls: &Counter, count: usize) -> usize {
    submit_counted(aio, calls, count);
    count
}

/// Inside `io_submit` on another thread, which lends it no handle.
fn in_flight(aio: &Aio, calls: Counter) -> (LetGo, Check) {
    let (reader, writer) = io::pipe().unwrap();
    let fates = Fates::default();
    let (file, count) = (
        fates.file(std::fs::File::from(OwnedFd::from(reader))),
        calls.clone(),
    );
    let read = aio.alloc().init_rw(file, Read, fates.buffer(vec![0; 4]), 0);
    let read = read.init_callback(move |done| {
        assert_eq!(done.result.unwrap(), 1);
        count.add();
    });
    let submitter = named("in-flight", move || {
        let _ = read.submit();
    });
    until_submitting("in-flight");
    let let_go = move || {
        poke(&writer);
        submitter.join().unwrap();
    };
    let check = move || {
        calls.until(1);
        until(|| fates.seen() == [1, 1, 0, 0]);
    };
    (Box::new(let_go), Box::new(check))
}

fn handles(aio: &Aio) -> (LetGo, Check) {
    let handles: Vec<_> = (0..10).map(|_| nothing(aio).start().unwrap()).collect();
    let check = move || {
        for handle in handles {
            assert_eq!(handle.wait().result.unwrap(), 0);
        }
    };
    (Box::new(|| ()), Box::new(check))
}

fn abandoned(aio: &Aio) -> (LetGo, Check) {
    let fates = Fates::default();
    for _ in 0..10 {
        let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
        drop(aio.alloc().init_rw(file, Read, buf, 0).start().unwrap());
    }
    (
        Box::new(|| ()),
        Box::new(move || until(|| fates.seen() == [10, 10, 0, 0])),
    )
}

fn waiting_thread(aio: &Aio) -> (LetGo, Check) {
    let (reader, writer) = io::pipe().unwrap();
    let read = aio.alloc().init_rw(OwnedFd::from(reader), Read, [0; 1], 0);
    let waiter = named("in-flight", move || read.wait().unwrap().result.unwrap());
    until_submitting("in-flight");
    (
        Box::new(move || poke(&writer)),
        Box::new(move || assert_eq!(waiter.join().unwrap(), 1)),
    )
}

fn poll_with_callback(aio: &Aio) -> (LetGo, Check) {
    let ((send, results), (reader, writer)) = (channel(), io::pipe().unwrap());
    let poll = aio.alloc().init_poll(OwnedFd::from(reader), PollFlags::IN);
    let poll = poll.init_callback(move |done| send.send(is_cancelled(&done.result)).unwrap());
    poll.submit().unwrap();
    let check = move || {
        assert_eq!(results.iter().collect::<Vec<_>>(), [true]);
        drop(writer);
    };
    (Box::new(|| ()), Box::new(check))
}

fn poll_waited_for(aio: &Aio) -> (LetGo, Check) {
    let Readable { pending, writer } = readable(aio);
    let waiter = thread::spawn(move || pending.wait().result);
    let check = move || {
        assert!(is_cancelled(&waiter.join().unwrap()));
        drop(writer);
    };
    (Box::new(|| ()), Box::new(check))
}

/// A batch borrows a handle: it lives on another thread, which gives it up when it is told to.
fn unsubmitted(aio: &Aio) -> (LetGo, Check) {
    let (fates, (send, handle), gate) = (Fates::default(), channel(), Latch::default());
    let (aio, count, go_on) = (aio.clone(), fates.clone(), gate.clone());
    let keeper = thread::spawn(move || {
        let mut batch = aio.batch();
        let read = aio
            .alloc()
            .init_rw(count.file(null()), Read, count.buffer(vec![0; 4]), 0);
        let _ = batch.push_callback(read.init_callback(count.callback()));
        send.send(batch.push(nothing(&aio))).unwrap();
        go_on.wait();
        drop(batch);
    });
    let handle = handle.recv().unwrap();
    let let_go = move || {
        gate.open();
        keeper.join().unwrap();
    };
    let check = move || {
        assert!(is_cancelled(&handle.wait().result));
        assert_eq!(fates.seen(), [1, 1, 1, 0]);
    };
    (Box::new(let_go), Box::new(check))
}

fn scope_elsewhere(aio: &Aio) -> (LetGo, Check) {
    let (reader, writer) = io::pipe().unwrap();
    let aio = aio.clone();
    let thread = named("in-flight", move || {
        let mut byte = [0];
        let count = aio.scope(|s| s.read_at(&reader, &mut byte, 0).wait().unwrap());
        drop(aio);
        (count, byte)
    });
    until_submitting("in-flight");
    (
        Box::new(move || poke(&writer)),
        Box::new(move || assert_eq!(thread.join().unwrap(), (1, [b'!']))),
    )
}

fn barriers(aio: &Aio) -> (LetGo, Check) {
    let (calls, log) = (Counter::default(), SyncGroup::new(aio, scratch()));
    for number in 0..5 {
        let (called, written) = (calls.clone(), calls.clone());
        let write = log.write(vec![number; 512], 512 * u64::from(number), move |_| {
            written.add();
        });
        write.unwrap();
        let barrier = log.barrier(SyncKind::Data, move |_| {
            called.add();
        });
        barrier.unwrap();
    }
    drop(log);
    called(&calls, 10)
}

/// Callbacks that submit the next, as long as the context takes it.
fn chain(aio: &Aio, calls: Counter) -> (LetGo, Check) {
    fn link(aio: &Aio, left: usize, accepted: &Counter, calls: &Counter) {
        let (next, count, called) = (aio.clone(), accepted.clone(), calls.clone());
        let request = nothing(aio).init_callback(move |_| {
            if left > 0 {
                link(&next, left - 1, &count, &called);
            }
            called.add();
        });
        if request.submit().is_ok() {
            accepted.add();
        }
    }
    let accepted = Counter::default();
    for _ in 0..5 {
        link(aio, 20, &accepted, &calls);
    }
    let check = move || {
        until(|| count_contexts() == 0);
        assert_eq!(calls.get(), accepted.get());
    };
    (Box::new(|| ()), Box::new(check))
}

fn in_parts(aio: &Aio, offload: bool) -> (LetGo, Check) {
    let ((reader, writer), (send, results)) = (io::pipe().unwrap(), channel());
    let read = aio.alloc().init_rw(OwnedFd::from(reader), Read, [0; 2], 0);
    let read = read.nowait_or_offload().read_exact();
    if !offload {
        poke(&writer); // the first part is there
    }
    let read = read.init_callback(move |done| send.send((done.result.unwrap(), done.buf)).unwrap());
    read.submit().unwrap();
    let let_go = move || {
        poke(&writer);
        if offload {
            poke(&writer);
        }
    };
    let check = move || assert_eq!(results.iter().collect::<Vec<_>>(), [(2, *b"!!")]);
    (Box::new(let_go), Box::new(check))
}

/// Some are submitted, and one is held back: it is refused when the context has ended.
fn queue(aio: &Aio) -> (LetGo, Check) {
    let queue = aio.queue();
    (0..10).for_each(|tag| queue.push(nothing(aio), tag).unwrap());
    queue.submit().unwrap();
    let held = Iocb::alloc().init_rw(null(), Read, Vec::new(), 0); // keeps no handle
    queue.push(held, 10).unwrap();
    let check = move || {
        until(|| count_contexts() == 0);
        let done = queue.wait(11, None).unwrap();
        let mut done: Vec<_> = done.map(|(tag, done)| (tag, done.result)).collect();
        done.sort_by_key(|(tag, _)| *tag);
        let (_, last) = done.pop().unwrap();
        assert!(is_cancelled(&last));
        let tags: Vec<_> = done
            .into_iter()
            .map(|(tag, result)| (tag, result.unwrap()))
            .collect();
        assert_eq!(tags, (0..10).map(|tag| (tag, 0)).collect::<Vec<_>>());
    };
    (Box::new(|| ()), Box::new(check))
}

fn dropped_queue(aio: &Aio) -> (LetGo, Check) {
    let (fates, queue) = (Fates::default(), aio.queue());
    for _ in 0..10 {
        let (file, buf) = (fates.file(null()), fates.buffer(vec![0; 4]));
        let read = aio.alloc().init_rw(file, Read, buf, 0);
        queue.push(read, fates.token()).unwrap();
    }
    queue.submit().unwrap();
    drop(queue);
    let check = move || until(|| fates.seen() == [10, 10, 10, 0]);
    (Box::new(|| ()), Box::new(check))
}

fn thread_at_a_queue(aio: &Aio) -> (LetGo, Check) {
    let ((reader, writer), queue) = (io::pipe().unwrap(), aio.queue());
    let poll = aio.alloc().init_poll(OwnedFd::from(reader), PollFlags::IN);
    queue.push(poll, ()).unwrap();
    queue.submit().unwrap();
    let waiter = thread::spawn(move || {
        let mut done = queue.wait(1, None).unwrap();
        done.next().map(|((), done)| done.result)
    });
    let check = move || {
        assert!(is_cancelled(&waiter.join().unwrap().unwrap()));
        drop(writer);
    };
    (Box::new(|| ()), Box::new(check))
}

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(3600);

/// Ends it; `let_go` is called as soon as the end has begun, on another thread where that blocks.
fn end(end: End, aio: Aio, let_go: LetGo) {
    let elsewhere = |let_go: LetGo| thread::spawn(let_go);
    match end {
        End::Drop => {
            let other = elsewhere(let_go);
            drop(aio);
            other.join().unwrap();
        }
        End::DrainAndDrop => {
            let other = elsewhere(let_go);
            let _ = aio.drain_timeout(SHORT); // a poll may go on for ever
            drop(aio);
            other.join().unwrap();
        }
        End::Shutdown => {
            let other = elsewhere(let_go);
            aio.shutdown(LONG).unwrap();
            other.join().unwrap();
        }
        End::ShutdownAndDropElsewhere => {
            let other = elsewhere(let_go);
            let clone = aio.clone();
            let dropped = thread::spawn(move || drop(aio));
            let _ = clone.shutdown(LONG);
            dropped.join().unwrap();
            other.join().unwrap();
        }
        End::PastTheDeadline => {
            let _ = aio.shutdown(SHORT);
            drop(aio);
            let_go();
        }
        End::InItsOwnCallback => {
            let other = elsewhere(let_go);
            let last = aio.clone();
            let _ = nothing(&aio).init_callback(move |_| drop(last)).submit();
            drop(aio); // it may be the last one after all
            other.join().unwrap();
        }
        End::InAnothersCallback => {
            let other = build(Aio::builder());
            nothing(&other)
                .init_callback(move |_| drop(aio))
                .submit()
                .unwrap();
            other.drain().unwrap();
            let_go();
        }
        End::InAWaker => {
            let [
                Readable {
                    mut pending,
                    writer,
                },
                last,
            ] = [(), ()].map(|()| readable(&aio));
            leave(&mut pending, &waker(once(move || drop(aio))));
            poke(&writer);
            poke(&last.writer);
            // Who waits finds it. What came later is cancelled, or was there before.
            let _ = last.pending.wait().result;
            until(|| pending.is_complete());
            pending.wait().result.unwrap();
            let_go();
        }
        End::InADestructor => {
            let waits = [(); 50].map(|()| readable(&aio));
            let ((reader, _writer), gone) = (io::pipe().unwrap(), Counter::default());
            let (request, count) = (aio.alloc(), gone.clone());
            let dropped = once(move || {
                drop(aio);
                count.add();
            });
            let file = DropFile(OwnedFd::from(reader), OnDrop(dropped));
            let pending = request.init_poll(file, PollFlags::IN).start().unwrap();
            assert!(pending.cancel());
            // This may find it complete: then it drops the last handle itself, and waits.
            let other = elsewhere(let_go);
            drop(pending);
            // Who waits finds it; the kernel may take a moment to tell.
            for wait in waits {
                if gone.get() == 0 {
                    poke(&wait.writer);
                    let _ = wait.pending.wait().result;
                    thread::sleep(Duration::from_millis(1));
                }
            }
            gone.until(1);
            other.join().unwrap();
        }
    }
}

/// Whether callbacks own handles, so that somebody has to poll until they are called.
fn needs_a_poller(busy: Busy) -> bool {
    matches!(busy, Busy::Barriers | Busy::CallbacksThatSubmit)
}

/// A row of the matrix.
fn everything_under_way_at(how: End) {
    for dispatch in KINDS {
        if how == End::InItsOwnCallback && dispatch == Dispatch::Manual {
            continue; // callbacks run inside a call on a handle there: no callback has the last one
        }
        for busy in BUSY {
            if needs_a_poller(busy) && dispatch == Dispatch::Manual {
                continue;
            }
            eprintln!("{how:?} {busy:?} {dispatch:?}");
            let aio = build(Aio::builder().depth(64).dispatch(dispatch));
            let (let_go, check) = begin(busy, &aio);
            end(how, aio, let_go);
            check();
            until(|| count_contexts() == 0);
        }
    }
}

#[test]
fn a_context_is_dropped_with_everything_under_way() {
    in_both_modes(|| everything_under_way_at(End::Drop));
}

#[test]
fn a_context_is_drained_and_dropped_with_everything_under_way() {
    in_both_modes(|| everything_under_way_at(End::DrainAndDrop));
}

#[test]
fn a_context_is_shut_down_with_everything_under_way() {
    in_both_modes(|| everything_under_way_at(End::Shutdown));
}

#[test]
fn a_context_is_shut_down_and_dropped_with_everything_under_way() {
    in_both_modes(|| everything_under_way_at(End::ShutdownAndDropElsewhere));
}

#[test]
fn a_context_is_past_its_deadline_with_everything_under_way() {
    in_both_modes(|| everything_under_way_at(End::PastTheDeadline));
}

#[test]
fn a_context_ends_in_its_own_callback_with_everything_under_way() {
    in_both_modes(|| everything_under_way_at(End::InItsOwnCallback));
}

#[test]
fn a_context_ends_in_anothers_callback_with_everything_under_way() {
    in_both_modes(|| everything_under_way_at(End::InAnothersCallback));
}

#[test]
fn a_context_ends_in_a_waker_with_everything_under_way() {
    in_both_modes(|| everything_under_way_at(End::InAWaker));
}

#[test]
fn a_context_ends_in_a_destructor_with_everything_under_way() {
    in_both_modes(|| everything_under_way_at(End::InADestructor));
}
