//! One thread sleeps in the kernel for all that wait. When it goes away, for whatever reason and however
//! long, somebody else does.

mod kit;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Wake, Waker};

use kiocb::op::Read;
use kiocb::{Aio, AioError, AlignedBuf, Dispatch};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Gate, SlowFs, Watchdog, is_asleep_in, need, need_root, wait_until_asleep_in};
use kit::*;

/// A thread that waits for block `number`.
fn waiter(aio: &Aio, file: &Arc<File>, number: u64) -> Worker<()> {
    let request = read(aio, file, number);
    Worker::start(move || verify(&request.wait().unwrap(), number))
}

/// A gate for each of the first blocks.
fn gates<const N: usize>(fs: &SlowFs) -> [Gate; N] {
    std::array::from_fn(|block| fs.hold_reads(block as u64 * B..(block as u64 + 1) * B))
}

#[test]
fn a_callback_that_blocks_holds_up_no_waiter() {
    need_root!();
    let _watchdog = Watchdog::new("blocking callback");
    let fs = need!(SlowFs::new());
    let file = Arc::new(fs.file("f", blocks(4)));
    let gate: [Gate; 4] = gates(&fs);
    let aio = named("wait-busy").build().unwrap();
    let thread = thread_named("wait-busy");
    let (open, wait_for_latch) = latch();
    let (tell, told) = channel();

    // The completion thread leads; then a callback calls it away, and a waiter takes over.
    let (called, calls) = channel();
    let (done, until_it_leads) = latch();
    read(&aio, &file, 0)
        .init_callback(move |done| {
            called.send(done).unwrap();
            until_it_leads();
        })
        .submit()
        .unwrap();
    read(&aio, &file, 1)
        .init_callback(move |done| {
            tell.send(done).unwrap();
            wait_for_latch();
        })
        .submit()
        .unwrap();
    wait_until_asleep_in(thread, libc::SYS_io_getevents);
    let leader = waiter(&aio, &file, 2);
    leader.wait_until_parked();
    let_one_through(&gate[0]);
    verify(&receive(&calls), 0);
    leader.wait_until_leading();
    drop(done);
    wait_until_asleep_in(thread, libc::SYS_futex);
    // Now it follows, and behind it another waiter.
    let follower = waiter(&aio, &file, 3);
    follower.wait_until_parked();

    let_one_through(&gate[1]);
    verify(&receive(&told), 1);
    // Either may lead now. It goes, and nobody but the other is left to reap, the completion thread being
    // busy.
    let mut waiting = [(leader, &gate[2]), (follower, &gate[3])];
    let leads =
        |(worker, _): &(Worker<()>, &Gate)| is_asleep_in(worker.thread, libc::SYS_io_getevents);
    wait_until("one of two leads", || waiting.iter().any(leads));
    waiting.sort_by_key(|worker| !leads(worker));
    for (worker, gate) in waiting {
        let_one_through(gate);
        worker.join();
    }
    drop(open);
    aio.drain().unwrap();
}

#[test]
fn a_callback_that_blocks_a_waiter_under_anywhere_holds_up_no_other() {
    need_root!();
    let _watchdog = Watchdog::new("blocking callback anywhere");
    let fs = need!(SlowFs::new());
    let file = Arc::new(fs.file("f", blocks(4)));
    let gate: [Gate; 4] = gates(&fs);
    let aio = named("any-busy")
        .dispatch(Dispatch::Anywhere)
        .build()
        .unwrap();
    let (open, wait_for_latch) = latch();
    let (tell, told) = channel();
    let leader = waiter(&aio, &file, 0);
    leader.wait_until_leading();
    let others = [waiter(&aio, &file, 1), waiter(&aio, &file, 2)];
    others.iter().for_each(Worker::wait_until_parked);
    read(&aio, &file, 3)
        .init_callback(move |done| {
            tell.send(done).unwrap();
            wait_for_latch();
        })
        .submit()
        .unwrap();
    let_one_through(&gate[3]);
    verify(&receive(&told), 3); // on any thread that reaps, a waiter's too
    [2, 0, 1]
        .iter()
        .for_each(|&block: &usize| let_one_through(&gate[block]));
    let mut waiting = vec![leader];
    waiting.extend(others);
    wait_until("all but the one with the callback have ended", || {
        waiting.retain_mut(|waiter| waiter.is_done().is_none());
        waiting.len() <= 1
    });
    drop(open);
    waiting.into_iter().for_each(Worker::join);
    aio.drain().unwrap();
}

/// A file whose destructor takes its time, as close(2) does on a network.
struct SlowClose(Arc<File>, Sender<()>, Option<Box<dyn FnOnce() + Send>>);

