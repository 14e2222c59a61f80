//! Transfers that go on, over a file server that gives them in parts, says EINTR, fails in the middle or ends
//! early; on a full file system; and interrupted by signals.

mod kit;

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kiocb::op::{Read, ReadV, Write, WriteV};
use kiocb::{Aio, AioError, AlignedBuf, Dispatch, RwFlags};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Mount, Op, SlowFs, Watchdog, need, need_root, thread_id, wait_until_asleep_in};
use kit::*;

const ALL: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

fn of(dispatch: Dispatch) -> Aio {
    Aio::builder().depth(8).dispatch(dispatch).build().unwrap()
}

/// Bytes that say where they are.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 31 % 251) as u8).collect()
}

/// `whole` bytes in pieces, some of them empty.
fn pieces(random: &mut Random, whole: usize) -> Vec<usize> {
    let (mut left, mut pieces) = (whole, Vec::new());
    while left > 0 {
        let piece = random.below(5).min(1) * random.below(2000).min(left);
        pieces.push(piece);
        left -= piece;
    }
    pieces
}

/// Reads the whole of it.
fn read_all(aio: &Aio, file: &Arc<File>, count: usize) -> kiocb::Completion<Arc<File>, Vec<u8>> {
    let read = aio
        .alloc()
        .init_rw(Arc::clone(file), Read, vec![0; count], 0);
    read.read_exact().wait().unwrap()
}

#[test]
fn short_reads_are_put_together() {
    need_root!();
    let _watchdog = Watchdog::new("short reads");
    for dispatch in ALL {
        let (fs, aio) = (need!(SlowFs::new()), of(dispatch));
        let content = bytes(10_000);
        fs.file("f", content.clone());
        let file = Arc::new(fs.open("f", 0).unwrap());
        fs.on(Op::Read).short(1000);
        let done = read_all(&aio, &file, 10_000);
        assert_eq!(done.result.unwrap(), 10_000);
        assert!(done.buf == content);
        let offsets: Vec<u64> = (0..10_000).step_by(1000).collect();
        assert_eq!(fs.offsets(Op::Read), offsets);

        let lengths = [0, 1, 2999, 0, 500, 6000, 500];
        let pieces: Vec<Vec<u8>> = lengths.iter().map(|&length| vec![0; length]).collect();
        let read = aio.alloc().init_rw(Arc::clone(&file), ReadV, pieces, 0);
        let done = read.read_exact().wait().unwrap();
        assert_eq!(done.result.unwrap(), 10_000);
        assert!(done.buf.concat() == content);
        let stats = aio.stats();
        assert_eq!((stats.accepted, stats.completed), (2, 2), "two requests");
    }
}

/// The rest begins where the device can begin: what lies before that in its block is read once more.
#[test]
fn a_short_direct_read_goes_on_at_the_last_block() {
    need_root!();
    let _watchdog = Watchdog::new("short direct reads");
    let (fs, aio) = (need!(SlowFs::new()), aio(8));
    let file = Arc::new(fs.file("f", bytes(8 * BLOCK)));
    fs.on(Op::Read).times(1).short(BLOCK + 100);
    let read = aio
        .alloc()
        .init_rw(Arc::clone(&file), Read, AlignedBuf::zeroed(8 * BLOCK), 0);
    let done = read.read_exact().wait().unwrap();
    assert_eq!(done.result.unwrap(), 8 * BLOCK);
    assert!(*done.buf == *bytes(8 * BLOCK));
    assert_eq!(fs.offsets(Op::Read), [0, B]);

    fs.on(Op::Read).times(1).short(3 * BLOCK - 1);
    let pieces: Vec<_> = (0..8).map(|_| AlignedBuf::zeroed(BLOCK)).collect();
    let done = aio
        .alloc()
        .init_rw(file, ReadV, pieces, 0)
        .read_exact()
        .wait()
        .unwrap();
    assert_eq!(done.result.unwrap(), 8 * BLOCK);
    let read: Vec<u8> = done
        .buf
        .iter()
        .flat_map(|piece| piece.iter().copied())
        .collect();
    assert!(read == bytes(8 * BLOCK));
    assert_eq!(fs.offsets(Op::Read), [0, B, 0, 2 * B]);
}

