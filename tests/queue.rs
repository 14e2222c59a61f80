//! Completions as values: what is pushed into a queue comes back once, with its tag, whatever the dispatch,
//! and whatever becomes of the queue and its context. And handles that are bound to their thread.
#![allow(
    unsafe_code,
    reason = "drops a copy of a handle, and destroys a context"
)]

mod common;

use common::*;
use kiocb::op::{Mixed, MixedBuf, Read, ReadV, Rw, Write, WriteV};
use kiocb::{Aio, AioError, Dispatch, Iocb, LocalAio, PollFlags, Queue};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::mpsc;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

const DISPATCHES: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

/// For each kind of dispatch a context of this depth, with the ring and without.
fn contexts(depth: u32) -> impl Iterator<Item = Aio> {
    DISPATCHES.into_iter().flat_map(move |dispatch| {
        [false, true].map(|force| {
            let builder = Aio::builder().dispatch(dispatch).depth(depth);
            build(builder.force_syscalls(force))
        })
    })
}

fn read(aio: &Aio) -> Iocb<Rw<Arc<File>, Read, Vec<u8>>> {
    aio.alloc().init_rw(zeroes(), Read, vec![1; 512], 0)
}

/// One for all requests of the process: a user has 1024 descriptors.
fn zeroes() -> Arc<File> {
    static ZEROES: LazyLock<Arc<File>> =
        LazyLock::new(|| Arc::new(File::open("/dev/zero").unwrap()));
    Arc::clone(&ZEROES)
}

/// Reads of one byte from a pipe. Submitted with NOWAIT or not, they may block: use a poll for what is to be
/// in flight for a while.
fn readable(aio: &Aio, reader: OwnedFd) -> Iocb<kiocb::op::PollReady<OwnedFd>> {
    aio.alloc().init_poll(reader, PollFlags::IN)
}

fn pipe() -> (OwnedFd, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    (OwnedFd::from(reader), writer)
}

/// More than the kernel has slots for, so that some queue.
#[test]
fn everything_that_is_pushed_comes_back_once_with_its_tag() {
    let _watchdog = watchdog();
    for aio in contexts(8) {
        let queue = aio.queue();
        for tag in 0..1000 {
            queue.push(read(&aio), tag).unwrap();
        }
        assert_eq!(queue.len(), 1000);
        let mut tags = BTreeSet::new();
        while !queue.is_empty() {
            for (tag, done) in queue.wait(1, None).unwrap() {
                assert_eq!(done.result.unwrap(), 512);
                assert_eq!(done.buf, [0; 512]);
                assert!(tags.insert(tag), "{tag} came twice");
            }
        }
        assert_eq!(tags, (0..1000).collect());
        assert_eq!(queue.wait(1, None).unwrap().count(), 0, "nothing is left");
    }
}

#[test]
fn all_kinds_of_requests_stand_in_one_vec_and_one_queue() {
    let _watchdog = watchdog();
    for aio in contexts(8) {
        let file = Arc::new(file_of(b"0123456789"));
        let blank = || aio.alloc();
        let requests: Vec<Iocb<Mixed<Arc<File>, Vec<u8>>>> = vec![
            blank().init_rw(file.clone(), Read, vec![0; 4], 2).mixed(),
            blank()
                .init_rw(file.clone(), Write, b"ab".to_vec(), 20)
                .mixed(),
            blank()
                .init_rw(file.clone(), ReadV, vec![vec![0; 1], vec![0; 2]], 0)
                .mixed(),
            blank()
                .init_rw(file.clone(), WriteV, vec![b"x".to_vec(); 3], 30)
                .mixed(),
            blank()
                .init_rw(file.clone(), Read, vec![0; 3], 0)
                .read_exact()
                .mixed(),
            blank()
                .init_rw(file.clone(), Write, b"cd".to_vec(), 40)
                .write_all()
                .mixed(),
            blank().init_fdsync(file.clone()).mixed(),
            blank().init_poll(file.clone(), PollFlags::IN).mixed(),
        ];
        let queue = aio.queue();
        for (tag, request) in requests.into_iter().enumerate() {
            queue.push(request, tag).unwrap();
        }
        let mut done: Vec<_> = queue.wait(8, None).unwrap().collect();
        done.sort_by_key(|(tag, _)| *tag);
        let outcomes: Vec<_> = done
            .into_iter()
            .map(|(_, done)| (done.result.unwrap(), done.buf))
            .collect();
        let in_and_out = usize::from(PollFlags::IN.bits());
        assert_eq!(
            outcomes,
            [
                (4, MixedBuf::One(b"2345".to_vec())),
                (2, MixedBuf::One(b"ab".to_vec())),
                (3, MixedBuf::Many(vec![b"0".to_vec(), b"12".to_vec()])),
                (3, MixedBuf::Many(vec![b"x".to_vec(); 3])),
                (3, MixedBuf::One(b"012".to_vec())),
                (2, MixedBuf::One(b"cd".to_vec())),
                (0, MixedBuf::None),
                (in_and_out, MixedBuf::None),
            ]
        );
    }
}

