//! Requests that stay in flight: whoever drops, forgets or gives up, their memory lives until the kernel is
//! done.

mod kit;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{channel, sync_channel};
use std::time::Duration;

use kiocb::op::Read;
use kiocb::{Aio, AioError, AlignedBuf, Dispatch};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Gate, Op, SlowFs, Watchdog, need, need_root};
use kit::*;

const WITH_THREAD: [Dispatch; 2] = [Dispatch::Thread, Dispatch::Anywhere];
const ALL: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

fn dispatching(dispatch: Dispatch) -> Aio {
    Aio::builder()
        .depth(8)
        .dispatch(dispatch)
        .build()
        .expect("a context")
}

/// A file of eight blocks, all of whose reads are held.
fn held_file(fs: &SlowFs) -> (Arc<File>, Gate) {
    (
        Arc::new(fs.file("f", blocks(8))),
        fs.hold_reads(0..u64::MAX),
    )
}

/// Memory such as the requests' own was, which would be written if theirs had been freed.
fn bystanders() -> Vec<AlignedBuf> {
    (0..64).map(|_| AlignedBuf::from(&[0xAA; BLOCK])).collect()
}

#[track_caller]
fn untouched(bystanders: &[AlignedBuf]) {
    assert!(
        bystanders
            .iter()
            .all(|buf| buf.iter().all(|&byte| byte == 0xAA))
    );
}

#[test]
fn a_dropped_handle_leaves_file_and_buffer_to_the_kernel_until_it_is_done() {
    need_root!();
    let _watchdog = Watchdog::new("dropped handle");
    for dispatch in ALL {
        let fs = need!(SlowFs::new());
        let (file, gate) = held_file(&fs);
        let aio = dispatching(dispatch);
        let (buf, alive) = Tracked::block();
        let pending = aio
            .alloc()
            .init_rw(Arc::clone(&file), Read, buf, 0)
            .start()
            .unwrap();
        gate.wait_for(1);
        drop(pending);
        assert!(!is_alone(&alive), "freed under the kernel's hands");
        assert_eq!(
            Arc::strong_count(&file),
            2,
            "closed under the kernel's hands"
        );
        let bystanders = bystanders();
        gate.release();
        aio.drain().unwrap();
        wait_until_let_go(&alive, &file, 1);
        untouched(&bystanders);
    }
}

#[test]
fn a_forgotten_handle_leaks_file_and_buffer_and_nothing_else() {
    need_root!();
    let _watchdog = Watchdog::new("forgotten handle");
    for dispatch in ALL {
        let fs = need!(SlowFs::new());
        let (file, gate) = held_file(&fs);
        let aio = dispatching(dispatch);
        let (buf, alive) = Tracked::block();
        let pending = aio
            .alloc()
            .init_rw(Arc::clone(&file), Read, buf, 0)
            .start()
            .unwrap();
        std::mem::forget(pending);
        gate.wait_for(1);
        let bystanders = bystanders();
        gate.release();
        aio.drain().unwrap();
        assert!(!is_alone(&alive) && Arc::strong_count(&file) == 2);
        untouched(&bystanders);
        let stats = aio.stats();
        assert_eq!(
            (stats.accepted, stats.completed, stats.in_flight),
            (1, 1, 0)
        );
    }
}

