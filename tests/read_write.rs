//! Reads, writes and syncs of real files: the bytes arrive where they belong, all four operations, every kind
//! of file and flag.
#![allow(
    unsafe_code,
    reason = "a buffer too large to be filled is passed to the kernel"
)]

mod common;
#[path = "common/huge.rs"]
mod huge;

use common::*;
use huge::Huge;
use kiocb::buf::{IoBuf, IoBufMut};
use kiocb::op::{Read, ReadV, Write, WriteV};
use kiocb::{AlignedBuf, Completion, DirectFile, IoPriority, Iocb, RwFlags};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::{Arc, mpsc};

fn read<F: AsFd + Send + 'static>(file: F, len: usize, offset: u64) -> io::Result<Vec<u8>> {
    let request = Iocb::alloc().init_rw(file, Read, Vec::with_capacity(len), offset);
    let done = request.wait()?;
    assert_eq!(done.result?, done.buf.len());
    Ok(done.buf)
}

fn write<F: AsFd + Send + 'static>(file: F, bytes: Vec<u8>, offset: u64) -> io::Result<usize> {
    Iocb::alloc()
        .init_rw(file, Write, bytes, offset)
        .wait()?
        .result
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn what_was_written_is_read_back() {
    let _watchdog = watchdog();
    for dir in places() {
        let file = Arc::new(new_file(&dir, "file"));
        let bytes = pattern(1, 100_000);
        assert_eq!(write(file.clone(), bytes.clone(), 0).unwrap(), 100_000);
        assert_eq!(content(&file), bytes);
        assert_eq!(read(file.clone(), 100_000, 0).unwrap(), bytes);
        assert_eq!(read(file, 1000, 12_345).unwrap(), bytes[12_345..13_345]);
    }
}

#[test]
fn a_callback_gets_the_bytes_the_buffer_and_the_file() {
    let _watchdog = watchdog();
    for dir in places() {
        let file = new_file(&dir, "file");
        let bytes = pattern(2, 5000);
        file.write_all_at(&bytes, 0).unwrap();
        let (send, receive) = mpsc::channel();
        let buf = vec![0; 4096];
        let address = buf.as_ptr().addr();
        Iocb::alloc()
            .init_rw(file, Read, buf, 904)
            .init_callback(move |done| send.send(done).unwrap())
            .submit()
            .unwrap();
        let Completion {
            result, buf, file, ..
        } = receive.recv().unwrap();
        assert_eq!(result.unwrap(), 4096);
        assert_eq!(buf, bytes[904..]);
        assert_eq!(buf.as_ptr().addr(), address, "the buffer was not copied");
        assert_eq!(content(&file), bytes);
    }
}