#[test]
fn a_refusal_is_the_result_and_the_others_go_on() {
    let _watchdog = watchdog();
    for aio in contexts(8) {
        let queue = aio.queue();
        let read_only = zeroes();
        let write = aio.alloc().init_rw(read_only, Write, vec![1; 8], 0).mixed();
        queue.push(read(&aio).mixed(), "before").unwrap();
        queue.push(write, "refused").unwrap();
        queue.push(read(&aio).mixed(), "after").unwrap();
        let mut results: Vec<_> = queue
            .wait(3, None)
            .unwrap()
            .map(|(tag, done)| (tag, done.result.map_err(|error| error.raw_os_error())))
            .collect();
        results.sort_by_key(|(tag, _)| *tag);
        let refused = ("refused", Err(Some(libc::EBADF)));
        assert_eq!(results, [("after", Ok(512)), ("before", Ok(512)), refused]);
    }
}

/// The only slot is taken when it is submitted, so it queues.
#[test]
fn a_refusal_of_what_had_to_queue_is_the_result_too() {
    let _watchdog = watchdog();
    for aio in contexts(1) {
        let (queue, occupied) = (aio.queue(), occupy(&aio));
        for tag in 0..3 {
            let write = aio.alloc().init_rw(zeroes(), Write, vec![1; 8], 0);
            queue.push(write, tag).unwrap();
        }
        queue.submit().unwrap();
        assert_eq!(aio.stats().queued, 3);
        drop(occupied);
        for (_, done) in queue.wait(3, None).unwrap() {
            assert_eq!(done.result.unwrap_err().raw_os_error(), Some(libc::EBADF));
        }
        assert!(queue.is_empty());
        assert_eq!(aio.stats().refused_late, 3);
    }
}

#[test]
fn a_wait_with_a_timeout_ends_and_the_request_comes_later() {
    let _watchdog = watchdog();
    for aio in contexts(8) {
        let (queue, (reader, mut writer)) = (aio.queue(), pipe());
        queue.push(readable(&aio, reader), 7).unwrap();
        let none = queue
            .wait(1, Some(Duration::from_millis(5)))
            .unwrap()
            .count();
        assert_eq!((none, queue.len()), (0, 1));
        assert_eq!(queue.drain().count(), 0);
        writer.write_all(b"!").unwrap();
        let (tag, done) = queue.wait(1, None).unwrap().next().unwrap();
        assert_eq!((tag, done.result.unwrap()), (7, PollFlags::IN));
    }
}

/// The thread waits: as the leader, or as a follower where another thread leads.
#[test]
fn a_waiting_thread_is_woken_by_its_completion() {
    let _watchdog = watchdog();
    for aio in contexts(8) {
        let ((other, mut last), (first, mut writer)) = (pipe(), pipe());
        let others = readable(&aio, other).start().unwrap();
        let leader = thread::spawn(move || others.wait().result.unwrap());
        let follower = aio.clone();
        let waiting = thread::spawn(move || {
            let queue = follower.queue();
            queue.push(readable(&follower, first), 1).unwrap();
            queue.wait(1, None).unwrap().count()
        });
        until(|| aio.stats().in_flight == 2); // each sleeps, or is about to
        writer.write_all(b"!").unwrap();
        assert_eq!(waiting.join().unwrap(), 1);
        last.write_all(b"!").unwrap();
        assert_eq!(leader.join().unwrap(), PollFlags::IN);
    }
}

