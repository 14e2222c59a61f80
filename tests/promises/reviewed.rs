//! Faults that a review found by programs: a test for each, which hung or failed before it was corrected.

use crate::common::modes::in_both_modes;
use crate::common::*;
use crate::hostile::*;
use crate::logger;
use kiocb::op::{PollReady, Read, Write};
use kiocb::{Aio, Batch, Dispatch, Iocb, Pending, PollFlags};
use nix::sys::resource::{Resource, UsageWho};
use std::io::{self, PipeWriter};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

/// So long that only a hang reaches it.
const LONG: Duration = Duration::from_secs(3600);

fn manual() -> Aio {
    build(Aio::builder().dispatch(Dispatch::Manual))
}

/// A wait until a byte is in the pipe, not yet submitted, and the writer that keeps the pipe open.
fn poll(aio: &Aio) -> (Iocb<PollReady<OwnedFd>>, PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    let request = aio.alloc().init_poll(OwnedFd::from(reader), PollFlags::IN);
    (request, writer)
}

/// As [`poll`], in the batch.
fn push_poll(batch: &mut Batch<'_>, aio: &Aio) -> (Pending<PollReady<OwnedFd>>, PipeWriter) {
    let (request, writer) = poll(aio);
    (batch.push(request), writer)
}

/// Does it with a context of each kind, a batch and a wait that was pushed there, which does not come true.
fn with_a_poll_in_a_batch(body: impl Fn(&Aio, Batch<'_>, Pending<PollReady<OwnedFd>>)) {
    for dispatch in KINDS {
        let aio = build(Aio::builder().dispatch(dispatch));
        let mut batch = aio.batch();
        let (pending, _writer) = push_poll(&mut batch, &aio);
        body(&aio, batch, pending);
    }
}

#[test]
fn a_callbacks_poll_is_cancelled_by_a_thread_that_the_callback_joins() {
    in_both_modes(|| {
        for dispatch in KINDS {
            let aio = build(Aio::builder().dispatch(dispatch));
            let (inner, (send, cancels), (tell, results)) = (aio.clone(), channel(), channel());
            let request = nothing(&aio).init_callback(move |_| {
                let (request, _writer) = poll(&inner);
                let request = request
                    .init_callback(move |done| tell.send(is_cancelled(&done.result)).unwrap());
                let handle = request.submit_cancellable().unwrap();
                let cancelled = thread::spawn(move || handle.cancel()).join().unwrap();
                send.send(cancelled).unwrap();
            });
            request.submit().unwrap();
            aio.drain().unwrap();
            assert_eq!(cancels.iter().collect::<Vec<_>>(), [true]);
            assert_eq!(results.iter().collect::<Vec<_>>(), [true]);
        }
    });
}

#[test]
fn a_poll_whose_handle_goes_before_its_batch_leaves_is_not_armed() {
    in_both_modes(|| {
        with_a_poll_in_a_batch(|aio, batch, pending| {
            drop(pending);
            assert!(batch.submit().is_empty());
            aio.drain().unwrap();
            let stats = aio.stats();
            assert_eq!((stats.in_flight, stats.queued), (0, 0));
        });
    });
}

#[test]
fn a_wait_after_a_cancel_does_not_need_the_batch_to_be_submitted() {
    in_both_modes(|| {
        with_a_poll_in_a_batch(|aio, batch, pending| {
            assert!(pending.cancel());
            assert!(is_cancelled(&pending.wait().result));
            drop(batch);
            aio.drain().unwrap();
        });
    });
}

#[test]
fn a_second_cancel_after_the_batch_was_submitted_returns_false() {
    in_both_modes(|| {
        with_a_poll_in_a_batch(|_, batch, pending| {
            assert!(pending.cancel());
            assert!(batch.submit().is_empty());
            assert!(!pending.cancel()); // it is done
            assert!(is_cancelled(&pending.wait().result));
        });
    });
}

#[test]
fn a_deferred_waker_of_a_manual_context_is_called_before_drain_returns() {
    in_both_modes(|| {
        let (aio, woken) = (manual(), Counter::default());
        let [mut second, third] = [(), ()].map(|()| readable(&aio));
        let mut batch = aio.batch();
        let mut first = batch.push(nothing(&aio));
        let count = woken.clone();
        leave(&mut second.pending, &waker(once(move || _ = count.add())));
        let (writer, inside) = (second.writer, Latch::default());
        let reached = inside.clone();
        let deed = once(move || {
            poke(&writer);
            poke(&third.writer);
            // This thread reaps the event of the second as well, inside a waker.
            third.pending.wait().result.unwrap();
            reached.open();
        });
        leave(&mut first, &waker(deed));
        drop(batch);
        assert!(inside.wait_timeout(Duration::ZERO));
        aio.drain().unwrap();
        assert_eq!(woken.get(), 1);
        second.pending.wait().result.unwrap();
    });
}

/// Ends a context of two shards by `end` where no thread can be made.
fn without_threads(end: impl FnOnce(Aio)) {
    let aio = build(Aio::builder().dispatch(Dispatch::Manual).shards(2));
    // Less than there is already: no thread gets a stack.
    let before = limit(Resource::RLIMIT_AS, 1 << 20);
    let thread = thread::Builder::new().spawn(|| ());
    if thread.is_err() {
        end(aio);
    }
    limit(Resource::RLIMIT_AS, before);
    match thread {
        Ok(_) => skip("a thread can be made without address space"),
        Err(_) => until(|| count_contexts() == 0),
    }
}

#[test]
fn manual_shards_are_dropped_where_no_thread_can_be_made() {
    in_both_modes(|| without_threads(drop));
}

#[test]
fn manual_shards_are_shut_down_where_no_thread_can_be_made() {
    in_both_modes(|| without_threads(|aio| aio.shutdown(LONG).unwrap()));
}

#[test]
fn a_lost_contexts_completion_thread_uses_no_processor_time() {
    in_both_modes(|| {
        let aio = build(Aio::builder().thread_name("completions"));
        let (request, _writer) = poll(&aio);
        request.init_callback(drop).submit().unwrap();
        until_leading("completions");
        destroy_the_only_context();
        let before = processor_time();
        let spun = thread::spawn(|| spin(Duration::from_millis(100)));
        let spun = spun.join().unwrap();
        let others = (processor_time() - before).saturating_sub(spun);
        assert!(others < spun / 2, "{others:?} beside {spun:?}");
        std::mem::forget(aio); // what its end does is not tested here
    });
}

/// Spins until this thread got so much processor time, and returns how much: another thread that spins gets
/// about as much meanwhile.
fn spin(time: Duration) -> Duration {
    loop {
        let used = processor_time_of(UsageWho::RUSAGE_THREAD);
        if used >= time {
            return used;
        }
    }
}

/// Takes this process's only kernel context away from under the crate.
fn destroy_the_only_context() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut rings = maps.lines().filter(|line| line.contains("[aio]"));
    let address = rings.next().unwrap().split('-').next().unwrap();
    let context = u64::from_str_radix(address, 16).unwrap();
    assert!(rings.next().is_none());
    // SAFETY: the kernel takes the number alone, and unmaps the ring that it mapped itself; reads of the
    // ring would fault, and the crate's thread sleeps in the kernel (`until_leading`).
    let destroyed = unsafe { libc::syscall(libc::SYS_io_destroy, context) };
    assert_eq!(destroyed, 0);
}

