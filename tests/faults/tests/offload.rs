//! `nowait_or_offload`: whoever submits is not blocked, whatever blocks the helper; and the data are right.

mod kit;

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use kiocb::op::{Read, Write};
use kiocb::{Aio, AlignedBuf, Dispatch, PollFlags, RwFlags};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{
    Mount, Op, SlowFs, Watchdog, is_asleep_in, need, need_root, wait_until_asleep_in,
};
use kit::*;

const ALL: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

fn of(dispatch: Dispatch) -> Aio {
    Aio::builder().depth(8).dispatch(dispatch).build().unwrap()
}

fn offloaded<B: Send + 'static>(
    aio: &Aio,
    file: OwnedFd,
    buf: B,
) -> kiocb::Iocb<kiocb::op::Rw<OwnedFd, Read, B>>
where
    Read: kiocb::op::Operation<B>,
{
    aio.alloc().init_rw(file, Read, buf, 0).nowait_or_offload()
}

/// The helper sits in `io_submit`, and is the only one there.
fn wait_until_helper_is_blocked() {
    wait_until("the helper is blocked", || {
        find_thread("kiocb-helper").is_some_and(|helper| is_asleep_in(helper, libc::SYS_io_submit))
    });
}

fn pipe() -> (OwnedFd, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader.into(), writer)
}

/// One after the other: the helper is looked for by its name. And then nobody else may be blocked.
#[test]
fn a_submitter_is_not_blocked_where_it_would_have_been() {
    need_root!();
    an_empty_pipe_blocks_the_helper();
    others_are_served_beside_a_blocked_helper();
    the_rest_of_a_transfer_blocks_the_helper_and_not_its_reaper();
}

fn an_empty_pipe_blocks_the_helper() {
    let _watchdog = Watchdog::new("offloaded read of an empty pipe");
    for dispatch in ALL {
        let (aio, (reader, mut writer)) = (of(dispatch), pipe());
        let pending = offloaded(&aio, reader, vec![0; 5]).start().unwrap();
        wait_until_helper_is_blocked();
        let pending = pending.wait_timeout(Duration::from_millis(2)).unwrap_err();
        assert_eq!(aio.stats().in_flight, 1);
        writer.write_all(b"bytes").unwrap();
        let done = pending.wait();
        assert_eq!((done.result.unwrap(), &done.buf[..]), (5, &b"bytes"[..]));
        let stats = aio.stats();
        assert_eq!((stats.accepted, stats.completed), (1, 1));
    }
}

fn others_are_served_beside_a_blocked_helper() {
    let _watchdog = Watchdog::new("beside a blocked helper");
    for dispatch in ALL {
        let (fs, aio) = (SlowFs::new().unwrap(), of(dispatch));
        let file = Arc::new(fs.file("f", blocks(4)));
        let (reader, writer) = pipe();
        let blocked = offloaded(&aio, reader, vec![0; 5]).start().unwrap();
        wait_until_helper_is_blocked();
        for block in 0..4 {
            verify(&read(&aio, &file, block).wait().unwrap(), block);
            let request = read(&aio, &file, block).nowait_or_offload();
            let request = request.start().unwrap();
            if request.is_complete() {
                verify(&request.wait(), block);
            } // else it waits for the helper, behind the pipe
        }
        drop(writer);
        assert_eq!(blocked.wait().result.unwrap(), 0);
        aio.drain().unwrap();
    }
}

fn the_rest_of_a_transfer_blocks_the_helper_and_not_its_reaper() {
    let _watchdog = Watchdog::new("offloaded rest");
    for dispatch in ALL {
        let (aio, (reader, mut writer)) = (of(dispatch), pipe());
        writer.write_all(b"part").unwrap();
        let request = offloaded(&aio, reader, vec![0; 8]).read_exact();
        let pending = request.start().unwrap();
        let pending = pending.wait_timeout(Duration::from_millis(2)).unwrap_err();
        wait_until_helper_is_blocked();
        verify_null(&aio);
        writer.write_all(b"re").unwrap();
        wait_until("it was read", || is_empty(&writer));
        let pending = pending.wait_timeout(Duration::from_millis(2)).unwrap_err();
        wait_until_helper_is_blocked();
        verify_null(&aio);
        writer.write_all(b"st").unwrap();
        let done = pending.wait();
        assert_eq!((done.result.unwrap(), &done.buf[..]), (8, &b"partrest"[..]));
    }
}