/// A thread sleeps in the kernel for its queue. Another one finds the event on the ring while that thread is
/// only waking up: taken, it would let it sleep on.
#[test]
fn a_bystander_leaves_the_event_of_a_queue_that_is_waited_for() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().dispatch(Dispatch::Manual));
    let ((reader, mut writer), (go, told)) = (pipe(), mpsc::channel());
    let (reader, waiting) = (Arc::new(File::from(reader)), aio.clone());
    let waiter = thread::spawn(move || {
        let queue = waiting.queue();
        for () in told {
            let poll = waiting.alloc().init_poll(reader.clone(), PollFlags::IN);
            queue.push(poll, ()).unwrap();
            assert_eq!(queue.wait(1, None).unwrap().count(), 1);
            (&*reader).read_exact(&mut [0]).unwrap();
        }
    });
    for _ in 0..300 {
        until(|| aio.stats().in_flight == 0);
        let before = aio.stats().waits;
        go.send(()).unwrap();
        until(|| aio.stats().waits > before);
        writer.write_all(b"!").unwrap();
        assert_eq!(read(&aio).wait().unwrap().result.unwrap(), 512);
    }
    drop(go);
    waiter.join().unwrap();
}

#[test]
fn what_an_iterator_did_not_hand_out_stays_in_the_queue() {
    let _watchdog = watchdog();
    for aio in contexts(8) {
        let queue = aio.queue();
        (0..4).for_each(|tag| queue.push(read(&aio), tag).unwrap());
        let first = queue.wait(4, None).unwrap().next().map(|(tag, _)| tag);
        assert_eq!((first, queue.len()), (Some(0), 3));
        let rest: Vec<_> = queue.drain().map(|(tag, _)| tag).collect();
        assert_eq!(rest, [1, 2, 3]);
    }
}

/// A file that answers at once, and a loop that submits again for each: it would go on for ever.
#[test]
fn a_loop_over_what_is_complete_ends_though_more_is_pushed() {
    let _watchdog = watchdog();
    for aio in contexts(64) {
        let queue = aio.queue();
        (0..64).for_each(|tag| queue.push(read(&aio), tag).unwrap());
        let mut count = 0;
        for (tag, done) in queue.wait(64, None).unwrap() {
            drop(done.result);
            queue.push(read(&aio), tag).unwrap();
            count += 1;
        }
        assert_eq!((count, queue.len()), (64, 64));
    }
}

#[test]
fn two_queues_of_one_context_do_not_mix() {
    let _watchdog = watchdog();
    for aio in contexts(4) {
        let (evens, odds) = (aio.queue(), aio.queue());
        for tag in 0..100 {
            let queue = if tag % 2 == 0 { &evens } else { &odds };
            queue.push(read(&aio), tag).unwrap();
        }
        for (queue, rest) in [(&evens, 0), (&odds, 1)] {
            let tags: Vec<_> = queue.wait(50, None).unwrap().map(|done| done.0).collect();
            assert_eq!(tags.len(), 50);
            assert!(tags.iter().all(|tag| tag % 2 == rest));
        }
    }
}

/// Threads with a queue each lead and follow in turn, beside callbacks and handles.
#[test]
fn queues_of_many_threads_lose_nothing() {
    let _watchdog = watchdog();
    for aio in contexts(4) {
        let calls = Counter::default();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let queue = aio.queue();
                    for round in 0..200 {
                        (0..4).for_each(|tag| queue.push(read(&aio), tag).unwrap());
                        assert_eq!(read(&aio).wait().unwrap().result.unwrap(), 512);
                        let calls = calls.clone();
                        let request = read(&aio).init_callback(move |_| _ = calls.add());
                        request.submit().unwrap();
                        let timeout = (round % 2 == 0).then_some(Duration::from_secs(3600));
                        assert_eq!(queue.wait(4, timeout).unwrap().count(), 4);
                    }
                });
            }
        });
        aio.drain().unwrap();
        assert_eq!(calls.get(), 800);
    }
}