#[test]
fn a_wait_of_no_time_finds_a_completed_poll_of_a_manual_context() {
    in_both_modes(|| {
        let aio = manual();
        let Readable {
            mut pending,
            writer,
        } = readable(&aio);
        poke(&writer);
        let done = loop {
            match pending.wait_timeout(Duration::ZERO) {
                Ok(done) => break done,
                Err(back) => pending = back,
            }
        };
        done.result.unwrap();
    });
}

#[test]
fn polls_that_a_callback_arms_beside_a_shutdown_are_all_cancelled() {
    in_both_modes(|| {
        for round in 0..100 {
            let aio = build(Aio::builder().depth(1024));
            let (armed, cancelled) = (Counter::default(), Counter::default());
            let _writer = arm_until_refused(&aio, &armed, &cancelled);
            while armed.get() < 2 + round % 50 {
                thread::yield_now();
            }
            aio.shutdown(LONG).unwrap();
            assert_eq!(cancelled.get(), armed.get());
        }
    });
}

/// In a callback, arms polls until the context refuses one. None comes true while the writer lives.
fn arm_until_refused(aio: &Aio, armed: &Counter, cancelled: &Counter) -> PipeWriter {
    let (inner, armed, cancelled) = (aio.clone(), armed.clone(), cancelled.clone());
    let (reader, writer) = io::pipe().unwrap();
    let reader = Arc::new(OwnedFd::from(reader));
    let request = nothing(aio).init_callback(move |_| {
        loop {
            let cancelled = cancelled.clone();
            let request = inner.alloc().init_poll(reader.clone(), PollFlags::IN);
            let request = request.init_callback(move |done| {
                assert!(is_cancelled(&done.result));
                cancelled.add();
            });
            if request.submit().is_err() {
                return;
            }
            armed.add();
        }
    });
    request.submit().unwrap();
    writer
}