#[test]
fn a_future_may_be_dropped_or_forgotten_before_during_and_after() {
    need_root!();
    let _watchdog = Watchdog::new("dropped future");
    let fs = need!(SlowFs::new());
    let (file, gate) = held_file(&fs);
    let aio = aio(8);
    drop(read(&aio, &file, 0).into_future()); // never polled: nothing has happened
    assert_eq!((aio.stats().accepted, Arc::strong_count(&file)), (0, 1));

    let mut dropped = read(&aio, &file, 1).into_future();
    let mut forgotten = read(&aio, &file, 2).into_future();
    let mut kept = read(&aio, &file, 3).into_future();
    assert!(poll_once(&mut dropped).is_pending());
    assert!(poll_once(&mut forgotten).is_pending());
    assert!(poll_once(&mut kept).is_pending());
    gate.wait_for(3);
    drop(dropped);
    std::mem::forget(forgotten);
    let bystanders = bystanders();
    gate.release();
    verify(&block_on(kept).unwrap(), 3);
    aio.drain().unwrap();
    untouched(&bystanders);
    wait_until("only the forgotten one is left", || {
        Arc::strong_count(&file) == 2
    });

    let mut late = read(&aio, &file, 4).into_future();
    assert!(poll_once(&mut late).is_pending() || aio.stats().completed > 3);
    aio.drain().unwrap();
    drop(late); // its result is there and nobody asks
    assert_eq!((aio.stats().accepted, aio.stats().completed), (4, 4));
    wait_until("only the forgotten one is left", || {
        Arc::strong_count(&file) == 2
    });
}

#[test]
fn a_handle_whose_time_is_over_still_stands_for_its_request() {
    need_root!();
    let _watchdog = Watchdog::new("timed out handle");
    for dispatch in ALL {
        let fs = need!(SlowFs::new());
        let (file, gate) = held_file(&fs);
        let aio = dispatching(dispatch);
        let mut pending = read(&aio, &file, 5).start().unwrap();
        for _ in 0..3 {
            pending = pending.wait_timeout(Duration::from_millis(5)).unwrap_err();
            assert!(!pending.is_complete());
        }
        gate.release();
        verify(&pending.wait(), 5);
    }
}