#[test]
fn a_queue_moves_between_threads() {
    let _watchdog = watchdog();
    for aio in contexts(8) {
        let queue = aio.queue();
        queue.push(read(&aio), String::from("tag")).unwrap();
        let there = thread::spawn(move || {
            let done = queue.wait(1, None).unwrap().next();
            done.map(|(tag, done)| (tag, done.result.unwrap()))
        });
        assert_eq!(there.join().unwrap(), Some((String::from("tag"), 512)));
    }
}

#[test]
fn a_callback_may_wait_for_a_queue() {
    let _watchdog = watchdog();
    for aio in contexts(8) {
        let (send, receive) = mpsc::channel();
        let inner = aio.clone();
        let request = read(&aio).init_callback(move |_| {
            let queue = inner.queue();
            (0..20).for_each(|tag| queue.push(read(&inner), tag).unwrap());
            send.send(queue.wait(20, None).unwrap().count()).unwrap();
        });
        request.submit().unwrap();
        aio.drain().unwrap();
        assert_eq!(receive.recv().unwrap(), 20);
    }
}

#[test]
fn the_context_counts_what_was_submitted_and_drains_it() {
    let _watchdog = watchdog();
    for aio in contexts(4) {
        let queue = aio.queue();
        (0..20).for_each(|tag| queue.push(read(&aio), tag).unwrap());
        assert_eq!(aio.stats().accepted, 0, "held back");
        queue.submit().unwrap();
        assert_eq!(aio.stats().accepted, 20);
        aio.drain().unwrap();
        assert_eq!((aio.stats().completed, queue.len()), (20, 20));
        assert_eq!(queue.drain().count(), 20);
    }
}

/// The end of the context completes what is in flight, cancels what can be, and refuses the rest.
#[test]
fn nothing_is_lost_when_the_context_is_shut_down() {
    let _watchdog = watchdog();
    for aio in contexts(2) {
        let (queue, (reader, _writer)) = (aio.queue(), pipe());
        let reader = Arc::new(File::from(reader));
        let poll = aio.alloc().init_poll(reader, PollFlags::IN).mixed();
        queue.push(poll, 0).unwrap();
        (1..20).for_each(|tag| queue.push(read(&aio).mixed(), tag).unwrap());
        queue.submit().unwrap();
        queue.push(read(&aio).mixed(), 20).unwrap();
        aio.shutdown(Duration::from_secs(3600)).unwrap();
        let refused = queue.push(read(&aio).mixed(), 21).unwrap_err();
        assert_eq!(reason(refused.error()), Some(AioError::ShutDown));
        let (request, tag) = refused.into_request();
        assert_eq!(
            (tag, request.into_parts().1),
            (21, MixedBuf::One(vec![1; 512]))
        );
        let mut results: Vec<_> = queue
            .wait(21, None)
            .unwrap()
            .map(|(tag, done)| (tag, done.result.map_err(|error| error.raw_os_error())))
            .collect();
        results.sort_by_key(|(tag, _)| *tag);
        let cancelled = Err(Some(libc::ECANCELED));
        let mut expected = vec![(0, cancelled)];
        expected.extend((1..20).map(|tag| (tag, Ok(512))));
        expected.push((20, cancelled));
        assert_eq!(results, expected);
    }
}

/// While the thread waits, another one shuts the context down.
#[test]
fn a_shutdown_wakes_a_thread_that_waits_for_a_queue() {
    let _watchdog = watchdog();
    for aio in contexts(2) {
        let (reader, _writer) = pipe();
        let (waiting, (send, submitted)) = (aio.clone(), mpsc::channel());
        let waiter = thread::spawn(move || {
            let queue = waiting.queue();
            queue.push(readable(&waiting, reader), 0).unwrap();
            queue.submit().unwrap();
            send.send(()).unwrap();
            let done = queue.wait(1, None).unwrap().next().unwrap();
            done.1.result.unwrap_err().raw_os_error()
        });
        submitted.recv().unwrap();
        aio.shutdown(Duration::from_secs(3600)).unwrap();
        assert_eq!(waiter.join().unwrap(), Some(libc::ECANCELED));
    }
}

