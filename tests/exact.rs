//! Transfers that go on until all is transferred: the right bytes in the right places, and clear errors where
//! there are no more.

#![allow(unsafe_code, reason = "a buffer that is larger than any transfer")]

mod common;
#[path = "common/huge.rs"]
mod huge;
#[path = "common/seccomp.rs"]
mod seccomp;

use common::*;
use huge::{HUGE, Huge};
use kiocb::op::{Read, ReadV, Write, WriteV};
use kiocb::{Aio, AlignedBuf, Dispatch, IoPriority, Iocb, PollFlags, RwFlags};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::resource::{Resource, setrlimit};
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

fn contexts() -> impl Iterator<Item = Aio> {
    KINDS
        .map(|dispatch| build(Aio::builder().dispatch(dispatch).depth(4)))
        .into_iter()
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// `bytes` in pieces of random lengths, some of them empty.
fn split(bytes: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let (mut rest, mut pieces) = (bytes, Vec::new());
    while !rest.is_empty() {
        let most = [0, 1, 7, 500, 5000][random.below(5)];
        let (piece, behind) = rest.split_at(random.below(most + 1).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = behind;
    }
    pieces
}

/// Buffers of the same lengths.
fn empties(pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
    pieces.iter().map(|piece| vec![0; piece.len()]).collect()
}

#[test]
fn what_comes_in_one_go_is_done_in_one() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let file = Arc::new(scratch());
        let bytes = pattern(1, 10_000);
        let write = aio
            .alloc()
            .init_rw(Arc::clone(&file), Write, bytes.clone(), 5);
        let done = write.write_all().wait().unwrap();
        assert_eq!((done.result.unwrap(), &done.buf), (10_000, &bytes));
        let read = aio
            .alloc()
            .init_rw(Arc::clone(&file), Read, vec![0; 10_000], 5);
        let done = read.read_exact().wait().unwrap();
        assert_eq!((done.result.unwrap(), done.buf), (10_000, bytes));
        assert_eq!(aio.stats().submits, 2);
    }
}

#[test]
fn a_callback_and_a_future_get_the_whole_too() {
    let _watchdog = watchdog();
    let (aio, bytes) = (aio(), pattern(2, 3000));
    let file = Arc::new(file_of(&bytes));
    let (send, receive) = mpsc::channel();
    let read = || {
        aio.alloc()
            .init_rw(Arc::clone(&file), Read, Vec::with_capacity(3000), 0)
    };
    read()
        .read_exact()
        .init_callback(move |done| send.send((done.result.unwrap(), done.buf)).unwrap())
        .submit()
        .unwrap();
    assert_eq!(receive.recv().unwrap(), (3000, bytes.clone()));
    let done = read().read_exact().start().unwrap().wait();
    assert_eq!((done.result.unwrap(), done.buf), (3000, bytes));
}

#[test]
fn a_file_that_ends_first_says_so_and_gives_what_there_was() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let file = Arc::new(file_of(b"0123456789"));
        for (offset, there) in [(0, &b"0123456789"[..]), (7, b"789"), (10, b""), (99, b"")] {
            let read = aio
                .alloc()
                .init_rw(Arc::clone(&file), Read, vec![0xEE; 64], offset);
            let done = read.read_exact().wait().unwrap();
            assert_eq!(done.result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
            assert_eq!(&done.buf[..there.len()], there);
            assert!(done.buf[there.len()..].iter().all(|&byte| byte == 0xEE));

            let pieces = vec![vec![0xEE; 4], vec![], vec![0xEE; 60]];
            let read = aio
                .alloc()
                .init_rw(Arc::clone(&file), ReadV, pieces, offset);
            let done = read.read_exact().wait().unwrap();
            assert_eq!(done.result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
            assert_eq!(&done.buf.concat()[..there.len()], there);
        }
    }
}