#[test]
fn several_buffers_are_filled_and_sent_in_order() {
    let _watchdog = watchdog();
    for dir in places() {
        let file = Arc::new(new_file(&dir, "file"));
        let bytes = pattern(3, 6000);
        let parts: [Vec<u8>; 3] = [&bytes[..1], &bytes[1..5000], &bytes[5000..]].map(Into::into);
        let wrote = Iocb::alloc()
            .init_rw(file.clone(), WriteV, parts, 777)
            .wait()
            .unwrap();
        assert_eq!(wrote.result.unwrap(), 6000);
        assert_eq!(content(&file)[777..], bytes);

        let bufs: Vec<Box<[u8]>> = [4000, 0, 1500, 1000].map(|len| vec![0; len].into()).into();
        let done = Iocb::alloc()
            .init_rw(file, ReadV, bufs, 777)
            .wait()
            .unwrap();
        assert_eq!(done.result.unwrap(), 6000, "the last one is not filled");
        assert_eq!(done.buf.concat()[..6000], bytes);
        assert!(done.buf[3][500..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn the_largest_number_of_buffers_works() {
    let _watchdog = watchdog();
    let bytes = pattern(4, 1024);
    let file = Arc::new(scratch());
    let bufs: Vec<[u8; 1]> = bytes.iter().map(|byte| [*byte]).collect();
    let wrote = Iocb::alloc().init_rw(file.clone(), WriteV, bufs, 0).wait();
    assert_eq!(wrote.unwrap().result.unwrap(), 1024);
    let bufs: Vec<Vec<u8>> = (0..1024).map(|_| Vec::with_capacity(1)).collect();
    let done = Iocb::alloc().init_rw(file, ReadV, bufs, 0).wait().unwrap();
    assert_eq!(done.result.unwrap(), 1024);
    assert_eq!(done.buf.concat(), bytes);
}

#[test]
fn offsets_beyond_four_gibibytes_reach_their_place() {
    let _watchdog = watchdog();
    let offset = (5 << 30) + 123;
    for dir in places() {
        let file = Arc::new(new_file(&dir, "sparse"));
        assert_eq!(write(file.clone(), b"far out".to_vec(), offset).unwrap(), 7);
        assert_eq!(file.metadata().unwrap().len(), offset + 7);
        assert_eq!(read(file, 100, offset - 2).unwrap(), b"\0\0far out");
    }
}

#[test]
fn a_read_at_the_end_is_short_and_beyond_it_empty() {
    let _watchdog = watchdog();
    for dir in places() {
        let file = Arc::new(new_file(&dir, "file"));
        file.write_all_at(b"0123456789", 0).unwrap();
        let request = Iocb::alloc().init_rw(file.clone(), Read, vec![b'x'; 8], 6);
        let done = request.wait().unwrap();
        assert_eq!((done.result.unwrap(), &done.buf[..]), (4, &b"6789xxxx"[..]));
        assert_eq!(read(file.clone(), 8, 10).unwrap(), b"");
        assert_eq!(read(file.clone(), 8, 1 << 40).unwrap(), b"");
        // What was short yesterday is longer when the file has grown.
        file.write_all_at(b"abc", 10).unwrap();
        assert_eq!(read(file, 8, 6).unwrap(), b"6789abc");
    }
}

#[test]
fn nothing_is_transferred_by_a_request_for_nothing() {
    let _watchdog = watchdog();
    for file in [Arc::new(file_of(b"bytes")), null()] {
        assert_eq!(read(file.clone(), 0, 0).unwrap(), b"");
        assert_eq!(write(file.clone(), Vec::new(), 3).unwrap(), 0);
        let none: Vec<Vec<u8>> = Vec::new();
        let done = Iocb::alloc().init_rw(file.clone(), ReadV, none, 0).wait();
        assert_eq!(done.unwrap().result.unwrap(), 0);
        let done = Iocb::alloc()
            .init_rw(file, WriteV, [[0_u8; 0]; 3], 0)
            .wait();
        assert_eq!(done.unwrap().result.unwrap(), 0);
    }
}

#[test]
fn a_read_makes_a_vector_longer_and_never_shorter() {
    let _watchdog = watchdog();
    let file = Arc::new(file_of(b"abc"));
    assert_eq!(read(file.clone(), 4096, 0).unwrap(), b"abc");
    let done = Iocb::alloc().init_rw(file, Read, vec![b'x'; 5], 0).wait();
    assert_eq!(done.unwrap().buf, b"abcxx");
}

#[test]
fn a_part_of_a_buffer_may_be_lent() {
    let _watchdog = watchdog();
    let file = Arc::new(file_of(b"0123456789"));
    let part = vec![b'.'; 8].buf_slice_mut(2..5);
    let done = Iocb::alloc().init_rw(file.clone(), Read, part, 0).wait();
    assert_eq!(done.unwrap().buf.into_inner(), b"..012...");
    let part = b"abcdefgh".buf_slice(3..5);
    let done = Iocb::alloc().init_rw(file.clone(), Write, part, 1).wait();
    assert_eq!(done.unwrap().result.unwrap(), 2);
    assert_eq!(content(&file), b"0de3456789");
}

#[test]
fn syncing_works_on_files_for_reading_and_on_directories() {
    let _watchdog = watchdog();
    for dir in places() {
        let file = new_file(&dir, "file");
        file.write_all_at(b"bytes", 0).unwrap();
        let done = Iocb::alloc().init_fsync(file).wait().unwrap();
        assert_eq!(done.result.unwrap(), 0);
        let done = Iocb::alloc().init_fdsync(done.file).wait().unwrap();
        assert_eq!(done.result.unwrap(), 0);
        let for_reading = File::open(dir.path().join("file")).unwrap();
        let done = Iocb::alloc().init_fsync(for_reading).wait().unwrap();
        assert_eq!(done.result.unwrap(), 0);
        let directory = File::open(dir.path()).unwrap();
        let done = Iocb::alloc().init_fsync(directory).wait().unwrap();
        assert_eq!(done.result.unwrap(), 0);
    }
}

#[test]
fn a_synced_callback_comes_after_the_sync() {
    let _watchdog = watchdog();
    let (send, receive) = mpsc::channel();
    Iocb::alloc()
        .init_fdsync(file_of(b"bytes"))
        .init_callback(move |done| send.send(done.result.unwrap()).unwrap())
        .submit()
        .unwrap();
    assert_eq!(receive.recv().unwrap(), 0);
}

#[test]
fn direct_files_are_written_and_read_in_parallel() {
    const BLOCK: usize = 64 * 1024;
    let _watchdog = watchdog();
    for dir in places() {
        let path = dir.path().join("direct");
        let opened = DirectFile::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        let file = match opened {
            Ok(file) => Arc::new(file),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
                skip(&format!("{error}"));
                continue;
            }
        };
        let (send, receive) = mpsc::channel();
        for block in 0..16_u64 {
            let mut buf = file.buffer(BLOCK);
            buf.copy_from_slice(&pattern(block, BLOCK));
            let send = send.clone();
            Iocb::alloc()
                .init_rw(file.clone(), Write, buf, block * BLOCK as u64)
                .init_callback(move |done| send.send(done.result).unwrap())
                .submit()
                .unwrap();
        }
        for _ in 0..16 {
            assert_eq!(receive.recv().unwrap().unwrap(), BLOCK);
        }
        let (send, receive) = mpsc::channel();
        for block in 0..16_u64 {
            let send = send.clone();
            Iocb::alloc()
                .init_rw(file.clone(), Read, file.buffer(BLOCK), block * BLOCK as u64)
                .init_callback(move |done| send.send((block, done.result, done.buf)).unwrap())
                .submit()
                .unwrap();
        }
        for _ in 0..16 {
            let (block, result, buf) = receive.recv().unwrap();
            assert_eq!(result.unwrap(), BLOCK);
            assert!(buf[..] == pattern(block, BLOCK), "block {block} is wrong");
        }
    }
}

#[test]
fn a_shared_file_is_closed_with_its_last_request() {
    let _watchdog = watchdog();
    let (reader, writer) = io::pipe().unwrap();
    let aio = aio();
    let busy = keep_busy(&aio);
    let writer = Arc::new(OwnedFd::from(writer));
    for byte in 0..4_u8 {
        aio.alloc()
            .init_rw(writer.clone(), Write, vec![byte], 0)
            .init_callback(|done| assert_eq!(done.result.unwrap(), 1))
            .submit()
            .unwrap();
    }
    drop(writer);
    busy.release();
    let mut bytes = Vec::new();
    // Ends only when nobody can write any more.
    (&reader).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [0, 1, 2, 3]);
    aio.drain().unwrap();
    assert_eq!(aio.stats().panics, 0);
}

#[test]
fn every_owner_of_a_descriptor_will_do() {
    let _watchdog = watchdog();
    assert_eq!(read(file_of(b"File"), 9, 0).unwrap(), b"File");
    assert_eq!(read(Arc::new(file_of(b"Arc")), 9, 0).unwrap(), b"Arc");
    let owned = OwnedFd::from(file_of(b"OwnedFd"));
    assert_eq!(read(owned, 9, 0).unwrap(), b"OwnedFd");
    assert_eq!(read(Box::new(file_of(b"Box")), 9, 0).unwrap(), b"Box");
    assert_eq!(write(io::stderr(), Vec::new(), 0).unwrap(), 0);
}

#[test]
fn every_kind_of_buffer_will_do() {
    let _watchdog = watchdog();
    let file = Arc::new(scratch());
    let check = |expected: &[u8], result: io::Result<usize>| {
        assert_eq!(result.unwrap(), expected.len());
        assert_eq!(content(&file), expected);
        file.set_len(0).unwrap();
    };
    macro_rules! write {
        ($($buf:expr => $bytes:expr),+ $(,)?) => {
            $(check($bytes, Iocb::alloc().init_rw(file.clone(), Write, $buf, 0).wait().unwrap().result);)+
        };
    }
    write! {
        b"vector".to_vec() => b"vector",
        Box::<[u8]>::from(*b"boxed slice") => b"boxed slice",
        *b"array" => b"array",
        Box::new(*b"boxed array") => b"boxed array",
        b"static bytes" as &'static [u8] => b"static bytes",
        "static text" => b"static text",
        String::from("string") => b"string",
        Arc::<[u8]>::from(*b"shared slice") => b"shared slice",
        Arc::new(b"shared vector".to_vec()) => b"shared vector",
        AlignedBuf::copy_of(b"aligned", 512) => b"aligned",
    }
    file.write_all_at(b"bytes", 0).unwrap();
    macro_rules! read {
        ($($buf:expr),+ $(,)?) => {
            $(assert_eq!(&Iocb::alloc().init_rw(file.clone(), Read, $buf, 0).wait().unwrap().buf[..5], b"bytes");)+
        };
    }
    read![
        vec![0; 5],
        vec![0; 7].into_boxed_slice(),
        [0; 6],
        Box::new([0; 5]),
        AlignedBuf::zeroed(4096)
    ];
}

#[test]
fn pipes_ignore_the_offset() {
    let _watchdog = watchdog();
    let (reader, writer) = io::pipe().unwrap();
    assert_eq!(write(OwnedFd::from(writer), vec![7; 3], 999).unwrap(), 3);
    assert_eq!(read(OwnedFd::from(reader), 10, 5).unwrap(), [7; 3]);
}

#[test]
fn o_append_and_the_flag_append_ignore_the_offset_of_a_write() {
    let _watchdog = watchdog();
    for dir in places() {
        let file = new_file(&dir, "file");
        file.write_all_at(b"0123", 0).unwrap();
        let appending = File::options()
            .append(true)
            .open(dir.path().join("file"))
            .unwrap();
        assert_eq!(write(appending, b"45".to_vec(), 0).unwrap(), 2);
        let request = Iocb::alloc().init_rw(file, Write, b"67".to_vec(), 0);
        let done = request.rw_flags(RwFlags::APPEND).wait().unwrap();
        assert_eq!(done.result.unwrap(), 2);
        assert_eq!(content(&done.file), b"01234567");
    }
}

#[test]
fn durable_writes_and_priorities_are_accepted() {
    let _watchdog = watchdog();
    let file = Arc::new(scratch());
    let request = Iocb::alloc().init_rw(file.clone(), Write, b"durable".to_vec(), 0);
    let request = request.rw_flags(RwFlags::DSYNC | RwFlags::HIPRI);
    let done = request.priority(IoPriority::best_effort(7)).wait().unwrap();
    assert_eq!(done.result.unwrap(), 7);
    assert_eq!(content(&file), b"durable");
}

#[test]
fn what_would_block_says_eagain_where_that_is_asked_for() {
    let _watchdog = watchdog();
    if !nowait_on_pipes() {
        return;
    }
    let (reader, _writer) = io::pipe().unwrap();
    let request = Iocb::alloc().init_rw(OwnedFd::from(reader), Read, vec![0; 1], 0);
    let done = request.rw_flags(RwFlags::NOWAIT).wait().unwrap();
    assert_eq!(done.result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

/// One eventfd by two descriptors.
fn eventfd_and_clone() -> (OwnedFd, OwnedFd) {
    // SAFETY: numbers only.
    let eventfd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    // SAFETY: a new descriptor that nobody else has.
    let eventfd: OwnedFd = unsafe { std::os::fd::FromRawFd::from_raw_fd(eventfd) };
    let clone = eventfd.try_clone().unwrap();
    (eventfd, clone)
}

#[test]
fn an_eventfd_is_raised_by_each_completion() {
    let _watchdog = watchdog();
    let eventfd = Arc::new(eventfd_and_clone().0);
    for _ in 0..3 {
        let request = Iocb::alloc().init_rw(file_of(b"bytes"), Read, [0; 5], 0);
        let done = request.eventfd(eventfd.clone()).wait().unwrap();
        assert_eq!(done.result.unwrap(), 5);
    }
    let mut count = [0; 8];
    File::from(eventfd.try_clone().unwrap())
        .read_exact(&mut count)
        .unwrap();
    assert_eq!(u64::from_ne_bytes(count), 3);
}

#[test]
fn an_eventfd_may_be_given_away_with_its_request() {
    let _watchdog = watchdog();
    let (mine, theirs) = eventfd_and_clone();
    let request = Iocb::alloc().init_rw(file_of(b"bytes"), Read, [0; 5], 0);
    let (count, ..) = request.eventfd(theirs).wait().unwrap().ok().unwrap();
    assert_eq!(count, 5);
    let mut raised = [0; 8];
    File::from(mine).read_exact(&mut raised).unwrap();
    assert_eq!(u64::from_ne_bytes(raised), 1);
}

#[test]
fn more_than_two_gibibytes_come_back_short() {
    let _watchdog = watchdog();
    let Some(huge) = Huge::new() else { return };
    let done = Iocb::alloc().init_rw(null(), Write, huge, 0).wait();
    assert_eq!(done.unwrap().result.unwrap(), 0x7fff_f000);
}

#[test]
fn many_operations_do_what_a_vector_does() {
    const LEN: usize = 64 * 1024;
    let _watchdog = watchdog();
    for (seed, dir) in places().iter().enumerate() {
        let mut random = Random(seed as u64);
        let file = Arc::new(new_file(dir, "file"));
        let mut expected = vec![0; LEN];
        file.set_len(LEN as u64).unwrap();
        for step in 0..600 {
            let (at, len) = (random.below(LEN), random.below(9000));
            let end = (at + len).min(LEN);
            match random.below(4) {
                0 => {
                    let bytes = pattern(step, end - at);
                    expected[at..end].copy_from_slice(&bytes);
                    assert_eq!(write(file.clone(), bytes, at as u64).unwrap(), end - at);
                }
                1 => {
                    let bytes = pattern(step, end - at);
                    expected[at..end].copy_from_slice(&bytes);
                    let pieces: Vec<Vec<u8>> = bytes.chunks(1 + len / 3).map(Into::into).collect();
                    let request = Iocb::alloc().init_rw(file.clone(), WriteV, pieces, at as u64);
                    assert_eq!(request.wait().unwrap().result.unwrap(), end - at);
                }
                2 => {
                    let bytes = read(file.clone(), len, at as u64).unwrap();
                    assert!(bytes == expected[at..end], "step {step}");
                }
                _ => {
                    let bufs: Vec<Vec<u8>> =
                        [len / 2, len - len / 2].map(Vec::with_capacity).into();
                    let request = Iocb::alloc().init_rw(file.clone(), ReadV, bufs, at as u64);
                    let done = request.wait().unwrap();
                    assert_eq!(done.result.unwrap(), end - at);
                    assert!(done.buf.concat() == expected[at..end], "step {step}");
                }
            }
        }
        assert_eq!(content(&file), expected);
    }
}

#[test]
fn files_that_are_no_files_answer_as_they_do_to_read_and_write() {
    let _watchdog = watchdog();
    let zeros = File::open("/dev/zero").unwrap();
    assert_eq!(read(zeros, 100, 1 << 50).unwrap(), [0; 100]);
    assert_eq!(write(null(), vec![1; 100], 5).unwrap(), 100);
    let non_blocking = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/null")
        .unwrap();
    assert_eq!(read(non_blocking, 10, 0).unwrap(), b"");
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    (&theirs).write_all(b"hello").unwrap();
    assert_eq!(read(ours, 100, 0).unwrap(), b"hello");
}