#[test]
fn shutdown_past_its_deadline_frees_nothing_and_no_later_drop_blocks() {
    need_root!();
    let _watchdog = Watchdog::new("shutdown past its deadline");
    listen_to_log();
    for dispatch in WITH_THREAD {
        let fs = need!(SlowFs::new());
        let (file, gate) = held_file(&fs);
        let aio = dispatching(dispatch);
        let (done, completions) = channel();
        read_to(&aio, &file, 0, &done);
        let pending = read(&aio, &file, 1).start().unwrap();
        let (buf, alive) = Tracked::block();
        drop(
            aio.alloc()
                .init_rw(Arc::clone(&file), Read, buf, 2 * B)
                .start()
                .unwrap(),
        );
        let waiting = read(&aio, &file, 3);
        let waiter = Worker::start(move || waiting.wait());
        gate.wait_for(4);

        let late = aio.shutdown(Duration::from_millis(20)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert_eq!(unavailable(&late), Some(AioError::TimedOut));
        wait_for_log("shutdown past its deadline: 4 requests are outstanding");
        let refused = read(&aio, &file, 4).wait().unwrap_err();
        assert_eq!(unavailable(refused.error()), Some(AioError::ShutDown));
        drop(refused.into_request().into_parts());
        let dropper = Worker::start(move || drop(aio));
        dropper.join(); // with everything still held
        assert!(!is_alone(&alive));

        let bystanders = bystanders();
        gate.release();
        verify(&receive(&completions), 0);
        verify(&pending.wait(), 1);
        verify(&waiter.join().unwrap(), 3);
        wait_until("the abandoned buffer is freed", || is_alone(&alive));
        untouched(&bystanders);
    }
}

#[test]
fn shutdown_of_a_manual_context_past_its_deadline_leaves_the_rest_to_poll() {
    need_root!();
    let _watchdog = Watchdog::new("manual shutdown past its deadline");
    let fs = need!(SlowFs::new());
    let (file, gate) = held_file(&fs);
    let aio = dispatching(Dispatch::Manual);
    let (done, completions) = channel();
    read_to(&aio, &file, 0, &done);
    gate.wait_for(1);
    let late = aio.shutdown(Duration::from_millis(20)).unwrap_err();
    assert_eq!(unavailable(&late), Some(AioError::TimedOut));
    gate.release();
    assert_eq!(aio.poll(1, 8, None).unwrap(), 1);
    verify(&receive(&completions), 0);
    drop(aio);
}

#[test]
fn a_second_shutdown_can_have_the_patience_that_the_first_had_not() {
    need_root!();
    let _watchdog = Watchdog::new("second shutdown");
    let fs = need!(SlowFs::new());
    let (file, gate) = held_file(&fs);
    let aio = aio(8);
    let (done, completions) = channel();
    read_to(&aio, &file, 0, &done);
    gate.wait_for(1);
    aio.shutdown(Duration::ZERO).unwrap_err();
    aio.shutdown(Duration::from_millis(5)).unwrap_err();
    let second = aio.clone();
    let patient = Worker::start(move || second.shutdown(Duration::MAX));
    patient.wait_until_parked();
    gate.release();
    patient.join().unwrap();
    verify(&receive(&completions), 0);
}

#[test]
fn the_last_drop_blocks_until_what_is_held_has_completed() {
    need_root!();
    let _watchdog = Watchdog::new("last drop");
    for dispatch in WITH_THREAD {
        let fs = need!(SlowFs::new());
        let (file, gate) = held_file(&fs);
        let aio = dispatching(dispatch);
        let (done, completions) = channel();
        for block in 0..3 {
            read_to(&aio, &file, block, &done);
        }
        gate.wait_for(3);
        let mut dropper = Worker::start(move || drop(aio));
        for held in (0..3).rev() {
            dropper.wait_until_parked();
            assert!(dropper.is_done().is_none());
            gate.let_through(held);
            verify(&receive(&completions), held as u64);
        }
        dropper.join();
    }
}

#[test]
fn the_last_drop_waits_for_queued_requests_too() {
    need_root!();
    let _watchdog = Watchdog::new("last drop with a queue");
    for dispatch in ALL {
        let fs = need!(SlowFs::new());
        let (file, gate) = held_file(&fs);
        let aio = Aio::builder().depth(2).dispatch(dispatch).build().unwrap();
        let (done, completions) = channel();
        for block in 0..8 {
            read_to(&aio, &file, block, &done);
        }
        gate.wait_for(2);
        assert_eq!((aio.stats().in_flight, aio.stats().queued), (2, 6));
        let dropper = Worker::start(move || drop(aio));
        gate.wait_for(2);
        gate.release();
        dropper.join();
        receive_blocks(&completions, 8);
        assert_eq!(
            fs.offsets(Op::Read),
            [0, 1, 2, 3, 4, 5, 6, 7].map(|block| block * B)
        );
    }
}

#[test]
fn a_callback_that_drops_the_last_handle_leaves_the_rest_running() {
    need_root!();
    let _watchdog = Watchdog::new("drop in a callback");
    for dispatch in WITH_THREAD {
        let fs = need!(SlowFs::new());
        let (file, gate) = held_file(&fs);
        let aio = dispatching(dispatch);
        let (done, completions) = channel();
        let (tell, told) = channel();
        let (hand, handed) = sync_channel::<Aio>(1);
        read(&aio, &file, 0)
            .init_callback(move |_| {
                drop(handed.recv());
                tell.send(()).unwrap();
            })
            .submit()
            .unwrap();
        read_to(&aio, &file, 1, &done);
        gate.wait_for(2);
        hand.send(aio).unwrap();
        gate.let_through(0);
        receive(&told);
        gate.let_through(0);
        verify(&receive(&completions), 1);
    }
}

#[test]
fn what_is_never_answered_ends_when_the_server_dies() {
    need_root!();
    let _watchdog = Watchdog::new("never answered");
    for dispatch in ALL {
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(8)));
        let aio = dispatching(dispatch);
        fs.on(Op::Read).at(B..3 * B).never();
        let pending = read(&aio, &file, 1).start().unwrap();
        let waiting = read(&aio, &file, 2);
        let waiter = Worker::start(move || waiting.wait());
        verify(&read(&aio, &file, 0).wait().unwrap(), 0);
        fs.wait_for_seen(3);
        assert_eq!(
            unavailable(&aio.drain_timeout(Duration::ZERO).unwrap_err()),
            Some(AioError::TimedOut)
        );
        fs.abort();
        assert_eq!(errno(&pending.wait().result), Some(libc::ECONNABORTED));
        assert_eq!(
            errno(&waiter.join().unwrap().result),
            Some(libc::ECONNABORTED)
        );
        let late = read(&aio, &file, 0).wait().unwrap();
        assert_eq!(errno(&late.result), Some(libc::ENOTCONN));
        aio.drain().unwrap();
    }
}