#[test]
fn results_are_still_there_when_the_context_was_dropped() {
    let _watchdog = watchdog();
    for aio in contexts(2) {
        let queue = aio.queue();
        for tag in 0..20 {
            let request = Iocb::alloc().init_rw(zeroes(), Read, vec![1; 512], 0);
            queue.push(request, tag).unwrap(); // goes to the queue's context all the same
        }
        queue.submit().unwrap();
        drop(aio);
        assert_eq!(queue.wait(20, None).unwrap().count(), 20);
    }
}

/// Held back, in flight, complete, and handed out in part.
#[test]
fn a_queue_that_is_dropped_frees_all_that_it_had() {
    let _watchdog = watchdog();
    for aio in contexts(4) {
        let (fates, (reader, mut writer)) = (Fates::default(), pipe());
        let reader = Arc::new(File::from(reader));
        let queue = aio.queue();
        let request = |file: Arc<File>| {
            let buf = fates.buffer(vec![1; 512]);
            aio.alloc().init_rw(fates.file(file), Read, buf, 0).mixed()
        };
        (0..8).for_each(|_| queue.push(request(zeroes()), fates.token()).unwrap());
        drop(queue.wait(8, None).unwrap().next());
        let poll = aio.alloc().init_poll(fates.file(reader), PollFlags::IN);
        queue.push(poll.mixed(), fates.token()).unwrap();
        queue.submit().unwrap();
        queue.push(request(zeroes()), fates.token()).unwrap();
        assert_eq!(fates.seen(), [1, 1, 1, 0]);
        drop(queue);
        assert_eq!(fates.seen(), [9, 9, 9, 0], "all but what is in flight");
        writer.write_all(b"!").unwrap();
        aio.drain().unwrap();
        assert_eq!(fates.seen(), [10, 9, 10, 0]);
    }
}

#[test]
fn a_queue_that_is_forgotten_leaks_and_harms_nothing() {
    let _watchdog = watchdog();
    for aio in contexts(4) {
        let fates = Fates::default();
        let queue = aio.queue();
        (0..20).for_each(|_| queue.push(read(&aio), fates.token()).unwrap());
        queue.submit().unwrap();
        std::mem::forget(queue);
        aio.shutdown(Duration::from_secs(3600)).unwrap();
        assert_eq!(fates.closures.get(), 0);
    }
}

/// A tag, and a buffer, whose destructor panics.
#[derive(Debug)]
struct Bomb(#[allow(dead_code, reason = "counts")] Counter);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.add();
        panic!("on purpose");
    }
}

#[test]
fn a_destructor_that_panics_does_not_keep_the_others() {
    let _watchdog = watchdog();
    for aio in contexts(4) {
        let (drops, (reader, mut writer)) = (Counter::default(), pipe());
        let reader = Arc::new(File::from(reader));
        let queue = aio.queue();
        (0..3).for_each(|_| queue.push(read(&aio).mixed(), Bomb(drops.clone())).unwrap());
        queue.submit().unwrap();
        aio.drain().unwrap();
        let poll = aio.alloc().init_poll(reader, PollFlags::IN).mixed();
        queue.push(poll, Bomb(drops.clone())).unwrap();
        queue.submit().unwrap();
        queue.push(read(&aio).mixed(), Bomb(drops.clone())).unwrap();
        drop(queue);
        assert_eq!(drops.get(), 4);
        writer.write_all(b"!").unwrap();
        aio.drain().unwrap();
        assert_eq!((drops.get(), aio.stats().panics), (5, 5));
    }
}

/// A tag that takes all that is complete out of its queue when it is dropped.
struct Reentrant;

thread_local! {
    static QUEUE: RefCell<Option<Rc<ReentrantQueue>>> = const { RefCell::new(None) };
    static DRAINED: Cell<usize> = const { Cell::new(0) };
}

