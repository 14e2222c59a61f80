//! A thread is blocked inside `io_submit` for as long as the test wants: it is alone with that.

mod kit;

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use kiocb::buf::IoBuf;
use kiocb::op::{Read, Write};
use kiocb::{Aio, AioError, AlignedBuf, Dispatch};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{
    MissingPages, Mount, Op, SlowFs, Watchdog, need, need_root, wait_until_asleep_in,
};
use kit::*;

const ALL: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];
const WITH_THREAD: [Dispatch; 2] = [Dispatch::Thread, Dispatch::Anywhere];

/// Others submit, wait, poll, call back; nothing of that needs the blocked thread. Depth: at least 3.
fn others_go_on(aio: &Aio, dispatch: Dispatch, file: &Arc<File>) {
    for block in 0..4 {
        verify(&read(aio, file, block).wait().unwrap(), block);
        let handle = read(aio, file, block).start().unwrap();
        verify(&block_on_or_poll(aio, dispatch, handle), block);
        let (done, completions) = channel();
        read_to(aio, file, block, &done);
        if dispatch == Dispatch::Manual {
            while aio.poll(1, 1, Some(Duration::from_secs(1))).unwrap() == 0 {}
        }
        verify(&receive(&completions), block);
    }
    let request = read(aio, file, 0);
    verify(&Worker::start(move || request.wait().unwrap()).join(), 0);
    let late = aio.drain_timeout(Duration::from_millis(5)).unwrap_err();
    assert_eq!(unavailable(&late), Some(AioError::TimedOut));
}

fn block_on_or_poll(aio: &Aio, dispatch: Dispatch, handle: kiocb::Pending<ReadingState>) -> Done {
    if dispatch == Dispatch::Manual {
        while !handle.is_complete() {
            aio.poll(1, 8, Some(Duration::from_millis(10))).unwrap();
        }
    }
    block_on(handle)
}

/// Shutting down with a deadline comes back while the thread is blocked; then it is set free, and its request
/// completes.
fn shut_down_past(aio: Aio, set_free: impl FnOnce()) {
    let stopping = aio.clone();
    let stopped = Worker::start(move || stopping.shutdown(Duration::from_millis(5)));
    assert_eq!(
        unavailable(&stopped.join().unwrap_err()),
        Some(AioError::TimedOut)
    );
    let dropper = Worker::start(move || drop(aio));
    dropper.join();
    set_free();
}

fn context(dispatch: Dispatch) -> Aio {
    Aio::builder().depth(4).dispatch(dispatch).build().unwrap()
}

#[test]
fn a_submitter_blocked_by_a_frozen_file_system_is_alone_with_that() {
    need_root!();
    let _watchdog = Watchdog::new("frozen file system");
    for dispatch in ALL {
        let mount = need!(Mount::ext4(32 << 20));
        let frozen_file = Arc::new(mount.file("f", 4 * BLOCK, libc::O_DIRECT).unwrap());
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(4)));
        let aio = context(dispatch);
        let frozen = mount.freeze().unwrap();
        let request = write(&aio, &frozen_file, 1, 7);
        let submitter = Worker::start(move || request.wait().unwrap());
        wait_until_asleep_in(submitter.thread, libc::SYS_io_submit);
        others_go_on(&aio, dispatch, &file);
        shut_down_past(aio, || frozen.thaw());
        assert_eq!(submitter.join().result.unwrap(), BLOCK);
        let contents = std::fs::read(mount.path().join("f")).unwrap();
        assert!(contents[BLOCK..2 * BLOCK].iter().all(|&byte| byte == 7));
    }
}

#[test]
fn a_submitter_blocked_by_an_empty_pipe_is_alone_with_that() {
    need_root!();
    let _watchdog = Watchdog::new("empty pipe");
    for dispatch in ALL {
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(4)));
        let aio = context(dispatch);
        let (reader, writer) = std::io::pipe().unwrap();
        let request = aio.alloc().init_rw(reader, Read, vec![0; 8], 0);
        let submitter = Worker::start(move || request.start().unwrap().wait());
        wait_until_asleep_in(submitter.thread, libc::SYS_io_submit);
        others_go_on(&aio, dispatch, &file);
        shut_down_past(aio, || {
            use std::io::Write as _;
            (&writer).write_all(b"at last!").unwrap();
        });
        let done = submitter.join();
        assert_eq!((done.result.unwrap(), &done.buf[..]), (8, &b"at last!"[..]));
    }
}