#[test]
fn a_submission_that_races_with_shutdown_completes_or_comes_back() {
    let _watchdog = Watchdog::new("shutdown under fire");
    let file = Arc::new(tempfile::tempfile().unwrap());
    for round in 0..60 {
        let aio = Aio::builder()
            .depth(2)
            .dispatch(WITH_THREAD[round % 2])
            .build()
            .unwrap();
        let start = Arc::new(std::sync::Barrier::new(4));
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let (aio, file, start) = (aio.clone(), Arc::clone(&file), Arc::clone(&start));
                Worker::start(move || {
                    start.wait();
                    let mut completed = 0_u64;
                    loop {
                        match read(&aio, &file, 0).wait() {
                            Ok(done) => assert_eq!(done.result.unwrap(), 0),
                            Err(refused) => {
                                assert_eq!(unavailable(refused.error()), Some(AioError::ShutDown));
                                return completed;
                            }
                        }
                        completed += 1;
                    }
                })
            })
            .collect();
        start.wait();
        aio.shutdown(Duration::MAX).unwrap();
        let completed: u64 = workers.into_iter().map(Worker::join).sum();
        let stats = aio.stats();
        assert_eq!((stats.accepted, stats.completed), (completed, completed));
    }
}

#[test]
fn a_scope_goes_on_waiting_when_shutdown_has_given_up() {
    need_root!();
    let _watchdog = Watchdog::new("scope and shutdown");
    let fs = need!(SlowFs::new());
    let (file, gate) = held_file(&fs);
    let aio = aio(8);
    let inside = aio.clone();
    let mut worker = Worker::start(move || {
        let mut frame = AlignedBuf::zeroed(BLOCK);
        inside.scope(|scope| drop(scope.read_at(&*file, &mut frame, 5 * B)));
        frame
    });
    gate.wait_for(1);
    aio.shutdown(Duration::from_millis(5)).unwrap_err();
    drop(aio);
    assert!(worker.is_done().is_none());
    gate.release();
    assert!(worker.join().iter().all(|&byte| byte == 6));
}

/// Places in the queue of the device would stay empty while a batch filled up.
#[test]
fn a_batch_for_a_device_is_due_at_an_eighth_of_what_is_in_flight() {
    need_root!();
    let _watchdog = Watchdog::new("a batch for a device");
    let fs = need!(SlowFs::new());
    let (file, gate) = held_file(&fs);
    let aio = Aio::builder().depth(64).dispatch(Dispatch::Manual).build();
    let aio = aio.expect("a context");
    let mut reads = Vec::new();
    for number in 0..16 {
        let mut batch = aio.batch();
        reads.push(batch.push(read(&aio, &file, number % 8)));
        assert_eq!(batch.is_due(), (4..16).contains(&number), "{number}");
        assert!(batch.submit().is_empty());
    }
    let mut batch = aio.batch();
    reads.push(batch.push(read(&aio, &file, 0)));
    assert!(!batch.is_due());
    reads.push(batch.push(read(&aio, &file, 1)));
    assert!(batch.is_due());
    assert!(batch.submit().is_empty());
    gate.release();
    for pending in reads {
        assert_eq!(pending.wait().result.expect("read"), BLOCK);
    }
}