/// Of reads, what makes writes append has no effect: what is left begins at a block.
#[test]
fn a_short_read_of_an_appending_file_goes_on_at_the_last_block() {
    need_root!();
    let _watchdog = Watchdog::new("appending files");
    let (fs, aio) = (need!(SlowFs::new()), aio(8));
    let content = bytes(4 * BLOCK);
    fs.file("f", content.clone());
    let file = Arc::new(fs.open("f", libc::O_DIRECT | libc::O_APPEND).unwrap());
    fs.on(Op::Read).times(1).short(BLOCK + 100);
    let buf = AlignedBuf::zeroed(4 * BLOCK);
    let read = aio.alloc().init_rw(file, Read, buf, 0);
    let read = read.rw_flags(RwFlags::APPEND).read_exact();
    let done = read.wait().unwrap();
    assert_eq!(done.result.unwrap(), 4 * BLOCK);
    assert!(*done.buf == *content);
    assert_eq!(fs.offsets(Op::Read), [0, B]);
}

/// Less at once than what the parts seem to be aligned to: it goes on from the very byte.
#[test]
fn parts_smaller_than_a_block_of_a_direct_file_add_up() {
    need_root!();
    let _watchdog = Watchdog::new("small direct parts");
    for dispatch in ALL {
        let (fs, aio) = (need!(SlowFs::new()), of(dispatch));
        let file = Arc::new(fs.file("f", bytes(2 * BLOCK)));
        fs.on(Op::Read).short(1000);
        let buf = AlignedBuf::zeroed(2 * BLOCK);
        let read = aio.alloc().init_rw(Arc::clone(&file), Read, buf, 0);
        let done = read.read_exact().wait().unwrap();
        assert_eq!(done.result.unwrap(), 2 * BLOCK);
        assert!(*done.buf == *bytes(2 * BLOCK));
    }
}

#[test]
fn borrowed_memory_is_filled_across_short_reads() {
    need_root!();
    let _watchdog = Watchdog::new("short reads into borrowed memory");
    for dispatch in ALL {
        let (fs, aio) = (need!(SlowFs::new()), of(dispatch));
        let content = bytes(10_000);
        fs.file("f", content.clone());
        let file = fs.open("f", 0).unwrap();
        fs.on(Op::Read).short(1000);
        let mut back = vec![0; 10_000];
        aio.read_exact_at(&file, &mut back, 0).unwrap();
        assert!(back == content);
        let mut halves = [vec![0; 5000], vec![0; 5000]];
        aio.scope(|s| {
            for (half, offset) in halves.iter_mut().zip([0, 5000]) {
                drop(s.read_exact_at(&file, half, offset));
            }
        });
        assert!(halves.concat() == content);
        assert_eq!(aio.stats().completed, 3);
        fs.on(Op::Read).at(5000..6000).fail(libc::EIO);
        let failed = aio.read_exact_at(&file, &mut back, 0);
        assert_eq!(errno(&failed.map(|()| 0)), Some(libc::EIO));
    }
}