/// Memory that is not there yet, as the source of a write.
struct Absent(Arc<MissingPages>);

// SAFETY: the mapping stays where it is as long as the MissingPages live; until they are filled whoever reads
// them waits.
unsafe impl IoBuf for Absent {
    fn buf_ptr(&self) -> *const u8 {
        self.0.as_mut_ptr()
    }

    fn buf_len(&self) -> usize {
        self.0.len()
    }
}

#[test]
fn a_submitter_blocked_by_missing_memory_is_alone_with_that() {
    need_root!();
    let _watchdog = Watchdog::new("missing pages");
    for dispatch in ALL {
        let pages = Arc::new(need!(MissingPages::new(1)));
        let mount = need!(Mount::tmpfs(1 << 20));
        let target = mount.file("f", BLOCK, 0).unwrap();
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(4)));
        let aio = context(dispatch);
        let request = aio
            .alloc()
            .init_rw(target, Write, Absent(Arc::clone(&pages)), 0);
        let submitter = Worker::start(move || request.wait().unwrap().result.unwrap());
        pages.wait_for_fault();
        others_go_on(&aio, dispatch, &file);
        shut_down_past(aio, || pages.fill().unwrap());
        assert_eq!(submitter.join(), BLOCK);
    }
}

#[test]
fn a_submitter_blocked_with_the_only_slot_delays_others_and_loses_nothing() {
    need_root!();
    let _watchdog = Watchdog::new("only slot");
    for dispatch in WITH_THREAD {
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(8)));
        let aio = Aio::builder().depth(1).dispatch(dispatch).build().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let request = aio.alloc().init_rw(reader, Read, vec![0; 8], 0);
        let submitter = Worker::start(move || request.wait().unwrap().result.unwrap());
        wait_until_asleep_in(submitter.thread, libc::SYS_io_submit);
        let (done, completions) = channel();
        (0..8).for_each(|block| read_to(&aio, &file, block, &done)); // returns at once
        let request = read(&aio, &file, 0);
        let waiter = Worker::start(move || request.wait().unwrap());
        wait_until("all are queued", || aio.stats().queued == 9);
        drop(writer);
        assert_eq!(submitter.join(), 0);
        receive_blocks(&completions, 8);
        verify(&waiter.join(), 0);
        let order = [0, 1, 2, 3, 4, 5, 6, 7, 0].map(|block| block * B);
        assert_eq!(fs.offsets(Op::Read), order);
    }
}