/// Whether somebody has read all that was written.
fn is_empty(pipe: &impl AsRawFd) -> bool {
    let mut left: libc::c_int = 0;
    // SAFETY: FIONREAD writes an int, which is ours.
    let failed = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut left) } != 0;
    assert!(!failed);
    left == 0
}

fn verify_null(aio: &Aio) {
    let null = File::options().write(true).open("/dev/null").unwrap();
    let write = aio.alloc().init_rw(null, Write, [0; 8], 0);
    assert_eq!(write.wait().unwrap().result.unwrap(), 8);
}

/// The kernel takes a file system's freeze lock before it looks at NOWAIT (6.18).
#[test]
fn a_frozen_file_system_blocks_the_submitter_all_the_same() {
    need_root!();
    let _watchdog = Watchdog::new("offloaded write to a frozen file system");
    for dispatch in ALL {
        let mount = need!(Mount::ext4(32 << 20));
        let file = Arc::new(mount.file("f", 4 * BLOCK, libc::O_DIRECT).unwrap());
        let aio = of(dispatch);
        let frozen = mount.freeze().unwrap();
        let request = write(&aio, &file, 1, 7).nowait_or_offload();
        let submitter = Worker::start(move || request.wait().unwrap().result.unwrap());
        wait_until_asleep_in(submitter.thread, libc::SYS_io_submit);
        verify_null(&aio);
        frozen.thaw();
        assert_eq!(submitter.join(), BLOCK);
        let contents = std::fs::read(mount.path().join("f")).unwrap();
        assert!(contents[BLOCK..2 * BLOCK].iter().all(|&byte| byte == 7));
    }
}

/// tmpfs does not know NOWAIT: EOPNOTSUPP from the submission, and then without.
#[test]
fn a_file_that_does_not_know_nowait_is_read_and_written_all_the_same() {
    need_root!();
    let _watchdog = Watchdog::new("offload on tmpfs");
    for dispatch in ALL {
        let (mount, aio) = (need!(Mount::tmpfs(1 << 20)), of(dispatch));
        let file = Arc::new(mount.open("f", 0).unwrap());
        let done = write(&aio, &file, 0, 7).nowait_or_offload().wait().unwrap();
        assert_eq!(done.result.unwrap(), BLOCK);
        let done = read(&aio, &file, 0).nowait_or_offload().wait().unwrap();
        assert!(done.result.unwrap() == BLOCK && done.buf.iter().all(|&byte| byte == 7));
        let (send, receive_one) = channel();
        read(&aio, &file, 0)
            .nowait_or_offload()
            .init_callback(move |done| send.send(done.buf[0]).unwrap())
            .submit()
            .unwrap();
        aio.drain().unwrap();
        assert_eq!(receive(&receive_one), 7);
        let stats = aio.stats();
        assert_eq!(
            (stats.accepted, stats.completed, stats.in_flight),
            (3, 3, 0)
        );
    }
}

