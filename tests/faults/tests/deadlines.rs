//! Deadlines and ends while the kernel keeps requests for as long as the test wants: a file server that does
//! not answer, a file system that is frozen.

mod kit;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use kiocb::{Aio, Dispatch, PollFlags};
use kiocb_faults::{Child, Mount, SlowFs, Watchdog, need, need_root};
use kit::*;

const ALL: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];
const SHORT: Duration = Duration::from_millis(100);

fn context(depth: u32, dispatch: Dispatch) -> Aio {
    let builder = Aio::builder().depth(depth).dispatch(dispatch);
    builder.build().expect("a context")
}

#[test]
fn a_context_ends_though_its_requests_outlived_the_deadline() {
    need_root!();
    let name = "a_context_ends_though_its_requests_outlived_the_deadline";
    let exit = Child::of(name).run(|| {
        let _watchdog = Watchdog::new("late requests");
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(8)));
        for dispatch in ALL {
            let gate = fs.hold_reads(0..8 * B);
            let aio = context(2, dispatch);
            let (done, results) = channel();
            for number in 0..8 {
                read_to(&aio, &file, number, &done);
            }
            gate.wait_for(2);
            let late = aio.shutdown(SHORT).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            drop((aio, done));
            gate.release();
            receive_blocks(&results, 8);
            wait_until("the context is gone", || count_contexts() == 0);
        }
    });
    exit.success();
}

#[test]
fn a_context_dropped_in_a_callback_completes_what_is_held() {
    need_root!();
    let name = "a_context_dropped_in_a_callback_completes_what_is_held";
    let exit = Child::of(name).run(|| {
        let _watchdog = Watchdog::new("drop in a callback");
        let fs = need!(SlowFs::new());
        let file = Arc::new(fs.file("f", blocks(8)));
        for dispatch in ALL {
            let gate = fs.hold_reads(0..4 * B);
            let (other, outer) = (context(2, dispatch), aio(4));
            let ((done, results), (gone, was_dropped)) = (channel(), channel());
            for number in 0..4 {
                read_to(&other, &file, number, &done);
            }
            gate.wait_for(2);
            submit_in_a_callback(&outer, &file, 7, move |_, _| {
                drop(other);
                gone.send(()).unwrap();
            });
            receive(&was_dropped);
            drop(done);
            gate.release();
            receive_blocks(&results, 4);
            drop(outer);
            wait_until("both contexts are gone", || count_contexts() == 0);
        }
    });
    exit.success();
}

#[test]
fn deadlines_are_kept_while_a_queued_write_meets_a_frozen_disk() {
    need_root!();
    let _watchdog = Watchdog::new("frozen and queued");
    let mount = need!(Mount::ext4(32 << 20));
    let disk = Arc::new(
        mount
            .file("f", 8 * kiocb_faults::raw::BLOCK, libc::O_DIRECT)
            .unwrap(),
    );
    for dispatch in ALL {
        let aio = context(1, dispatch);
        let ((reader, mut writer), (done, written)) = (std::io::pipe().unwrap(), channel());
        let poll = aio
            .alloc()
            .init_poll(reader, PollFlags::IN)
            .start()
            .unwrap();
        let frozen = mount.freeze().unwrap();
        write(&aio, &disk, 1, 7)
            .init_callback(move |write| done.send(write.result.unwrap()).unwrap())
            .submit()
            .unwrap();
        let last = read(&aio, &disk, 1).start().unwrap();
        // Whoever takes this event has a slot for the write, which blocks in `io_submit`.
        std::io::Write::write_all(&mut writer, b"!").unwrap();
        let last = last
            .wait_timeout(SHORT)
            .expect_err("it is behind the write");
        assert_eq!(
            aio.drain_timeout(SHORT).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        if dispatch == Dispatch::Manual {
            let _ = aio.poll(1, usize::MAX, Some(SHORT)).unwrap();
        }
        assert_eq!(aio.shutdown(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
        frozen.thaw();
        let done = last.wait();
        assert_eq!(
            (done.result.unwrap(), done.buf[0]),
            (kiocb_faults::raw::BLOCK, 7)
        );
        drop(aio); // past its deadline: it ends in the background
        assert_eq!(receive(&written), kiocb_faults::raw::BLOCK);
        poll.wait().result.unwrap();
    }
}

#[test]
fn poll_counts_a_request_that_comes_in_parts_once() {
    need_root!();
    let _watchdog = Watchdog::new("parts");
    let fs = need!(SlowFs::new());
    let file = Arc::new(fs.file("f", blocks(4)));
    fs.on(kiocb_faults::Op::Read).times(1).short(512);
    let (aio, (done, results)) = (context(2, Dispatch::Manual), channel());
    read(&aio, &file, 2)
        .read_exact()
        .init_callback(move |read| done.send(read).unwrap())
        .submit()
        .unwrap();
    assert_eq!(aio.poll(1, usize::MAX, None).unwrap(), 1);
    verify(&results.try_recv().expect("it was called inside `poll`"), 2);
    assert!(fs.seen().len() >= 2);
}