#[test]
fn a_file_that_grows_meanwhile_is_read_as_far_as_it_has_grown() {
    let _watchdog = watchdog();
    let (aio, bytes) = (aio(), pattern(3, 4096));
    for _ in 0..30 {
        let file = Arc::new(scratch());
        let writer = thread::spawn({
            let (file, bytes) = (Arc::clone(&file), bytes.clone());
            move || {
                for (at, part) in (0..).step_by(64).zip(bytes.chunks(64)) {
                    file.write_all_at(part, at).unwrap();
                }
            }
        });
        loop {
            let read = aio
                .alloc()
                .init_rw(Arc::clone(&file), Read, vec![0; 4096], 0);
            let done = read.read_exact().wait().unwrap();
            match done.result {
                Ok(count) => {
                    assert_eq!((count, &done.buf), (4096, &bytes));
                    break;
                }
                // It had come to the end: the rest was not there yet.
                Err(error) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof),
            }
        }
        writer.join().unwrap();
    }
}

#[test]
fn nothing_is_exact_at_once() {
    let _watchdog = watchdog();
    let (aio, file) = (aio(), Arc::new(file_of(b"bytes")));
    let done = aio
        .alloc()
        .init_rw(Arc::clone(&file), Read, Vec::new(), 99)
        .read_exact();
    assert_eq!(done.wait().unwrap().result.unwrap(), 0);
    let done = aio
        .alloc()
        .init_rw(Arc::clone(&file), Write, Vec::<u8>::new(), 0)
        .write_all();
    assert_eq!(done.wait().unwrap().result.unwrap(), 0);
    for pieces in [vec![], vec![vec![]], vec![vec![]; 5]] {
        let read = aio
            .alloc()
            .init_rw(Arc::clone(&file), ReadV, pieces.clone(), 0);
        assert_eq!(read.read_exact().wait().unwrap().result.unwrap(), 0);
        let write = aio.alloc().init_rw(Arc::clone(&file), WriteV, pieces, 0);
        assert_eq!(write.write_all().wait().unwrap().result.unwrap(), 0);
    }
    assert_eq!(content(&file), b"bytes");
}

/// A pipe gives what is there: each write of the other side is one transfer, at most.
#[test]
fn a_pipe_is_read_until_the_buffer_is_full() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let (reader, mut writer) = io::pipe().unwrap();
        let bytes = pattern(4, 20_000);
        let feeder = thread::spawn({
            let bytes = bytes.clone();
            move || {
                let mut random = Random(4);
                for piece in split(&bytes, &mut random) {
                    writer.write_all(&piece).unwrap();
                }
                writer
            }
        });
        let read = aio
            .alloc()
            .init_rw(OwnedFd::from(reader), Read, vec![0; 15_000], 0);
        let done = read.read_exact().wait().unwrap();
        assert_eq!(
            (done.result.unwrap(), &done.buf[..]),
            (15_000, &bytes[..15_000])
        );
        let read = aio.alloc().init_rw(done.file, Read, vec![0; 9000], 0);
        drop(feeder.join().unwrap());
        let done = read.read_exact().wait().unwrap();
        assert_eq!(done.result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(&done.buf[..5000], &bytes[15_000..]);
    }
}

#[test]
fn an_error_ends_it_although_a_part_was_transferred() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let (reader, mut writer) = io::pipe().unwrap();
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        writer.write_all(b"part").unwrap();
        let read = aio
            .alloc()
            .init_rw(OwnedFd::from(reader), Read, vec![0; 8], 0);
        let done = read.read_exact().wait().unwrap();
        assert_eq!(done.result.unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(&done.buf[..4], b"part");

        let (mut reader, writer) = io::pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let bytes = pattern(5, 200_000);
        let write = aio
            .alloc()
            .init_rw(OwnedFd::from(writer), Write, bytes.clone(), 0);
        let done = write.write_all().wait().unwrap();
        assert_eq!(done.result.unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(done.file);
        let mut arrived = Vec::new();
        reader.read_to_end(&mut arrived).unwrap();
        assert!(!arrived.is_empty() && bytes.starts_with(&arrived));
    }
}

#[test]
fn a_socket_transfers_all_in_both_directions() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let bytes = pattern(6, 1 << 20);
        let echo = thread::spawn(move || io::copy(&mut &theirs, &mut &theirs).unwrap());
        let ours = Arc::new(OwnedFd::from(ours));
        let writer = thread::spawn({
            let (aio, ours, bytes) = (aio.clone(), Arc::clone(&ours), bytes.clone());
            move || {
                aio.alloc()
                    .init_rw(ours, Write, bytes, 0)
                    .write_all()
                    .wait()
                    .unwrap()
            }
        });
        let read = aio
            .alloc()
            .init_rw(Arc::clone(&ours), Read, vec![0; 1 << 20], 0);
        let done = read.read_exact().wait().unwrap();
        assert_eq!(done.result.unwrap(), 1 << 20);
        assert!(done.buf == bytes);
        drop(done.file);
        assert_eq!(writer.join().unwrap().result.unwrap(), 1 << 20);
        drop(ours);
        echo.join().unwrap();
    }
}