/// The known price of order: what is queued leaves in order, by one thread at a time. A queued request that
/// blocks there blocks what is queued behind it, until it comes through. What is in flight goes on, and
/// submitting returns at once.
#[test]
fn a_queued_request_that_blocks_holds_up_the_queue_alone() {
    need_root!();
    let _watchdog = Watchdog::new("blocked queue");
    for dispatch in WITH_THREAD {
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(8)));
        let gate = fs.hold_reads(0..3 * B);
        let name = format!("queue-{dispatch:?}");
        let aio = named(&name).depth(3).dispatch(dispatch).build().unwrap();
        let in_flight = [0, 1, 2].map(|block| {
            let request = read(&aio, &file, block);
            let worker = Worker::start(move || request.wait().unwrap());
            wait_until("it is in flight", || aio.stats().in_flight > block);
            worker
        });
        let (pipe, filled) = read_pipe(&aio);
        let (done, completions) = channel();
        (3..8).for_each(|block| read_to(&aio, &file, block, &done));
        let is_blocked = |thread| kiocb_faults::is_asleep_in(thread, libc::SYS_io_submit);
        let find_blocked = || {
            let mut workers = in_flight.iter();
            workers.position(|worker| is_blocked(worker.thread))
        };
        gate.wait_for(3);
        gate.let_through(0);
        // Whoever took the event, submits from the queue: a thread that waits, or the completion thread.
        let completion_thread = thread_named(&name);
        wait_until("somebody is blocked", || {
            find_blocked().is_some() || is_blocked(completion_thread)
        });
        let stats = aio.stats();
        assert_eq!(
            stats.in_flight + stats.queued,
            8,
            "two held, one blocked, five behind it"
        );
        assert_eq!(fs.offsets(Op::Read).len(), 3, "none of the five has left");
        let late = aio.drain_timeout(Duration::from_millis(5)).unwrap_err();
        assert_eq!(unavailable(&late), Some(AioError::TimedOut));
        read_to(&aio, &file, 7, &done); // returns at once, to wait behind the others
        gate.let_through(0);
        gate.let_through(0);
        let blocked = find_blocked();
        let mut done_in_flight: Vec<_> = in_flight.into_iter().map(Some).collect();
        for (number, worker) in done_in_flight.iter_mut().enumerate() {
            if Some(number) != blocked {
                verify(&worker.take().unwrap().join(), number as u64);
            }
        }
        assert!(completions.try_recv().is_err(), "nothing overtakes");
        drop(pipe);
        assert_eq!(receive(&filled), 0);
        if let Some(blocked) = blocked {
            let worker = done_in_flight[blocked].take().unwrap();
            verify(&worker.join(), blocked as u64);
        }
        let mut came: Vec<u8> = (3..9).map(|_| receive(&completions).buf[0] - 1).collect();
        came.sort_unstable();
        assert_eq!(came, [3, 4, 5, 6, 7, 7]);
    }
}

#[test]
fn shutdown_keeps_its_deadline_while_the_queue_is_blocked() {
    need_root!();
    let _watchdog = Watchdog::new("shutdown with a blocked queue");
    for dispatch in WITH_THREAD {
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(2)));
        let gate = fs.hold_reads(0..B);
        let name = format!("stuck-{dispatch:?}");
        let aio = named(&name).depth(1).dispatch(dispatch).build().unwrap();
        let (done, completions) = channel();
        read_to(&aio, &file, 0, &done);
        let (pipe, filled) = read_pipe(&aio);
        read_to(&aio, &file, 1, &done);
        let_one_through(&gate);
        wait_until_asleep_in(thread_named(&name), libc::SYS_io_submit);
        shut_down_past(aio, || drop(pipe));
        assert_eq!(receive(&filled), 0);
        receive_blocks(&completions, 2);
    }
}

#[test]
fn a_callback_whose_submission_blocks_holds_up_no_waiter() {
    need_root!();
    let _watchdog = Watchdog::new("callback submits what blocks");
    for dispatch in WITH_THREAD {
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(5)));
        let gate = fs.hold_reads(4 * B..5 * B);
        let aio = Aio::builder().depth(8).dispatch(dispatch).build().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let (tell, told) = channel();
        let inner = aio.clone();
        read(&aio, &file, 4)
            .init_callback(move |_| {
                tell.send(kiocb_faults::thread_id()).unwrap();
                let request = inner.alloc().init_rw(reader, Read, vec![0; 1], 0);
                drop(request.start().unwrap());
            })
            .submit()
            .unwrap();
        let_one_through(&gate); // now that this thread is past the submission, and won't run the callback
        wait_until_asleep_in(receive(&told), libc::SYS_io_submit);
        for block in 0..4 {
            let request = read(&aio, &file, block);
            verify(
                &Worker::start(move || request.wait().unwrap()).join(),
                block,
            );
        }
        drop(writer);
        aio.drain().unwrap();
    }
}

#[test]
fn a_blocked_submission_is_told_to_the_operator() {
    let _watchdog = Watchdog::new("told");
    listen_to_log();
    let aio = aio(4);
    let (reader, writer) = std::io::pipe().unwrap();
    let request = aio.alloc().init_rw(reader, Read, AlignedBuf::zeroed(1), 0);
    let submitter = Worker::start(move || request.wait().unwrap().result.unwrap());
    wait_until_asleep_in(submitter.thread, libc::SYS_io_submit);
    std::thread::sleep(Duration::from_millis(300)); // what is told is that it took long
    drop(writer);
    assert_eq!(submitter.join(), 0);
    wait_for_log("WARN: kiocb: io_submit blocked for");
}