type ReentrantQueue = Queue<Reentrant, Rw<Arc<File>, Read, Vec<u8>>>;

impl Drop for Reentrant {
    fn drop(&mut self) {
        let queue = QUEUE.take();
        for (tag, _) in queue.iter().flat_map(|queue| queue.drain()) {
            std::mem::forget(tag);
            DRAINED.set(DRAINED.get() + 1);
        }
    }
}

/// Nothing is held while user code runs.
#[test]
fn user_code_inside_a_queue_may_use_the_queue() {
    let _watchdog = watchdog();
    for aio in contexts(4) {
        let queue = Rc::new(aio.queue());
        (0..4).for_each(|_| queue.push(read(&aio), Reentrant).unwrap());
        QUEUE.set(Some(Rc::clone(&queue)));
        DRAINED.set(0);
        let left = queue.wait(4, None).unwrap().count();
        let all = (left, DRAINED.get());
        assert_eq!(all, (1, 3), "the first one's tag took the rest");
    }
}

/// With requests in each place: handed out in part, complete, in flight, held back.
#[test]
fn a_forked_child_hears_so_and_the_parent_loses_nothing() {
    alone(
        "a_forked_child_hears_so_and_the_parent_loses_nothing",
        || {
            for aio in contexts(4) {
                let fates = Fates::default();
                let (reader, mut writer) = pipe();
                let reader = Arc::new(File::from(reader));
                let queue = aio.queue();
                (0..4).for_each(|_| queue.push(read(&aio).mixed(), fates.token()).unwrap());
                drop(queue.wait(4, None).unwrap().next());
                let poll = aio.alloc().init_poll(reader, PollFlags::IN).mixed();
                queue.push(poll, fates.token()).unwrap();
                queue.submit().unwrap();
                queue.push(read(&aio).mixed(), fates.token()).unwrap();
                let passed = forked(|| {
                    let refused = queue.push(read(&aio).mixed(), fates.token()).unwrap_err();
                    assert_eq!(reason(refused.error()), Some(AioError::Forked));
                    let error = queue.wait(1, None).unwrap_err();
                    assert_eq!(reason(&error), Some(AioError::Forked));
                    assert_eq!(reason(&queue.submit().unwrap_err()), Some(AioError::Forked));
                    assert_eq!(queue.drain().count(), 0);
                    let before = fates.closures.get();
                    drop(queue_of(&queue));
                    assert_eq!(fates.closures.get(), before);
                });
                assert!(passed);
                writer.write_all(b"!").unwrap();
                assert_eq!(queue.wait(5, None).unwrap().count(), 5);
                assert_eq!(fates.closures.get(), 6);
            }
        },
    );
}

/// The child's copy of the queue, to be dropped.
fn queue_of<T>(queue: &T) -> T {
    // SAFETY: the child ends without dropping the original.
    unsafe { std::ptr::read(queue) }
}

/// `io_destroy` behind the crate's back: what is in flight never completes.
#[test]
fn a_wait_on_a_lost_context_returns_an_error() {
    alone("a_wait_on_a_lost_context_returns_an_error", || {
        for dispatch in DISPATCHES {
            let before = rings();
            let aio = build(Aio::builder().dispatch(dispatch).force_syscalls(true));
            let (reader, _writer) = pipe();
            let queue = aio.queue();
            queue.push(readable(&aio, reader), 0).unwrap();
            queue.submit().unwrap();
            let ring = *rings().difference(&before).next().unwrap();
            // SAFETY: takes nothing of this program's but the context, which is what this is about.
            unsafe { libc::syscall(libc::SYS_io_destroy, ring) };
            let outcome = queue.wait(2, None).map(Iterator::count);
            match outcome {
                // The kernel cancels polls when it destroys a context, but no event can be read.
                Err(error) => assert_eq!(reason(&error), Some(AioError::ContextGone)),
                Ok(count) => panic!("{count} came"),
            }
            std::mem::forget((queue, aio));
        }
    });
}

/// The addresses of the rings in this process.
fn rings() -> BTreeSet<u64> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let lines = maps.lines().filter(|line| line.contains("[aio]"));
    lines
        .map(|line| u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap())
        .collect()
}