/// ext4 allocates the block of a hole under a lock: EAGAIN as the result, and then without.
#[test]
fn a_write_into_a_hole_goes_through() {
    need_root!();
    let _watchdog = Watchdog::new("offload on ext4");
    for dispatch in ALL {
        let (mount, aio) = (need!(Mount::ext4(32 << 20)), of(dispatch));
        let file = Arc::new(mount.open("f", libc::O_DIRECT).unwrap());
        file.set_len(64 * B).unwrap();
        let plain = write(&aio, &file, 63, 1)
            .rw_flags(RwFlags::NOWAIT)
            .wait()
            .unwrap();
        assert_eq!(
            errno(&plain.result),
            Some(libc::EAGAIN),
            "the way is needed"
        );
        let pending: Vec<_> = (0..32)
            .map(|block| {
                let request = write(&aio, &file, block, block as u8 + 1);
                request.nowait_or_offload().start().unwrap()
            })
            .collect();
        for done in pending {
            assert_eq!(done.wait().result.unwrap(), BLOCK);
        }
        for block in 0..32 {
            verify(
                &read(&aio, &file, block).nowait_or_offload().wait().unwrap(),
                block,
            );
        }
    }
}

#[test]
fn what_does_not_block_needs_no_helper() {
    need_root!();
    let _watchdog = Watchdog::new("no helper");
    let (fs, aio) = (need!(SlowFs::new()), aio(8));
    let file = Arc::new(fs.file("f", blocks(1)));
    for _ in 0..20 {
        let request = read(&aio, &file, 0);
        match request.rw_flags(RwFlags::NOWAIT).wait() {
            Ok(done) => verify(&done, 0),
            // FUSE does not know the flag on this kernel.
            Err(refused) => assert_eq!(refused.error().raw_os_error(), Some(libc::EOPNOTSUPP)),
        }
        verify(&read(&aio, &file, 0).nowait_or_offload().wait().unwrap(), 0);
    }
    assert_eq!(fs.offsets(Op::Read).len() % 20, 0);
}

/// What is asked again without NOWAIT and still says EAGAIN, or EOPNOTSUPP for another reason, is answered.
#[test]
fn a_refusal_that_is_not_about_nowait_is_the_answer() {
    need_root!();
    let _watchdog = Watchdog::new("refused for another reason");
    for dispatch in ALL {
        let (fs, aio) = (need!(SlowFs::new()), of(dispatch));
        let file = Arc::new(fs.file("f", blocks(1)));
        fs.on(Op::Read).fail(libc::EAGAIN);
        let done = read(&aio, &file, 0).nowait_or_offload().wait().unwrap();
        assert_eq!(errno(&done.result), Some(libc::EAGAIN));

        let request = read(&aio, &file, 0)
            .rw_flags(RwFlags::ATOMIC)
            .nowait_or_offload();
        let errno = match request.wait() {
            Ok(done) => errno(&done.result),
            Err(refused) => refused.error().raw_os_error(),
        };
        assert_eq!(errno, Some(libc::EOPNOTSUPP));

        let nonblocking = std::os::unix::net::UnixStream::pair().unwrap();
        nonblocking.0.set_nonblocking(true).unwrap();
        let done = offloaded(&aio, nonblocking.0.into(), vec![0; 1])
            .wait()
            .unwrap();
        assert_eq!(kit::errno(&done.result), Some(libc::EAGAIN));
        aio.drain().unwrap();
    }
}

/// Neither takes flags.
#[test]
fn a_sync_or_a_poll_is_refused() {
    need_root!();
    let _watchdog = Watchdog::new("sync and poll");
    let (fs, aio) = (need!(SlowFs::new()), aio(8));
    let file = Arc::new(fs.file("f", blocks(1)));
    let sync = || {
        aio.alloc()
            .init_fsync(Arc::clone(&file))
            .nowait_or_offload()
    };
    let refused = sync().wait().unwrap_err();
    assert_eq!(refused.error().raw_os_error(), Some(libc::EINVAL));
    let refused = sync()
        .init_callback(|_| unreachable!())
        .submit()
        .unwrap_err();
    assert_eq!(refused.error().raw_os_error(), Some(libc::EINVAL));
    let (reader, mut writer) = pipe();
    writer.write_all(b"x").unwrap();
    let poll = aio
        .alloc()
        .init_poll(reader, PollFlags::IN)
        .nowait_or_offload();
    let refused = poll.wait().unwrap_err();
    assert_eq!(refused.error().raw_os_error(), Some(libc::EINVAL));
    assert_eq!(aio.stats().accepted, 0);
}