/// The last read of a direct file ends where the file does, which is nowhere near a block; what would follow
/// can't be asked for.
#[test]
fn a_direct_file_that_ends_inside_a_block_says_so() {
    let _watchdog = watchdog();
    let dir = disk_dir();
    let bytes = pattern(7, 10_000);
    std::fs::write(dir.path().join("file"), &bytes).unwrap();
    let options = || {
        File::options()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .clone()
    };
    let file = match options().open(dir.path().join("file")) {
        Ok(file) => Arc::new(file),
        Err(error) => return skip(&format!("no direct I/O here: {error}")),
    };
    for aio in contexts() {
        for (offset, there) in [(0, 10_000), (4096, 5904), (8192, 1808), (12_288, 0)] {
            let buf = AlignedBuf::zeroed(16_384);
            let read = aio
                .alloc()
                .init_rw(Arc::clone(&file), Read, buf, offset as u64);
            let done = read.read_exact().wait().unwrap();
            assert_eq!(done.result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
            let tail = bytes.get(offset..).unwrap_or_default();
            assert_eq!((&done.buf[..there], there), (tail, tail.len()));

            let pieces: Vec<_> = (0..4).map(|_| AlignedBuf::zeroed(4096)).collect();
            let read = aio
                .alloc()
                .init_rw(Arc::clone(&file), ReadV, pieces, offset as u64);
            let done = read.read_exact().wait().unwrap();
            assert_eq!(done.result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
            let read: Vec<u8> = done
                .buf
                .iter()
                .flat_map(|piece| piece.iter().copied())
                .collect();
            assert_eq!(&read[..there], tail);
        }
    }
}

/// Where the file does not say what it wants, what is left of a read may begin where it is refused: at the
/// end.
#[test]
fn a_direct_file_that_says_nothing_ends_all_the_same() {
    let _watchdog = watchdog();
    let dir = disk_dir();
    let bytes = pattern(7, 10_000);
    std::fs::write(dir.path().join("file"), &bytes).unwrap();
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(dir.path().join("file"));
    let file = match file {
        Ok(file) => Arc::new(file),
        Err(error) => return skip(&format!("no direct I/O here: {error}")),
    };
    thread::scope(|scope| {
        let asker = scope.spawn(|| {
            seccomp::refuse(libc::SYS_statx, libc::EPERM);
            for aio in contexts() {
                let buf = AlignedBuf::zeroed(16_384);
                let read = aio.alloc().init_rw(Arc::clone(&file), Read, buf, 4096);
                let done = read.read_exact().wait().unwrap();
                assert_eq!(done.result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
                assert_eq!(done.buf[..5904], bytes[4096..]);
            }
        });
        asker.join().unwrap();
    });
}

/// 1024 pieces are what one call may have.
#[test]
fn more_pieces_than_the_kernel_takes_at_once_are_transferred() {
    let _watchdog = watchdog();
    let bytes = pattern(12, 10_000);
    let in_threes = || bytes.chunks(3).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let many_are_empty = || {
        let mut pieces = vec![vec![]; 2500];
        pieces.extend(in_threes());
        pieces.extend(vec![vec![]; 2500]);
        pieces
    };
    for aio in contexts() {
        for pieces in [in_threes(), many_are_empty()] {
            let file = Arc::new(scratch());
            let write = aio
                .alloc()
                .init_rw(Arc::clone(&file), WriteV, pieces.clone(), 7);
            assert_eq!(write.write_all().wait().unwrap().result.unwrap(), 10_000);
            assert_eq!(content(&file)[7..], bytes);
            let read = || {
                aio.alloc()
                    .init_rw(Arc::clone(&file), ReadV, empties(&pieces), 7)
            };
            let done = read().read_exact().wait().unwrap();
            assert_eq!(done.result.unwrap(), 10_000);
            assert!(done.buf == pieces);
            file.set_len(7 + 9000).unwrap();
            let done = read().read_exact().wait().unwrap();
            assert_eq!(done.result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
            assert_eq!(done.buf.concat()[..9000], bytes[..9000]);
            let refused = read().wait().unwrap_err();
            assert_eq!(refused.error().raw_os_error(), Some(libc::EINVAL));
        }
        let nothing = vec![vec![]; 5000];
        let write = aio.alloc().init_rw(scratch(), WriteV, nothing, 0);
        assert_eq!(write.write_all().wait().unwrap().result.unwrap(), 0);
    }
}

/// A refused one may be submitted again, and then its buffers lie elsewhere.
#[test]
fn many_pieces_that_were_refused_are_transferred_later() {
    let _watchdog = watchdog();
    let aio = aio();
    let bytes = pattern(13, 6000);
    let pieces: Vec<_> = bytes.chunks(3).map(<[u8]>::to_vec).collect();
    let (file, unknown) = (scratch(), RwFlags::from_bits_retain(1 << 30));
    let write = aio.alloc().init_rw(file, WriteV, pieces, 0).write_all();
    let refused = write.rw_flags(unknown).wait().unwrap_err();
    let again = refused.into_request().rw_flags(RwFlags::empty());
    let done = again.wait().unwrap();
    assert_eq!(done.result.unwrap(), 6000);
    assert_eq!(content(&done.file), bytes);
}

/// The write comes back short at the limit, and the rest is refused.
#[test]
fn a_file_that_may_not_grow_further_takes_a_part_and_then_says_why() {
    alone(
        "a_file_that_may_not_grow_further_takes_a_part_and_then_says_why",
        || {
            // SAFETY: SIG_IGN runs no code.
            unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
            setrlimit(Resource::RLIMIT_FSIZE, 10_000, 10_000).unwrap();
            let bytes = pattern(8, 20_000);
            for aio in contexts() {
                let file = Arc::new(scratch());
                let write = aio
                    .alloc()
                    .init_rw(Arc::clone(&file), Write, bytes.clone(), 0);
                let done = write.write_all().wait().unwrap();
                assert_eq!(done.result.unwrap_err().raw_os_error(), Some(libc::EFBIG));
                assert_eq!(content(&file), &bytes[..10_000]);

                let file = Arc::new(scratch());
                let pieces = split(&bytes, &mut Random(8));
                let write = aio.alloc().init_rw(Arc::clone(&file), WriteV, pieces, 0);
                let done = write.write_all().wait().unwrap();
                assert_eq!(done.result.unwrap_err().raw_os_error(), Some(libc::EFBIG));
                assert_eq!(content(&file), &bytes[..10_000]);
            }
        },
    );
}

#[test]
fn more_than_the_kernel_transfers_at_once_is_transferred() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let Some(huge) = Huge::new() else { return };
        let write = aio.alloc().init_rw(null(), Write, huge, 0).write_all();
        assert_eq!(write.wait().unwrap().result.unwrap(), HUGE);
        let Some(pieces) = [Huge::new(), Huge::new()]
            .into_iter()
            .collect::<Option<Vec<_>>>()
        else {
            return;
        };
        let write = aio.alloc().init_rw(null(), WriteV, pieces, 0).write_all();
        assert_eq!(write.wait().unwrap().result.unwrap(), 2 * HUGE);
    }
}

#[test]
fn appending_ignores_the_offset_and_appends_all() {
    let _watchdog = watchdog();
    for dir in places() {
        let file = new_file(&dir, "file");
        file.write_all_at(b"0123", 0).unwrap();
        let appending = File::options()
            .append(true)
            .open(dir.path().join("file"))
            .unwrap();
        let write = Iocb::alloc()
            .init_rw(appending, Write, *b"45", 0)
            .write_all();
        assert_eq!(write.wait().unwrap().result.unwrap(), 2);
        let write = Iocb::alloc().init_rw(file, WriteV, vec![*b"6", *b"7"], 0);
        let write = write.write_all().rw_flags(RwFlags::APPEND).wait().unwrap();
        assert_eq!(write.result.unwrap(), 2);
        assert_eq!(content(&write.file), b"01234567");
    }
}

#[test]
fn options_given_before_and_after_are_kept() {
    let _watchdog = watchdog();
    if !nowait_on_pipes() {
        return;
    }
    let (reader, _writer) = io::pipe().unwrap();
    let read = Iocb::alloc().init_rw(OwnedFd::from(reader), Read, vec![0; 8], 0);
    let done = read.rw_flags(RwFlags::NOWAIT).read_exact().wait().unwrap();
    assert_eq!(done.result.unwrap_err().kind(), ErrorKind::WouldBlock);
    let read = Iocb::alloc()
        .init_rw(done.file, Read, vec![0; 8], 0)
        .read_exact();
    let refused = read
        .priority(IoPriority::from_bits_retain(7 << 13))
        .wait()
        .unwrap_err();
    assert_eq!(refused.error().raw_os_error(), Some(libc::EINVAL));
    let (_file, buf) = refused.into_request().into_parts();
    assert_eq!(buf, [0; 8], "nothing is lost");
}

#[test]
fn a_refused_transfer_comes_back_whole() {
    let _watchdog = watchdog();
    let read_only = File::open("/dev/null").unwrap();
    let write = Iocb::alloc()
        .init_rw(read_only, Write, vec![1, 2, 3], 0)
        .write_all();
    let refused = write.wait().unwrap_err();
    assert_eq!(refused.error().raw_os_error(), Some(libc::EBADF));
    let (file, buf) = refused.into_request().into_parts();
    assert_eq!(buf, [1, 2, 3]);
    assert!(file.as_fd().try_clone_to_owned().is_ok());
}

#[test]
fn its_file_and_buffer_are_dropped_once_also_when_nobody_waits_any_more() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let fates = Fates::default();
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"bytes").unwrap();
        drop(writer);
        let file = fates.file(File::from(OwnedFd::from(reader)));
        let buf = fates.buffer(vec![0; 64]);
        drop(
            aio.alloc()
                .init_rw(file, Read, buf, 0)
                .read_exact()
                .start()
                .unwrap(),
        );
        aio.drain().unwrap();
        assert_eq!(fates.seen(), [1, 1, 0, 0]);
        let stats = aio.stats();
        assert_eq!((stats.accepted, stats.completed), (1, 1), "one request");
    }
}

