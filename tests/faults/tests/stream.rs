//! Streams on file systems that are slow, full or broken.

mod kit;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use kiocb::stream::{StreamError, StreamOptions, StreamReader, StreamWriter};
use kiocb::{Aio, DirectFile};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Mount, Op, SlowFs, Watchdog, need, need_root};
use kit::{aio, blocks};

const B: u64 = BLOCK as u64;

fn open(path: &Path) -> Arc<DirectFile> {
    let mut options = DirectFile::options();
    options.read(true).write(true).create(true);
    Arc::new(options.open_or_buffered(path).unwrap())
}

const FOUR_BLOCKS: StreamOptions = StreamOptions::new().depth(4).block(BLOCK).preallocate(0);

/// Writes the server's file.
fn writer(aio: &Aio, slow: &SlowFs) -> StreamWriter {
    let file = open(&slow.path().join("f"));
    FOUR_BLOCKS.writer(aio, file).unwrap()
}

fn reader(slow: &SlowFs) -> StreamReader {
    let file = open(&slow.path().join("f"));
    FOUR_BLOCKS.reader(&aio(8), file).unwrap()
}

fn position(error: &io::Error) -> u64 {
    inner(error).position()
}

fn errno(error: &io::Error) -> Option<i32> {
    inner(error).errno()
}

fn inner(error: &io::Error) -> &StreamError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.unwrap_or_else(|| panic!("{error:?}"))
}

/// Writes blocks until one fails, and returns the error and where it was.
fn write_until_it_fails(writer: &mut StreamWriter) -> io::Error {
    let mut writes = (0..10_000).map(|_| writer.write_all(&[7; BLOCK]));
    writes.find_map(Result::err).expect("there is an end")
}

fn fill_and_check(mount: &Mount) {
    let path = mount.path().join("f");
    let options = FOUR_BLOCKS.preallocate(1 << 20);
    let mut writer = options.writer(&aio(8), open(&path)).unwrap();
    let error = write_until_it_fails(&mut writer);
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error:?}");
    let end = usize::try_from(position(&error)).unwrap();
    for again in [writer.flush(), writer.sync(), writer.finish().map(drop)] {
        let again = again.unwrap_err();
        assert_eq!(
            (again.kind(), position(&again)),
            (ErrorKind::StorageFull, end as u64)
        );
    }
    assert!(
        fs::read(&path).unwrap()[..end]
            .iter()
            .all(|&byte| byte == 7)
    );
}

#[test]
fn a_full_file_system_is_enospc_at_its_place_and_stays() {
    need_root!();
    let _watchdog = Watchdog::new("streams to full file systems");
    fill_and_check(&need!(Mount::tmpfs(64 * B)));
    fill_and_check(&need!(Mount::ext4(16 << 20)));
}

#[test]
fn a_reader_has_its_blocks_in_flight_before_they_are_asked_for() {
    need_root!();
    let _watchdog = Watchdog::new("read-ahead");
    let slow = need!(SlowFs::new());
    drop(slow.file("f", blocks(10)));
    let mut reader = reader(&slow);
    let gate = slow.hold_reads(0..u64::MAX);
    let first = std::thread::spawn(move || (reader.read(&mut [0; 1]), reader));
    gate.wait_for(4); // would hang here if they came one by one
    gate.release();
    let (read, mut reader) = first.join().unwrap();
    assert_eq!(read.unwrap(), 1);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(rest == blocks(10)[1..]);
}

#[test]
fn a_writer_goes_on_while_its_blocks_are_in_flight() {
    need_root!();
    let _watchdog = Watchdog::new("write-behind");
    let slow = need!(SlowFs::new());
    drop(slow.file("f", Vec::new()));
    let mut writer = writer(&aio(8), &slow);
    let gate = slow.hold_writes(0..u64::MAX);
    // The server holds one write that makes the file longer at a time: these are within its length.
    writer.file().file().set_len(10 * B).unwrap();
    writer.write_all(&blocks(3)).unwrap(); // would hang here if it waited for them
    gate.wait_for(3);
    gate.release();
    writer.finish().unwrap();
    assert!(slow.contents("f") == blocks(3));
}

#[test]
fn a_read_that_fails_is_an_error_at_its_place_and_read_again() {
    need_root!();
    let _watchdog = Watchdog::new("a failing read");
    let slow = need!(SlowFs::new());
    drop(slow.file("f", blocks(10)));
    let mut reader = reader(&slow);
    slow.on(Op::Read).at(5 * B..6 * B).times(2).fail(libc::EIO);
    let mut got = Vec::new();
    for _ in 0..2 {
        let error = reader.read_to_end(&mut got).unwrap_err();
        assert_eq!(position(&error), 5 * B);
        assert!(got == blocks(5), "{} bytes", got.len());
    }
    reader.read_to_end(&mut got).unwrap();
    assert!(got == blocks(10));
}

/// The server gives one block, and then fails in the middle of the stream's block.
#[test]
fn what_came_before_a_read_failed_is_returned_before_its_error() {
    need_root!();
    let _watchdog = Watchdog::new("a read that fails in the middle");
    let slow = need!(SlowFs::new());
    drop(slow.file("f", blocks(10)));
    let mut reader = FOUR_BLOCKS
        .depth(1)
        .block(4 * BLOCK)
        .reader(&aio(8), open(&slow.path().join("f")))
        .unwrap();
    slow.on(Op::Read).at(B..2 * B).times(3).fail(libc::EIO);
    slow.on(Op::Read).at(0..B).times(1).short(BLOCK);
    let mut got = Vec::new();
    for _ in 0..2 {
        let error = reader.read_to_end(&mut got).unwrap_err();
        assert_eq!((errno(&error), position(&error)), (Some(libc::EIO), B));
        assert!(got == blocks(1), "{} bytes", got.len());
    }
    reader.read_to_end(&mut got).unwrap();
    assert!(got == blocks(10));
}