fn local() -> LocalAio {
    Aio::builder().build_local().unwrap()
}

fn local_read(aio: &LocalAio) -> Iocb<Rw<Arc<File>, Read, Vec<u8>>> {
    aio.alloc().init_rw(zeroes(), Read, vec![1; 512], 0)
}

/// Counts its drop, and where that happens. Not `Send`.
struct Here {
    drops: Counter,
    home: thread::ThreadId,
    _rc: Rc<()>,
}

impl Here {
    fn new(drops: &Counter) -> Here {
        Here {
            drops: drops.clone(),
            home: thread::current().id(),
            _rc: Rc::new(()),
        }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if thread::current().id() != self.home {
            std::process::abort(); // a test of its own would be too late
        }
        self.drops.add();
    }
}

#[test]
fn local_callbacks_and_tags_need_not_be_send() {
    let _watchdog = watchdog();
    let (aio, sum) = (local(), Rc::new(Cell::new(0)));
    let queue = aio.queue();
    for _ in 0..100 {
        let sum = Rc::clone(&sum);
        let add = move |done: kiocb::Completion<_, _>| sum.set(sum.get() + done.result.unwrap());
        aio.submit(local_read(&aio), add).unwrap();
        queue.push(local_read(&aio), Rc::new(1)).unwrap();
    }
    aio.drain().unwrap();
    assert_eq!((sum.get(), Rc::strong_count(&sum)), (51_200, 1));
    assert_eq!(
        queue
            .wait(100, None)
            .unwrap()
            .map(|(tag, _)| *tag)
            .sum::<i32>(),
        100
    );
}

#[test]
fn a_local_submission_that_is_refused_gives_all_back() {
    let _watchdog = watchdog();
    let (aio, drops) = (local(), Counter::default());
    let here = Here::new(&drops);
    let write = aio.alloc().init_rw(zeroes(), Write, vec![1; 8], 0);
    let refused = aio.submit(write, move |_| drop(here)).unwrap_err();
    assert_eq!(refused.errno(), Some(libc::EBADF));
    let (request, callback) = refused.into_request();
    assert_eq!((request.into_parts().1, drops.get()), (vec![1; 8], 0));
    drop(callback);
    assert_eq!(drops.get(), 1);
}

#[test]
fn dropping_a_local_handle_calls_what_is_outstanding() {
    let _watchdog = watchdog();
    let (aio, drops, calls) = (local(), Counter::default(), Rc::new(Cell::new(0)));
    for _ in 0..300 {
        let (here, calls) = (Here::new(&drops), Rc::clone(&calls));
        let request = local_read(&aio);
        aio.submit(request, move |_| {
            let _here = here;
            calls.set(calls.get() + 1);
        })
        .unwrap();
    }
    let left_over = local_read(&aio); // has a handle on the context
    drop(aio);
    assert_eq!((calls.get(), drops.get()), (300, 300));
    let ended = thread::spawn(move || left_over.wait().unwrap_err());
    let error = ended.join().unwrap();
    assert_eq!(reason(error.error()), Some(AioError::ShutDown));
}

#[test]
fn a_local_callback_that_panics_drops_what_it_owns_here() {
    let _watchdog = watchdog();
    let (aio, drops) = (local(), Counter::default());
    let here = Here::new(&drops);
    let request = local_read(&aio);
    aio.submit(request, move |_| {
        let _here = here;
        panic!("on purpose")
    })
    .unwrap();
    aio.drain().unwrap();
    assert_eq!((drops.get(), aio.stats().panics), (1, 1));
}

/// Another thread occupies the only slot, inside `io_submit`, until a byte comes: what follows queues.
fn occupied() -> (LocalAio, impl FnOnce()) {
    let aio = Aio::builder().depth(1).build_local().unwrap();
    let (reader, mut writer) = pipe();
    let request = aio.alloc().init_rw(reader, Read, [0; 1], 0);
    let thread = thread::spawn(move || request.wait().unwrap().result.unwrap());
    until(|| aio.stats().in_flight == 1);
    let release = move || {
        writer.write_all(b"!").unwrap();
        assert_eq!(thread.join().unwrap(), 1);
    };
    (aio, release)
}