/// Beside `std`'s own `read_exact`, which is as plain as it gets: 300 times the same bytes in other pieces,
/// through a socket that gives them in pieces of its own.
#[test]
fn three_hundred_random_splits_are_read_as_the_plain_way_reads_them() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(4));
    let mut random = Random(11);
    for case in 0..300 {
        let bytes = pattern(case, random.below(40_000));
        let sent = split(&bytes, &mut random);
        let asked = split(&bytes[..random.below(bytes.len() + 1)], &mut random);
        let (ours, theirs) = (trickle(sent.clone()), trickle(sent));
        let read = aio
            .alloc()
            .init_rw(OwnedFd::from(ours), ReadV, empties(&asked), 0);
        let done = read.read_exact().wait().unwrap();
        let mut plain = empties(&asked);
        plain
            .iter_mut()
            .for_each(|piece| (&theirs).read_exact(piece).unwrap());
        assert_eq!(done.result.unwrap(), plain.concat().len());
        assert!(done.buf == plain && plain == asked, "case {case}");
    }
}

/// A socket that these pieces come out of, each sent alone.
fn trickle(pieces: Vec<Vec<u8>>) -> UnixStream {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    thread::spawn(move || {
        // The reader goes when it has what it wants.
        pieces.iter().try_for_each(|piece| theirs.write_all(piece))
    });
    ours
}

#[test]
fn a_poll_says_when_to_go_on_after_eagain() {
    let _watchdog = watchdog();
    if !nowait_on_pipes() {
        return;
    }
    let aio = aio();
    let (reader, mut writer) = io::pipe().unwrap();
    let reader = Arc::new(OwnedFd::from(reader));
    let poll = aio
        .alloc()
        .init_poll(Arc::clone(&reader), PollFlags::IN)
        .start()
        .unwrap();
    writer.write_all(b"complete").unwrap();
    assert!(poll.wait().result.unwrap().contains(PollFlags::IN));
    let read = aio
        .alloc()
        .init_rw(reader, Read, [0; 8], 0)
        .rw_flags(RwFlags::NOWAIT);
    let done = read.read_exact().wait().unwrap();
    assert_eq!((done.result.unwrap(), &done.buf), (8, b"complete"));
}