/// Leaves a waker with the handle that does `wait`, and sends the result here.
fn wait_in_the_waker(
    pending: &mut Pending<PollReady<OwnedFd>>,
    wait: impl FnOnce() -> io::Result<usize> + Send + 'static,
) -> Receiver<io::Result<usize>> {
    let (send, results) = channel();
    let deed = once(move || send.send(wait()).unwrap());
    leave(pending, &waker(deed));
    results
}

#[test]
fn a_waker_that_a_batch_calls_waits_for_another_handle_of_the_batch() {
    in_both_modes(|| {
        for dispatch in KINDS {
            let aio = build(Aio::builder().dispatch(dispatch));
            let mut batch = aio.batch();
            let other = batch.push(nothing(&aio));
            let (mut pending, _writer) = push_poll(&mut batch, &aio);
            let results = wait_in_the_waker(&mut pending, move || other.wait().result);
            assert!(pending.cancel());
            assert!(batch.submit().is_empty());
            assert_eq!(results.recv().unwrap().unwrap(), 0);
        }
    });
}

#[test]
fn a_waker_that_a_batch_calls_waits_for_another_refused_handle() {
    in_both_modes(|| {
        for dispatch in KINDS {
            let aio = build(Aio::builder().dispatch(dispatch));
            let mut batch = aio.batch();
            let (mut pending, _writer) = push_poll(&mut batch, &aio);
            let other = batch.push(nothing(&aio));
            let results = wait_in_the_waker(&mut pending, move || other.wait().result);
            aio.shutdown(LONG).unwrap();
            assert!(batch.submit().is_empty());
            results.recv().unwrap().unwrap_err();
        }
    });
}

/// Ends a forked child, and says to its parent whether `body` got to its end.
fn end_child(body: impl FnOnce()) -> ! {
    let passed = catch_unwind(AssertUnwindSafe(body)).is_ok();
    // SAFETY: ends this process without running what belongs to the parent.
    unsafe { libc::_exit(i32::from(!passed)) }
}

/// The child, in its parent.
fn fork() -> Option<libc::pid_t> {
    // SAFETY: the child uses what a fork leaves usable: glibc's allocator, and its own memory. The only other
    // thread is the watchdog, which sleeps.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            // SAFETY: sets a timer of the child's own, which ends it if it hangs: it has no watchdog.
            unsafe { libc::alarm(60) };
            None
        }
        pid => Some(pid),
    }
}

/// Whether that child said that it passed.
fn passed(child: libc::pid_t) -> bool {
    let mut status = 0;
    // SAFETY: `status` is valid for the write.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    ended == child && status == 0
}