/// A request with a callback, and one in a queue, that are outstanding when the handle is dropped; the end
/// goes on when there is a slot, on another thread. There nothing of this thread is called or dropped:
/// [`Here`] would abort.
fn leak(aio: LocalAio, fates: &Fates, drops: &Counter, keep: bool, before: impl FnOnce(&LocalAio)) {
    let write = || {
        let buf = fates.buffer(vec![1; 8]);
        aio.alloc().init_rw(fates.file(null()), Write, buf, 0)
    };
    let (here, queue) = (Here::new(drops), aio.queue());
    let calls = fates.calls.clone();
    aio.submit(write(), move |_| {
        let _here = here;
        calls.add();
    })
    .unwrap();
    queue.push(write(), Here::new(drops)).unwrap();
    queue.submit().unwrap();
    assert_eq!(aio.stats().queued, 2);
    before(&aio);
    if keep {
        std::mem::forget(queue);
    } else {
        drop(queue);
    }
    drop(aio);
}

/// Once the slot is free, files and buffers are dropped; nothing else.
fn assert_leaks(release: impl FnOnce(), fates: &Fates, drops: &Counter, keep: bool) {
    release();
    let ended = if keep { 1 } else { 2 };
    until(|| fates.seen()[..2] == [ended, ended]);
    assert_eq!((drops.get(), fates.calls.get()), (0, 0));
}

/// A shutdown that gives up refuses what comes later, so the requests come first.
#[test]
fn what_is_local_leaks_where_a_shutdown_gave_up() {
    let _watchdog = watchdog();
    for keep in [false, true] {
        let (fates, drops) = (Fates::default(), Counter::default());
        let (aio, release) = occupied();
        leak(aio, &fates, &drops, keep, |aio| {
            let error = aio.shutdown(Duration::ZERO).unwrap_err();
            assert_eq!(reason(&error), Some(AioError::TimedOut));
        });
        assert_leaks(release, &fates, &drops, keep);
    }
}

/// The drop happens inside a callback of another context, where it must not wait.
#[test]
fn what_is_local_leaks_where_the_drop_must_not_wait() {
    let _watchdog = watchdog();
    for keep in [false, true] {
        let (fates, drops) = (Fates::default(), Counter::default());
        let (other, (send, receive)) = (aio(), mpsc::channel());
        let (inner, counter) = (fates.clone(), drops.clone());
        let request = read(&other).init_callback(move |_| {
            let (aio, release) = occupied();
            leak(aio, &inner, &counter, keep, |_| ());
            send.send(release).unwrap();
        });
        request.submit().unwrap();
        assert_leaks(receive.recv().unwrap(), &fates, &drops, keep);
        other.drain().unwrap();
    }
}

#[test]
fn a_local_handle_lends_memory_too_and_runs_no_callback_inside() {
    let _watchdog = watchdog();
    let aio = Aio::builder().build_local().unwrap();
    let calls = Rc::new(Cell::new(0));
    let count = Rc::clone(&calls);
    let request = aio.alloc().init_rw(null(), Write, [0; 4], 0);
    aio.submit(request, move |_| count.set(count.get() + 1))
        .unwrap();
    let (file, mut alone, mut first, mut second) = (file_of(b"borrowed"), [0; 8], [0; 4], [0; 4]);
    let options = kiocb::IoOptions::new();
    aio.with(options)
        .read_exact_at(&file, &mut alone, 0)
        .unwrap();
    aio.scope(|s| {
        let ends = [
            s.read_at(&file, &mut first, 0),
            s.read_at(&file, &mut second, 4),
        ];
        ends.into_iter()
            .for_each(|read| assert_eq!(read.wait().unwrap(), 4));
    });
    assert_eq!((&alone, &first, &second), (b"borrowed", b"borr", b"owed"));
    assert_eq!(calls.get(), 0, "only a poll calls it");
    aio.drain().unwrap();
    assert_eq!(calls.get(), 1);
}