#[test]
fn short_reads_lose_nothing() {
    need_root!();
    let _watchdog = Watchdog::new("short reads");
    let slow = need!(SlowFs::new());
    drop(slow.file("f", Vec::new()));
    slow.on(Op::Read).at(B..9 * B).times(5).short(1000);
    let bytes = [blocks(10), vec![9; 77]].concat();
    let mut writer = writer(&aio(8), &slow);
    writer.write_all(&bytes).unwrap();
    let file = writer.finish().unwrap();
    assert!(slow.contents("f") == bytes);
    let mut got = Vec::new();
    FOUR_BLOCKS
        .reader(&aio(8), file)
        .unwrap()
        .read_to_end(&mut got)
        .unwrap();
    assert!(got == bytes, "{} bytes", got.len());
}

#[test]
fn the_error_of_one_block_stays_though_later_ones_are_written() {
    need_root!();
    let _watchdog = Watchdog::new("a failing write");
    let slow = need!(SlowFs::new());
    drop(slow.file("f", blocks(10)));
    slow.on(Op::Write).at(2 * B..3 * B).times(1).fail(libc::EIO);
    let mut writer = writer(&aio(8), &slow);
    let error = write_until_it_fails(&mut writer);
    assert_eq!(position(&error), 2 * B);
    for _ in 0..2 {
        assert_eq!(position(&writer.sync().unwrap_err()), 2 * B);
    }
    assert_eq!(position(&writer.finish().unwrap_err()), 2 * B);
}

/// A refusal is found at once, but blocks before the refused one are still in flight.
#[test]
fn a_write_that_fails_counts_before_a_later_one_that_is_refused() {
    need_root!();
    let _watchdog = Watchdog::new("a refusal behind a failing write");
    let slow = need!(SlowFs::new());
    drop(slow.file("f", blocks(10)));
    for poll in [false, true] {
        let aio = aio(8);
        let mut writer = writer(&aio, &slow);
        let gate = slow.hold_writes(0..u64::MAX);
        writer.write_all(&[7; 2 * BLOCK]).unwrap();
        gate.wait_for(2);
        assert!(aio.shutdown(Duration::ZERO).is_err(), "two are in flight");
        let writing = std::thread::spawn(move || {
            if poll {
                poll_and_drop(writer.write_async(&[7; BLOCK]));
                poll_and_drop(writer.flush_async());
            }
            let errors = [writer.write_all(&[7; 2 * BLOCK]), writer.flush()];
            (errors.map(Result::unwrap_err), writer.finish().unwrap_err())
        });
        gate.let_through(0);
        gate.fail(libc::EIO);
        let ([first, second], third) = writing.join().unwrap();
        for error in [first, second, third] {
            assert_eq!((errno(&error), position(&error)), (Some(libc::EIO), B));
        }
    }
}

#[test]
fn a_sync_that_fails_stays() {
    need_root!();
    let _watchdog = Watchdog::new("a failing sync");
    let slow = need!(SlowFs::new());
    drop(slow.file("f", Vec::new()));
    slow.on(Op::Sync).times(1).fail(libc::EIO);
    let mut writer = writer(&aio(8), &slow);
    writer.write_all(b"hello").unwrap();
    let error = writer.sync().unwrap_err();
    assert_eq!(error.to_string(), "syncing the first 5 bytes failed");
    assert_eq!(position(&writer.write(b"x").unwrap_err()), 5);
    assert_eq!(position(&writer.finish().unwrap_err()), 5);
}

/// The standard library tries again for ever what is `Interrupted`, and the error stays.
#[test]
fn a_sync_that_was_interrupted_does_not_ask_for_another_try() {
    need_root!();
    let _watchdog = Watchdog::new("an interrupted sync");
    let slow = need!(SlowFs::new());
    drop(slow.file("f", Vec::new()));
    slow.on(Op::Sync).times(1).fail(libc::EINTR);
    let mut writer = writer(&aio(8), &slow);
    writer.write_all(b"hello").unwrap();
    let error = writer.sync().unwrap_err();
    assert_eq!((error.kind(), position(&error)), (ErrorKind::Other, 5));
    let again = writer.write_all(b"x").unwrap_err(); // would try for ever
    assert_eq!(errno(&again), Some(libc::EINTR));
    assert_eq!(errno(&writer.finish().unwrap_err()), Some(libc::EINTR));
}

fn poll_and_drop<T>(future: impl Future<Output = T>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    pin!(future).poll(&mut context).is_ready()
}

/// Two writes of one block in flight would leave either one's bytes.
#[test]
fn a_tail_is_not_written_again_before_the_first_write_is_over() {
    need_root!();
    let _watchdog = Watchdog::new("a tail that is rewritten");
    let slow = need!(SlowFs::new());
    drop(slow.file("f", vec![0; BLOCK]));
    let aio: Aio = aio(8);
    let mut writer = writer(&aio, &slow);
    let gate = slow.hold_writes(0..u64::MAX);
    writer.write_all(b"hello, ").unwrap();
    assert!(!poll_and_drop(writer.flush_async()), "it is held");
    gate.wait_for(1);
    writer.write_all(b"world").unwrap();
    assert!(!poll_and_drop(writer.flush_async()), "it is held");
    assert_eq!((gate.held().len(), aio.stats().in_flight), (1, 1));
    gate.release();
    writer.finish().unwrap();
    assert_eq!(slow.contents("f"), b"hello, world");
}