/// The helper may be overtaken; what does not need it keeps its order.
#[test]
fn neighbours_that_do_not_block_keep_their_order() {
    need_root!();
    let _watchdog = Watchdog::new("order of neighbours");
    for dispatch in ALL {
        let (fs, aio) = (need!(SlowFs::new()), of(dispatch));
        let file = Arc::new(fs.file("f", blocks(16)));
        let pending: Vec<_> = (0..16)
            .map(|block| {
                let request = read(&aio, &file, block);
                let odd = block % 2 == 1;
                if odd {
                    request.nowait_or_offload()
                } else {
                    request
                }
                .start()
                .unwrap()
            })
            .collect();
        for (done, block) in pending.into_iter().zip(0..) {
            verify(&done.wait(), block);
        }
        let even: Vec<u64> = fs
            .offsets(Op::Read)
            .into_iter()
            .filter(|at| (at / B).is_multiple_of(2))
            .collect();
        assert_eq!(
            even,
            (0..16)
                .step_by(2)
                .map(|block| block * B)
                .collect::<Vec<_>>()
        );
        let mut all = fs.offsets(Op::Read);
        all.sort_unstable();
        assert_eq!(
            all,
            (0..16).map(|block| block * B).collect::<Vec<_>>(),
            "each once"
        );
    }
}

#[test]
fn a_buffered_append_keeps_its_bytes_together() {
    need_root!();
    let _watchdog = Watchdog::new("append");
    for dispatch in ALL {
        let (mount, aio) = (need!(Mount::ext4(32 << 20)), of(dispatch));
        let file = Arc::new(mount.open("f", libc::O_APPEND).unwrap());
        for byte in 1..=20_u8 {
            let request = aio
                .alloc()
                .init_rw(Arc::clone(&file), Write, vec![byte; 1000], 0);
            let done = request.write_all().nowait_or_offload().wait().unwrap();
            assert_eq!(done.result.unwrap(), 1000);
        }
        let mut there = vec![0; 20_000];
        file.read_exact_at(&mut there, 0).unwrap();
        assert!(
            there
                .chunks(1000)
                .zip(1..)
                .all(|(part, byte)| part.iter().all(|&b| b == byte))
        );
        assert_eq!(file.metadata().unwrap().len(), 20_000, "each byte once");
    }
}

#[test]
fn a_dropped_handle_leaves_the_rest_to_the_helper() {
    need_root!();
    let _watchdog = Watchdog::new("dropped while offloaded");
    for dispatch in ALL {
        let (aio, (reader, writer)) = (of(dispatch), pipe());
        let (buf, alive) = Tracked::block();
        drop(offloaded(&aio, reader, buf).start().unwrap());
        let late = aio.drain_timeout(Duration::from_millis(2)).unwrap_err();
        assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
        assert!(!is_alone(&alive));
        drop(writer);
        aio.drain().unwrap();
        assert!(is_alone(&alive));
    }
}

#[test]
fn a_batch_of_many_that_would_block_is_done() {
    need_root!();
    let _watchdog = Watchdog::new("offloaded batch");
    for dispatch in ALL {
        let (mount, aio) = (need!(Mount::tmpfs(1 << 20)), of(dispatch));
        let file = Arc::new(mount.file("f", 64 * BLOCK, 0).unwrap());
        let mut batch = aio.batch();
        let writes: Vec<_> = (0..64)
            .map(|block| {
                let request = write(&aio, &file, block, block as u8 + 1);
                batch.push(request.nowait_or_offload())
            })
            .collect();
        assert!(batch.submit().is_empty());
        for done in writes {
            assert_eq!(done.wait().result.unwrap(), BLOCK);
        }
        for block in 0..64 {
            let buf = AlignedBuf::zeroed(BLOCK);
            let read = aio.alloc().init_rw(Arc::clone(&file), Read, buf, block * B);
            verify(&read.wait().unwrap(), block);
        }
    }
}