#[test]
fn the_end_comes_when_the_server_gives_nothing_more() {
    need_root!();
    let _watchdog = Watchdog::new("early end");
    for dispatch in ALL {
        let (fs, aio) = (need!(SlowFs::new()), of(dispatch));
        fs.file("f", bytes(10_000));
        let file = Arc::new(fs.open("f", 0).unwrap());
        fs.on(Op::Read).at(3000..u64::MAX).short(0);
        fs.on(Op::Read).at(0..3000).short(3000);
        let done = read_all(&aio, &file, 10_000);
        assert_eq!(done.result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(done.buf[..3000], bytes(3000));
        assert_eq!(fs.offsets(Op::Read), [0, 3000]);
    }
}

#[test]
fn a_buffer_of_capacity_alone_says_how_far_a_failed_read_came() {
    need_root!();
    let _watchdog = Watchdog::new("length of a failed read");
    let (fs, aio) = (need!(SlowFs::new()), aio(8));
    fs.file("f", bytes(10_000));
    let file = Arc::new(fs.open("f", 0).unwrap());
    let read = || {
        let request = aio
            .alloc()
            .init_rw(Arc::clone(&file), Read, Vec::with_capacity(10_000), 0);
        request.read_exact().wait().unwrap()
    };
    fs.on(Op::Read).at(2000..u64::MAX).fail(libc::EIO);
    fs.on(Op::Read).at(0..2000).short(2000);
    let done = read();
    assert_eq!(errno(&done.result), Some(libc::EIO));
    assert_eq!(done.buf, bytes(2000));
    fs.forget_rules();
    fs.on(Op::Read).fail(libc::EIO);
    let done = read();
    assert_eq!((errno(&done.result), done.buf.len()), (Some(libc::EIO), 0));
}

#[test]
fn an_interrupted_transfer_is_repeated() {
    need_root!();
    let _watchdog = Watchdog::new("interrupted");
    for dispatch in ALL {
        let (fs, aio) = (need!(SlowFs::new()), of(dispatch));
        let file = Arc::new(fs.file("f", bytes(4 * BLOCK)));
        fs.on(Op::Read).times(2).fail(libc::EINTR);
        assert_eq!(read_all(&aio, &file, 4 * BLOCK).result.unwrap(), 4 * BLOCK);
        assert_eq!(fs.offsets(Op::Read), [0, 0, 0]);
        fs.on(Op::Write).times(1).fail(libc::EINTR);
        let write = aio
            .alloc()
            .init_rw(file, Write, AlignedBuf::from(&[9; BLOCK]), B);
        assert_eq!(write.write_all().wait().unwrap().result.unwrap(), BLOCK);
        assert_eq!(fs.offsets(Op::Write), [B, B]);
        assert!(
            fs.contents("f")[BLOCK..2 * BLOCK]
                .iter()
                .all(|&byte| byte == 9)
        );
    }
}

#[test]
fn without_that_an_interruption_is_the_users_to_see() {
    need_root!();
    let _watchdog = Watchdog::new("interruption seen");
    let (fs, aio) = (need!(SlowFs::new()), aio(8));
    let file = Arc::new(fs.file("f", blocks(1)));
    fs.on(Op::Read).times(1).fail(libc::EINTR);
    let done = read(&aio, &file, 0).wait().unwrap();
    assert_eq!(errno(&done.result), Some(libc::EINTR));
}

#[test]
fn a_server_that_dies_in_the_middle_ends_it() {
    need_root!();
    let _watchdog = Watchdog::new("dead server");
    for dispatch in ALL {
        let (fs, aio) = (need!(SlowFs::new()), of(dispatch));
        let file = Arc::new(fs.file("f", bytes(4 * BLOCK)));
        let gate = fs.hold_reads(0..u64::MAX);
        let read = aio
            .alloc()
            .init_rw(file, Read, AlignedBuf::zeroed(4 * BLOCK), 0);
        let pending = read.read_exact().start().unwrap();
        gate.wait_for(1);
        gate.cut_one(0, BLOCK);
        let pending = pending.wait_timeout(Duration::from_millis(5)).unwrap_err();
        gate.wait_for(1);
        fs.abort();
        assert_eq!(errno(&pending.wait().result), Some(libc::ECONNABORTED));
        assert_eq!(fs.offsets(Op::Read), [0, B]);
    }
}

/// Between two parts the request counts as one in flight, belongs to nobody else, and its owner may go.
#[test]
fn a_handle_dropped_between_two_parts_leaves_the_rest_to_the_engine() {
    need_root!();
    let _watchdog = Watchdog::new("dropped between parts");
    for dispatch in ALL {
        let (fs, aio) = (need!(SlowFs::new()), of(dispatch));
        let file = Arc::new(fs.file("f", bytes(BLOCK)));
        let gate = fs.hold_reads(0..u64::MAX);
        let (buf, alive) = Tracked::block();
        let read = aio.alloc().init_rw(Arc::clone(&file), Read, buf, 0);
        let pending = read.read_exact().start().unwrap();
        gate.wait_for(1);
        gate.cut_one(0, BLOCK / 2);
        let pending = pending.wait_timeout(Duration::from_millis(2)).unwrap_err();
        if dispatch == Dispatch::Manual {
            aio.poll(0, 8, None).unwrap();
        }
        gate.wait_for(1);
        drop(pending);
        assert!(!is_alone(&alive));
        let late = aio.drain_timeout(Duration::from_millis(2)).unwrap_err();
        assert_eq!(unavailable(&late), Some(AioError::TimedOut));
        let stats = aio.stats();
        assert_eq!(
            (stats.accepted, stats.completed, stats.in_flight),
            (1, 0, 1)
        );
        gate.release();
        aio.drain().unwrap();
        wait_until_let_go(&alive, &file, 1);
    }
}

#[test]
fn a_callback_comes_once_after_the_last_part() {
    need_root!();
    let _watchdog = Watchdog::new("callback after parts");
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
        let (fs, aio) = (need!(SlowFs::new()), of(dispatch));
        let content = bytes(6000);
        fs.file("f", content.clone());
        let file = Arc::new(fs.open("f", 0).unwrap());
        fs.on(Op::Read).short(700);
        let (send, receive_one) = std::sync::mpsc::channel();
        let read = aio
            .alloc()
            .init_rw(file, Read, vec![0; 6000], 0)
            .read_exact();
        let read = read.init_callback(move |done| {
            let _ = send.send((done.result.unwrap(), done.buf));
        });
        read.submit().unwrap();
        assert!(receive(&receive_one) == (6000, content));
        assert!(receive_one.recv().is_err(), "called once, and dropped");
    }
}