impl AsFd for SlowClose {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for SlowClose {
    fn drop(&mut self) {
        self.1.send(()).unwrap();
        self.2.take().unwrap()();
    }
}

#[test]
fn a_destructor_that_blocks_holds_up_no_waiter() {
    need_root!();
    let _watchdog = Watchdog::new("blocking destructor");
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(3)));
        let gate: [Gate; 3] = gates(&fs);
        let aio = named("slow-drop").dispatch(dispatch).build().unwrap();
        let (open, wait_for_latch) = latch();
        let (tell, told) = channel();
        let leader = waiter(&aio, &file, 0);
        leader.wait_until_leading();
        let follower = waiter(&aio, &file, 1);
        follower.wait_until_parked();
        let slow = SlowClose(Arc::clone(&file), tell, Some(Box::new(wait_for_latch)));
        drop(
            aio.alloc()
                .init_rw(slow, Read, AlignedBuf::zeroed(BLOCK), 2 * B)
                .start()
                .unwrap(),
        );
        let_one_through(&gate[2]);
        receive(&told); // the leader took it, or the completion thread
        let_one_through(&gate[1]);
        follower.join();
        drop(open);
        let_one_through(&gate[0]);
        leader.join();
    }
}

#[test]
fn a_context_is_not_idle_before_an_abandoned_file_is_closed() {
    need_root!();
    let _watchdog = Watchdog::new("idle contexts and destructors");
    let fs = need!(SlowFs::new());
    let file = Arc::new(fs.file("f", blocks(1)));
    let gate: [Gate; 1] = gates(&fs);
    let aio = aio(4);
    let (open, wait_for_latch) = latch();
    let (tell, told) = channel();
    let slow = SlowClose(Arc::clone(&file), tell, Some(Box::new(wait_for_latch)));
    drop(
        aio.alloc()
            .init_rw(slow, Read, AlignedBuf::zeroed(BLOCK), 0)
            .start()
            .unwrap(),
    );
    let_one_through(&gate[0]);
    receive(&told);
    let drained = aio.drain_timeout(std::time::Duration::from_millis(10));
    assert_eq!(
        drained.err().and_then(|error| unavailable(&error)),
        Some(AioError::TimedOut)
    );
    drop(open);
    aio.drain().unwrap();
    assert_eq!(Arc::strong_count(&file), 1);
}

#[test]
fn a_waker_that_blocks_holds_up_no_waiter() {
    struct Slow(
        Sender<()>,
        std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>>,
    );
    impl Wake for Slow {
        fn wake(self: Arc<Self>) {
            self.0.send(()).unwrap();
            let wait = self.1.lock().unwrap().take();
            wait.unwrap()();
        }
    }
    need_root!();
    let _watchdog = Watchdog::new("blocking waker");
    let fs = need!(SlowFs::new());
    let file = Arc::new(fs.file("f", blocks(3)));
    let gate: [Gate; 3] = gates(&fs);
    let aio = aio(8);
    let (open, wait_for_latch) = latch();
    let (tell, told) = channel();
    let leader = waiter(&aio, &file, 0);
    leader.wait_until_leading();
    let follower = waiter(&aio, &file, 1);
    follower.wait_until_parked();
    let mut pending = read(&aio, &file, 2).start().unwrap();
    let slow = Slow(tell, std::sync::Mutex::new(Some(Box::new(wait_for_latch))));
    let waker = Waker::from(Arc::new(slow));
    let polled = std::pin::Pin::new(&mut pending).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    let_one_through(&gate[2]);
    receive(&told);
    verify(&pending.wait(), 2);
    let_one_through(&gate[1]);
    follower.join();
    drop(open);
    let_one_through(&gate[0]);
    leader.join();
}

/// Requests queued behind a full context are submitted by whoever frees a slot. One of them blocks in
/// `io_submit`: it reads an empty pipe. Who is stuck with it?
#[test]
fn a_queued_request_that_blocks_in_io_submit_holds_up_no_waiter_in_flight() {
    need_root!();
    let _watchdog = Watchdog::new("blocking pump");
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(2)));
        let gate: [Gate; 2] = gates(&fs);
        let aio = named("pump-waits")
            .depth(2)
            .dispatch(dispatch)
            .build()
            .unwrap();
        let leader = waiter(&aio, &file, 0);
        leader.wait_until_leading();
        let follower = waiter(&aio, &file, 1);
        follower.wait_until_parked();
        let (pipe, filled) = read_pipe(&aio);
        assert_eq!(aio.stats().queued, 1);
        let_one_through(&gate[0]);
        wait_until_asleep_in(leader.thread, libc::SYS_io_submit);
        let_one_through(&gate[1]);
        follower.join();
        drop(pipe);
        assert_eq!(receive(&filled), 0);
        leader.join();
    }
}