#[test]
fn a_cancelled_handle_taken_in_a_child_is_not_completed_by_its_batch() {
    in_both_modes(|| {
        let aio = manual();
        let mut batch = aio.batch();
        let (pending, _writer) = push_poll(&mut batch, &aio);
        assert!(pending.cancel());
        let Some(child) = fork() else {
            end_child(|| {
                drop(pending.wait());
                // The child's own request gets the memory that was given back.
                let own = manual();
                let request = readable(&own);
                drop(batch);
                assert!(!request.pending.is_complete());
                poke(&request.writer);
                request.pending.wait().result.unwrap();
            })
        };
        assert!(passed(child));
        drop(batch);
        assert!(is_cancelled(&pending.wait().result));
    });
}

/// In a waker that [`Batch::submit`] calls, forks; there the child takes the batch's other handle if it is
/// to, and starts a request of its own, which the rest of the submission leaves alone.
fn fork_in_a_batch(take: bool) {
    let aio = manual();
    let mut batch = aio.batch();
    let (other, _open) = push_poll(&mut batch, &aio);
    let (mut pending, _writer) = push_poll(&mut batch, &aio);
    let other = Arc::new(Mutex::new(Some(other)));
    let (taken, (send, forks)) = (other.clone(), channel());
    let deed = once(move || {
        let child = fork();
        let own = child.is_none().then(|| {
            let taken = take.then(|| taken.lock().unwrap().take().unwrap());
            drop(taken.map(Pending::wait));
            let own = manual();
            (readable(&own), own)
        });
        send.send((child.map(passed), own)).unwrap();
    });
    leave(&mut pending, &waker(deed));
    assert!(pending.cancel());
    assert!(batch.submit().is_empty());
    let (passed, own) = forks.recv().unwrap();
    let Some((request, own)) = own else {
        return assert_eq!(passed, Some(true));
    };
    end_child(|| {
        assert!(!request.pending.is_complete());
        assert_eq!(own.stats().in_flight, 1);
        let other = other.lock().unwrap().take();
        other.map(|other| other.wait().result.unwrap_err());
        poke(&request.writer);
        request.pending.wait().result.unwrap();
    })
}

#[test]
fn a_waker_that_a_batch_calls_may_fork() {
    in_both_modes(|| fork_in_a_batch(false));
}

#[test]
fn a_waker_that_a_batch_calls_may_fork_and_take_another_handle() {
    in_both_modes(|| fork_in_a_batch(true));
}

/// Two requests leave after a callback: the first blocks for so long that it is logged, and only then the second
/// gets a slot, or a place in the queue. What the logger submits is behind both.
#[test]
fn what_a_logger_submits_overtakes_nothing_that_is_leaving() {
    in_both_modes(|| {
        // Reports of blocking are rare in a process: one kind of dispatch alone.
        let aio = build(Aio::builder().depth(1));
        let file = Arc::new(scratch());
        let (logging, target, said) = (aio.clone(), Arc::clone(&file), Counter::default());
        let logged = said.clone();
        logger::on("io_submit blocked for", move || {
            if logged.add() == 1 {
                let write = logging
                    .alloc()
                    .init_rw(Arc::clone(&target), Write, *b"later", 0);
                write.init_callback(drop).submit().unwrap();
            }
        });
        let (reader, writer) = io::pipe().unwrap();
        let (inner, target) = (aio.clone(), Arc::clone(&file));
        let request = nothing(&aio).init_callback(move |_| {
            let blocks = inner
                .alloc()
                .init_rw(OwnedFd::from(reader), Read, [0; 1], 0);
            blocks.init_callback(drop).submit().unwrap();
            let write = inner.alloc().init_rw(target, Write, *b"first", 0);
            write.init_callback(drop).submit().unwrap();
        });
        let unblock = thread::spawn(move || {
            until_any_submitting();
            thread::sleep(Duration::from_millis(300)); // it is told because it takes long
            poke(&writer);
        });
        request.submit().unwrap();
        aio.drain().unwrap();
        unblock.join().unwrap();
        logger::install(|_, _| ());
        assert_eq!(said.get(), 1);
        let mut content = [0; 5];
        file.read_exact_at(&mut content, 0).unwrap();
        assert_eq!(&content, b"later");
    });
}