#[test]
fn a_full_file_system_takes_a_part_and_then_says_so() {
    need_root!();
    let _watchdog = Watchdog::new("full tmpfs");
    for dispatch in ALL {
        for appending in [false, true] {
            let (mount, aio) = (need!(Mount::tmpfs(64 << 10)), of(dispatch));
            let flags = if appending { libc::O_APPEND } else { 0 };
            let file = Arc::new(mount.open("f", flags).unwrap());
            file.write_all_at(b"begin", 0).unwrap();
            let content = bytes(100_000);
            let write = aio
                .alloc()
                .init_rw(Arc::clone(&file), Write, content.clone(), 5);
            let done = write.write_all().wait().unwrap();
            assert_eq!(errno(&done.result), Some(libc::ENOSPC));
            assert!(done.buf == content, "the buffer came back");
            let there = std::fs::read(mount.path().join("f")).unwrap();
            assert_eq!((&there[..5], there.len()), (&b"begin"[..], 64 << 10));
            assert!(there[5..] == content[..there.len() - 5], "each byte once");

            file.set_len(5).unwrap();
            let pieces: Vec<Vec<u8>> = content.chunks(9999).map(<[u8]>::to_vec).collect();
            let write = aio.alloc().init_rw(Arc::clone(&file), WriteV, pieces, 5);
            let done = write.rw_flags(RwFlags::empty()).write_all().wait().unwrap();
            assert_eq!(errno(&done.result), Some(libc::ENOSPC));
            let there = std::fs::read(mount.path().join("f")).unwrap();
            assert!(there[5..] == content[..there.len() - 5]);
        }
    }
}

/// A handler that does nothing: the signal interrupts what sleeps.
fn let_signals_interrupt() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: an all-zero `sigaction` is an empty mask and no flags: no SA_RESTART.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as *const () as usize;
    // SAFETY: the handler does nothing, so it may run at any moment.
    unsafe { libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut()) };
}

fn interrupt(thread: i32) {
    let process = std::process::id();
    // SAFETY: numbers only. A thread that has ended is ESRCH.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR2) };
}

/// A pipe takes what fits, and a signal ends the wait for more: the write comes back short, or with EINTR
/// when nothing fitted.
#[test]
fn signals_cut_transfers_and_they_go_on() {
    let _watchdog = Watchdog::new("signals");
    let_signals_interrupt();
    for dispatch in ALL {
        let aio = of(dispatch);
        let (mut reader, writer) = std::io::pipe().unwrap();
        let content = bytes(300_000);
        let write = aio
            .alloc()
            .init_rw(OwnedFd::from(writer), Write, content.clone(), 0);
        let submitter = Worker::start(move || write.write_all().wait().unwrap().result.unwrap());
        let mut there = Vec::new();
        for _ in 0..3 {
            wait_until_asleep_in(submitter.thread, libc::SYS_io_submit);
            interrupt(submitter.thread); // short
            wait_until_asleep_in(submitter.thread, libc::SYS_io_submit);
            interrupt(submitter.thread); // nothing fits: EINTR
            wait_until_asleep_in(submitter.thread, libc::SYS_io_submit);
            let mut part = [0; 65_536];
            reader.read_exact(&mut part).unwrap();
            there.extend_from_slice(&part);
        }
        reader.read_to_end(&mut there).unwrap();
        assert_eq!(submitter.join(), 300_000);
        assert!(there == content, "each byte once, in order");
        assert!(aio.stats().submits >= 4);
    }
}

/// Beside the plain way (all bytes in one row): 300 random splits, cut by signals at random moments.
#[test]
fn three_hundred_random_splits_are_written_whole_under_signals() {
    let _watchdog = Watchdog::new("random writes");
    let_signals_interrupt();
    let aio = aio(4);
    let over = Arc::new(AtomicBool::new(false));
    let writer_thread = thread_id();
    let disturber = Worker::start({
        let over = Arc::clone(&over);
        move || {
            while !over.load(Ordering::Relaxed) {
                interrupt(writer_thread);
                std::thread::yield_now();
            }
        }
    });
    let mut random = Random(5);
    for case in 0..300 {
        let content = bytes(1 + random.below(150_000));
        let mut rest = &content[..];
        let lengths = pieces(&mut random, content.len()).into_iter();
        let pieces: Vec<_> = lengths
            .map(|length| rest.split_off(..length).unwrap().to_vec())
            .collect();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let theirs = Worker::start(move || {
            let mut there = Vec::new();
            reader.read_to_end(&mut there).map(|_| there).unwrap()
        });
        let write = aio
            .alloc()
            .init_rw(OwnedFd::from(writer), WriteV, pieces, 0);
        let done = write.write_all().wait().unwrap();
        assert_eq!(done.result.unwrap(), content.len());
        drop(done.file);
        assert!(theirs.join() == content, "case {case}");
    }
    over.store(true, Ordering::Relaxed);
    disturber.join();
}

/// The same for reads at offsets: the server cuts each request somewhere else, and the bytes say where they
/// belong.
#[test]
fn three_hundred_random_splits_are_read_from_their_offsets() {
    need_root!();
    let _watchdog = Watchdog::new("random reads");
    let (fs, aio) = (need!(SlowFs::new()), aio(4));
    let content = bytes(100_000);
    fs.file("f", content.clone());
    let file = Arc::new(fs.open("f", 0).unwrap());
    let mut random = Random(6);
    for case in 0..300 {
        fs.forget_rules();
        for _ in 0..random.below(6) {
            let at = random.below(100_000) as u64;
            let short = 1 + random.below(5000);
            fs.on(Op::Read)
                .at(at..at + 20_000)
                .times(1 + random.below(5))
                .short(short);
        }
        let offset = random.below(90_000);
        let whole = random.below(100_000 - offset).min(40_000);
        let pieces: Vec<_> = pieces(&mut random, whole)
            .into_iter()
            .map(|n| vec![0; n])
            .collect();
        let read = aio
            .alloc()
            .init_rw(Arc::clone(&file), ReadV, pieces, offset as u64);
        let done = read.read_exact().wait().unwrap();
        assert_eq!(done.result.unwrap(), whole);
        assert!(
            done.buf.concat() == content[offset..offset + whole],
            "case {case}"
        );
    }
}

/// W1 sleeps in the kernel for its own event, W2 relies on it. W1 takes the short answer of a stranger's
/// read, and submitting the rest blocks it: W2 must take over.
#[test]
fn the_rest_of_a_transfer_that_blocks_its_reaper_holds_up_no_waiter() {
    need_root!();
    let _watchdog = Watchdog::new("rest that blocks");
    for dispatch in ALL {
        let (fs, aio) = (need!(SlowFs::new()), of(dispatch));
        let file = Arc::new(fs.file("f", blocks(3)));
        let [first, second, third] =
            [0, 1, 2].map(|block| fs.hold_reads(block * B..(block + 1) * B));
        let waiter = |block| {
            let request = read(&aio, &file, block);
            Worker::start(move || verify(&request.wait().unwrap(), block))
        };
        let one = waiter(0);
        first.wait_for(1);
        one.wait_until_leading();
        let two = waiter(1);
        second.wait_for(1);
        two.wait_until_parked();
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"part").unwrap();
        let request = aio
            .alloc()
            .init_rw(OwnedFd::from(reader), Read, vec![0; 8], 0);
        let (send, whole) = std::sync::mpsc::channel();
        let request = request
            .read_exact()
            .init_callback(move |done| drop(send.send(done.buf)));
        let submitter = Worker::start(move || request.submit().unwrap());
        // Whoever took the answer sits in io_submit now; the others go on.
        wait_until("somebody is blocked", || {
            let blocked = |thread| kiocb_faults::is_asleep_in(thread, libc::SYS_io_submit);
            blocked(one.thread)
                || blocked(two.thread)
                || blocked(submitter.thread)
                || find_blocked("kiocb")
        });
        second.release();
        two.join();
        third.release();
        let request = read(&aio, &file, 2);
        verify(&Worker::start(move || request.wait().unwrap()).join(), 2);
        writer.write_all(b"rest").unwrap();
        first.release();
        one.join();
        submitter.join();
        if dispatch == Dispatch::Manual {
            wait_until("it is called back", || {
                aio.poll(0, 8, None).unwrap();
                aio.stats().in_flight == 0
            });
        }
        assert_eq!(receive(&whole), b"partrest");
    }
}

fn find_blocked(name: &str) -> bool {
    find_thread(name).is_some_and(|thread| kiocb_faults::is_asleep_in(thread, libc::SYS_io_submit))
}
