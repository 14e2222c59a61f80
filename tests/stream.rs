//! What `kiocb::stream` promises: the same bytes at any length and in any pieces, the end where the stream
//! ends, the first error for ever, and nothing lost by a future that is dropped.

mod common;

use common::*;
use kiocb::op::Read as ReadOp;
use kiocb::stream::{StreamError, StreamOptions, StreamReader, StreamWriter};
use kiocb::{Aio, AioError, DirectFile, Dispatch};
use std::fs::{self, File};
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];
const SHAPES: [(usize, usize); 4] = [(1, 1), (1, 8192), (2, 4096), (8, 65_536)];
const LENGTHS: [usize; 7] = [0, 1, 4095, 4096, 4097, 65_536, 300_001];

fn of_kind(dispatch: Dispatch) -> Aio {
    build(Aio::builder().depth(16).dispatch(dispatch))
}

fn of_any_kind(random: &mut Random) -> Aio {
    let depth = 1 + u32::try_from(random.below(4)).unwrap(); // streams may queue
    let dispatch = KINDS[random.below(KINDS.len())];
    build(Aio::builder().depth(depth).dispatch(dispatch))
}

fn open(path: &Path) -> Arc<DirectFile> {
    let mut options = DirectFile::options();
    options.read(true).write(true).create(true);
    Arc::new(options.open_or_buffered(path).unwrap())
}

fn options((depth, block): (usize, usize)) -> StreamOptions {
    StreamOptions::new()
        .depth(depth)
        .block(block)
        .preallocate(1 << 20)
}

/// Runs a future; under `Dispatch::Manual` this thread polls the context meanwhile.
fn run<T>(aio: &Aio, future: impl Future<Output = T>) -> T {
    let (mut future, is_manual) = (pin!(future), aio.poll(0, 0, None).is_ok());
    if !is_manual {
        return block_on(future);
    }
    loop {
        let polled = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(output) = polled {
            return output;
        }
        aio.run_once(Some(Duration::from_millis(50))).unwrap();
    }
}

/// The stream's error inside.
#[track_caller]
fn inner(error: &io::Error) -> &StreamError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.unwrap_or_else(|| panic!("not of a stream: {error:?}"))
}

/// Pieces of lengths that fit nothing.
fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut random = Random(7);
    std::iter::from_fn(move || {
        let len = usize::try_from(random.next() % 9_000).unwrap() + 1;
        let (piece, rest) = bytes.split_at(len.min(bytes.len()));
        bytes = rest;
        Some(piece).filter(|piece| !piece.is_empty())
    })
}

fn write_in_pieces(aio: &Aio, path: &Path, shape: (usize, usize), bytes: &[u8]) {
    let mut writer = options(shape).writer(aio, open(path)).unwrap();
    for (number, piece) in pieces(bytes).enumerate() {
        writer.write_all(piece).unwrap();
        match number % 5 {
            2 => writer.flush().unwrap(),
            4 => writer.sync().unwrap(),
            _ => {}
        }
    }
    assert_eq!(writer.position(), bytes.len() as u64);
    writer.finish().unwrap();
}

fn read_in_pieces(aio: &Aio, path: &Path, shape: (usize, usize)) -> Vec<u8> {
    let mut reader = options(shape).reader(aio, open(path)).unwrap();
    let (mut random, mut bytes) = (Random(8), Vec::new());
    loop {
        let mut piece = vec![0; usize::try_from(random.next() % 9_000).unwrap() + 1];
        match reader.read(&mut piece).unwrap() {
            0 => return bytes,
            count => bytes.extend_from_slice(&piece[..count]),
        }
    }
}

#[test]
fn bytes_of_any_length_come_back_in_any_pieces() {
    let _watchdog = watchdog();
    for place in places() {
        let path = place.path().join("file");
        for (dispatch, shape) in KINDS
            .iter()
            .flat_map(|kind| SHAPES.map(|shape| (*kind, shape)))
        {
            let aio = of_kind(dispatch);
            for len in LENGTHS {
                let bytes = pattern(len as u64, len);
                write_in_pieces(&aio, &path, shape, &bytes);
                assert!(
                    fs::read(&path).unwrap() == bytes,
                    "{dispatch:?} {shape:?} {len}"
                );
                let got = read_in_pieces(&aio, &path, shape);
                assert!(got == bytes, "{dispatch:?} {shape:?} {len}");
            }
        }
    }
}

#[test]
fn bytes_come_back_in_async_code_without_a_runtime() {
    let _watchdog = watchdog();
    let place = disk_dir();
    let path = place.path().join("file");
    for dispatch in KINDS {
        let (aio, bytes) = (of_kind(dispatch), pattern(1, 300_001));
        let got = run(&aio, async {
            let mut writer = options((3, 8192)).writer(&aio, open(&path)).unwrap();
            for (number, piece) in pieces(&bytes).enumerate() {
                writer.write_all_async(piece).await.unwrap();
                if number % 5 == 3 {
                    writer.flush_async().await.unwrap();
                    writer.sync_async().await.unwrap();
                }
            }
            let file = writer.finish_async().await.unwrap();
            let mut reader = options((3, 8192)).reader(&aio, file).unwrap();
            let mut got = vec![0; 100];
            reader.read_exact_async(&mut got).await.unwrap();
            loop {
                match reader.fill_buf_async().await.unwrap() {
                    [] => break,
                    more => got.extend_from_slice(more),
                }
                reader.consume(usize::MAX);
            }
            let beyond = reader.read_exact_async(&mut [0; 1]).await.unwrap_err();
            assert_eq!(beyond.kind(), ErrorKind::UnexpectedEof);
            got
        });
        assert!(
            got == bytes && fs::read(&path).unwrap() == bytes,
            "{dispatch:?}"
        );
    }
}

/// Each future is polled once and dropped, over and over.
#[test]
fn futures_that_are_dropped_take_no_bytes_with_them() {
    let _watchdog = watchdog();
    let place = disk_dir();
    let path = place.path().join("file");
    let (aio, bytes) = (aio(), pattern(2, 100_003));
    let mut writer = options((2, 4096)).writer(&aio, open(&path)).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut written = 0;
    while written < bytes.len() {
        let end = bytes.len().min(written + 3_000);
        let polled = pin!(writer.write_async(&bytes[written..end])).poll(&mut context);
        if let Poll::Ready(count) = polled {
            written += count.unwrap();
        }
        if written % 7 == 0 {
            let _ = pin!(writer.flush_async()).poll(&mut context);
            let _ = pin!(writer.sync_async()).poll(&mut context);
        }
    }
    writer.finish().unwrap();
    assert!(fs::read(&path).unwrap() == bytes);

    let mut reader = options((2, 4096)).reader(&aio, open(&path)).unwrap();
    let mut got = Vec::new();
    while got.len() < bytes.len() {
        let mut piece = [0; 3_000];
        let polled = pin!(reader.read_async(&mut piece)).poll(&mut context);
        if let Poll::Ready(count) = polled {
            got.extend_from_slice(&piece[..count.unwrap()]);
        }
    }
    assert!(got == bytes);
}

/// A writer beside a vector that has what the file should have. Futures are polled once, and mostly dropped.
struct Beside {
    aio: Aio,
    writer: StreamWriter,
    expected: Vec<u8>,
    random: Random,
}

impl Beside {
    fn step(&mut self) {
        match self.random.roll(8) {
            0..=2 => self.write(),
            3 => self.skip(),
            4 => self.poll(),
            5 => self.writer.flush().unwrap(),
            6 => self.writer.sync().unwrap(),
            _ => _ = self.aio.poll(0, usize::MAX, None), // under `Dispatch::Manual`
        }
        assert_eq!(self.writer.position(), self.expected.len() as u64);
    }

    fn write(&mut self) {
        let bytes = pattern(self.random.next(), self.random.below(9_000));
        let mut context = Context::from_waker(Waker::noop());
        let count = match self.random.roll(3) {
            0 => Poll::Ready(self.writer.write(&bytes)),
            1 => Poll::Ready(self.writer.write_all(&bytes).map(|()| bytes.len())),
            _ => pin!(self.writer.write_async(&bytes)).poll(&mut context),
        };
        if let Poll::Ready(count) = count {
            self.expected.extend_from_slice(&bytes[..count.unwrap()]);
        }
    }

    fn skip(&mut self) {
        let bound = [10, 600, 20_000][self.random.below(3)];
        let bytes = self.random.below(bound);
        let mut context = Context::from_waker(Waker::noop());
        let skipped = pin!(self.writer.skip_async(bytes as u64)).poll(&mut context);
        if let Poll::Ready(done) = skipped {
            done.unwrap();
            self.expected.resize(self.expected.len() + bytes, 0);
        }
    }

    fn poll(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let _ = match self.random.roll(2) {
            0 => pin!(self.writer.flush_async()).poll(&mut context),
            _ => pin!(self.writer.sync_async()).poll(&mut context),
        };
    }

    /// Finishes, by a future or not.
    fn end(self) -> Vec<u8> {
        match self.expected.len() % 2 {
            0 => self.writer.finish().map(drop).unwrap(),
            _ => run(&self.aio, self.writer.finish_async())
                .map(drop)
                .unwrap(),
        }
        self.expected
    }
}

#[test]
fn whatever_is_written_skipped_and_dropped_the_file_is_as_expected() {
    let _watchdog = watchdog();
    for (place, seed) in places()
        .iter()
        .flat_map(|place| (0..30).map(move |seed| (place, seed)))
    {
        let path = place.path().join("file");
        let _ = fs::remove_file(&path);
        let mut random = Random(seed);
        let expected = pattern(seed, random.below(10_000));
        fs::write(&path, &expected).unwrap();
        let aio = of_any_kind(&mut random);
        let options = options(SHAPES[random.below(SHAPES.len())]).start(expected.len() as u64);
        let writer = options.writer(&aio, open(&path)).unwrap();
        let mut beside = Beside {
            aio,
            writer,
            expected,
            random,
        };
        (0..60).for_each(|_| beside.step());
        let expected = beside.end();
        assert!(fs::read(&path).unwrap() == expected, "seed {seed}");
    }
}

#[test]
fn whatever_becomes_of_a_file_its_reader_returns_bytes_of_it_in_order() {
    let _watchdog = watchdog();
    for (place, seed) in places()
        .iter()
        .flat_map(|place| (0..30).map(move |seed| (place, seed)))
    {
        let path = place.path().join("file");
        let (mut random, bytes) = (Random(seed), pattern(seed, 300_000));
        fs::write(&path, &bytes[..random.below(bytes.len())]).unwrap();
        let (aio, file) = (of_any_kind(&mut random), open(&path));
        let mut reader = options(SHAPES[random.below(SHAPES.len())])
            .reader(&aio, file.clone())
            .unwrap();
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..60 {
            let (at, mut buf) = (
                usize::try_from(reader.position()).unwrap(),
                vec![0; random.below(9_000)],
            );
            let len = random.below(bytes.len());
            let count = match random.roll(6) {
                0 => {
                    // Its bytes stay what they are; it only ends elsewhere.
                    let old = usize::try_from(file.len().unwrap()).unwrap();
                    file.file().set_len(len.min(old) as u64).unwrap();
                    let mut longer = File::options().append(true).open(&path).unwrap();
                    longer.write_all(&bytes[len.min(old)..len]).unwrap();
                    continue;
                }
                1 => {
                    let start = random.below(bytes.len()) as u64;
                    reader
                        .set_range(start..start + random.next() % 100_000)
                        .unwrap();
                    continue;
                }
                2 | 3 => reader.read(&mut buf).unwrap(),
                _ => match pin!(reader.read_async(&mut buf)).poll(&mut context) {
                    Poll::Ready(count) => count.unwrap(),
                    Poll::Pending => continue,
                },
            };
            assert!(buf[..count] == bytes[at..at + count], "seed {seed}");
            assert_eq!(reader.position(), (at + count) as u64);
        }
        // At its end, whatever was dropped or given up before.
        let (at, len) = (
            usize::try_from(reader.position()).unwrap(),
            usize::try_from(file.len().unwrap()).unwrap(),
        );
        reader.set_range(at as u64..u64::MAX).unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(rest == bytes[at.min(len)..len], "seed {seed}");
    }
}

#[test]
fn a_reader_goes_on_where_a_file_has_grown() {
    let _watchdog = watchdog();
    let place = disk_dir();
    let path = place.path().join("file");
    for (before, after) in [(10, 20), (4096, 4097), (5000, 20_000), (8192, 8192 * 3)] {
        let bytes = pattern(3, after);
        fs::write(&path, &bytes[..before]).unwrap();
        let mut reader = options((4, 4096)).reader(&aio(), open(&path)).unwrap();
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        assert!(got == bytes[..before], "{before}");
        fs::write(&path, &bytes).unwrap();
        reader.read_to_end(&mut got).unwrap();
        assert!(got == bytes, "{before} {after}");
    }
}

#[test]
fn a_file_that_becomes_shorter_ends_there() {
    let _watchdog = watchdog();
    let place = disk_dir();
    let path = place.path().join("file");
    let bytes = pattern(4, 1 << 20);
    fs::write(&path, &bytes).unwrap();
    let mut reader = options((1, 65_536)).reader(&aio(), open(&path)).unwrap();
    let mut got = vec![0; 65_536];
    reader.read_exact(&mut got).unwrap();
    let cut = File::options().write(true).open(&path).unwrap();
    cut.set_len(100_001).unwrap();
    reader.read_to_end(&mut got).unwrap();
    assert!(got == bytes[..100_001]);
    cut.set_len(10).unwrap();
    assert_eq!(reader.read(&mut [0; 9]).unwrap(), 0);
}

#[test]
fn a_range_is_read_and_nothing_beside_it() {
    let _watchdog = watchdog();
    let place = disk_dir();
    let path = place.path().join("file");
    let bytes = pattern(5, 200_000);
    fs::write(&path, &bytes).unwrap();
    for shape in SHAPES {
        let mut reader = options(shape).reader(&aio(), open(&path)).unwrap();
        for (start, end) in [
            (0, 10),
            (4095, 4097),
            (50_000, 199_999),
            (3, 3),
            (8192, 12_288),
        ] {
            reader.set_range(start as u64..end as u64).unwrap();
            let mut got = Vec::new();
            reader.read_to_end(&mut got).unwrap();
            assert!(got == bytes[start..end], "{shape:?} {start}");
            assert_eq!(reader.position(), end as u64);
        }
        reader.set_range(199_990..u64::MAX).unwrap();
        assert_eq!(reader.by_ref().bytes().count(), 10);
        reader.set_range(300_000..400_000).unwrap();
        assert_eq!(reader.bytes().count(), 0);
    }
}

/// What was read ahead for the last range, its end of the file included, is not taken for the next one's.
#[test]
fn a_range_that_begins_again_gives_all_bytes_again() {
    let _watchdog = watchdog();
    let place = disk_dir();
    let path = place.path().join("file");
    let bytes = pattern(15, 3 * 4096 + 10);
    fs::write(&path, &bytes).unwrap();
    let aio = aio();
    let mut reader = options((5, 4096)).reader(&aio, open(&path)).unwrap();
    for start in [0, 5000, 0, 12_288, 1] {
        reader.set_range(start as u64..u64::MAX).unwrap();
        assert_eq!(reader.read(&mut [0; 1]).unwrap(), 1);
        reader.set_range(start as u64..u64::MAX).unwrap();
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        assert!(got == bytes[start..], "{start}: {} bytes", got.len());
    }
    assert_eq!(aio.stats().in_flight, 0, "none is forgotten");
}

#[test]
fn what_is_skipped_is_a_hole_of_zeroes() {
    let _watchdog = watchdog();
    for place in places() {
        let path = place.path().join("file");
        for shape in SHAPES {
            let _ = fs::remove_file(&path);
            let mut writer = options(shape)
                .preallocate(0)
                .writer(&aio(), open(&path))
                .unwrap();
            let mut expected = Vec::new();
            for (bytes, hole) in [(10, 5), (1, 4080), (5000, 1 << 20), (0, 3), (4096, 10_000)] {
                writer.write_all(&pattern(6, bytes)).unwrap();
                writer.skip(hole).unwrap();
                expected.extend(pattern(6, bytes));
                expected.resize(expected.len() + usize::try_from(hole).unwrap(), 0);
            }
            writer.finish().unwrap();
            assert!(fs::read(&path).unwrap() == expected, "{shape:?}");
            let on_disk = fs::metadata(&path).unwrap().blocks() * 512;
            assert!(on_disk < 512 << 10, "{on_disk} bytes on the disk");
            assert!(
                read_in_pieces(&aio(), &path, shape) == expected,
                "{shape:?}"
            );
        }
    }
}

#[test]
fn a_skip_beyond_any_file_is_refused_and_does_not_stay() {
    let place = disk_dir();
    let path = place.path().join("file");
    let mut writer = StreamWriter::new(&aio(), open(&path)).unwrap();
    writer.write_all(b"abc").unwrap();
    for much in [u64::MAX, i64::MAX as u64] {
        assert_eq!(
            writer.skip(much).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
    writer.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"abc");
}

#[test]
fn a_writer_that_begins_inside_a_block_keeps_what_is_before() {
    let _watchdog = watchdog();
    for place in places() {
        let path = place.path().join("file");
        for start in [1, 511, 4095, 4097, 9_999, 12_288] {
            let old = pattern(7, 10_000);
            fs::write(&path, &old).unwrap();
            let begin = options((2, 4096)).start(start as u64);
            let mut writer = begin.writer(&aio(), open(&path)).unwrap();
            writer.write_all(b"new").unwrap();
            writer.flush().unwrap();
            writer.write_all(b"er").unwrap();
            writer.finish().unwrap();
            let mut expected = old[..start.min(old.len())].to_vec();
            expected.resize(start, 0);
            expected.extend_from_slice(b"newer");
            assert!(fs::read(&path).unwrap() == expected, "{start}");
        }
    }
}

#[test]
fn finish_ends_the_file_where_the_stream_does() {
    let place = disk_dir();
    let path = place.path().join("file");
    fs::write(&path, pattern(8, 100_000)).unwrap();
    let mut writer = StreamWriter::new(&aio(), open(&path)).unwrap();
    writer.write_all(b"short").unwrap();
    writer.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"short");
    let blocks = fs::metadata(&path).unwrap().blocks();
    assert!(
        blocks <= 64,
        "what was reserved is given back: {blocks} blocks"
    );
}

#[test]
fn what_is_flushed_is_in_the_file_for_any_reader() {
    let _watchdog = watchdog();
    for place in places() {
        let path = place.path().join("file");
        let (aio, bytes) = (aio(), pattern(9, 30_000));
        let mut writer = options((2, 8192)).writer(&aio, open(&path)).unwrap();
        let mut len = 0;
        for piece in pieces(&bytes).flat_map(|piece| piece.chunks(777)) {
            writer.write_all(piece).unwrap();
            writer.flush().unwrap();
            len += piece.len();
            assert!(fs::read(&path).unwrap()[..len] == bytes[..len], "{len}");
        }
        writer.finish().unwrap();
    }
}

/// A file whose writes beyond 4096 bytes fail with EPERM.
fn with_an_end() -> Arc<DirectFile> {
    let file = bounded();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    open(Path::new(&path))
}

#[test]
fn the_first_error_stays_with_kind_and_position() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of_kind(dispatch);
        let mut writer = options((2, 4096)).writer(&aio, with_an_end()).unwrap();
        let mut results = (0..20).map(|_| writer.write_all(&[7; 4096]));
        let first = results
            .find_map(Result::err)
            .expect("the fourth at the latest");
        assert_eq!(first.kind(), ErrorKind::PermissionDenied);
        assert_eq!(
            (inner(&first).position(), inner(&first).errno()),
            (4096, Some(libc::EPERM))
        );
        drop(results);
        let again = [
            writer.write(b"more").unwrap_err(),
            writer.flush().unwrap_err(),
            writer.sync().unwrap_err(),
            writer.skip(1).unwrap_err(),
            run(&aio, writer.flush_async()).unwrap_err(),
            run(&aio, writer.write_async(b"more")).unwrap_err(),
            writer.finish().unwrap_err(),
        ];
        for error in again {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            assert_eq!(inner(&error).position(), 4096);
        }
    }
}

/// The write that fails is behind the program: it has returned.
#[test]
fn an_error_behind_the_program_comes_from_flush_and_finish() {
    let _watchdog = watchdog();
    let writer = || {
        let mut writer = options((4, 4096)).writer(&aio(), with_an_end()).unwrap();
        writer.write_all(&[7; 5000]).unwrap();
        writer
    };
    let mut flushed = writer();
    let error = flushed.flush().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(inner(&error).position(), 4096);
    let text = error.to_string();
    assert!(text.starts_with("writing ") && text.ends_with(" bytes at offset 4096 failed"));
    let cause = std::error::Error::source(inner(&error)).unwrap();
    assert_eq!(cause.to_string(), "Operation not permitted (os error 1)");
    for error in [
        flushed.finish().unwrap_err(),
        writer().finish().unwrap_err(),
    ] {
        assert_eq!(inner(&error).position(), 4096);
    }
}

#[test]
fn a_file_that_is_not_open_for_it_is_ebadf() {
    let place = disk_dir();
    let path = place.path().join("file");
    fs::write(&path, "content").unwrap();
    let only = |read| {
        DirectFile::options()
            .read(read)
            .write(!read)
            .open_or_buffered(&path)
    };
    let mut reader = StreamReader::new(&aio(), only(false).unwrap()).unwrap();
    for _ in 0..2 {
        let error = reader.read(&mut [0; 9]).unwrap_err();
        assert_eq!(inner(&error).errno(), Some(libc::EBADF));
    }
    let inside = StreamOptions::new()
        .start(3)
        .writer(&aio(), only(false).unwrap());
    assert_eq!(inside.unwrap_err().raw_os_error(), Some(libc::EBADF));
    let mut writer = StreamWriter::new(&aio(), only(true).unwrap()).unwrap();
    writer.write_all(b"x").unwrap();
    assert_eq!(
        inner(&writer.finish().unwrap_err()).errno(),
        Some(libc::EBADF)
    );
    assert_eq!(fs::read(&path).unwrap(), b"content");
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let place = disk_dir();
    let file = open(&place.path().join("file"));
    for (depth, block) in [(0, 1), (1, 0), (1, usize::MAX), (usize::MAX, 1)] {
        let (reader, writer) = (options((depth, block)), options((depth, block)));
        assert!(
            reader.reader(&aio(), file.clone()).is_err(),
            "{depth} {block}"
        );
        assert!(
            writer.writer(&aio(), file.clone()).is_err(),
            "{depth} {block}"
        );
    }
}

#[test]
fn a_start_beyond_any_file_is_refused() {
    let place = disk_dir();
    let (aio, file) = (aio(), open(&place.path().join("file")));
    for start in [1 << 63, u64::MAX - 4095, u64::MAX] {
        let options = StreamOptions::new().start(start);
        let writer = options.writer(&aio, file.clone()).unwrap_err();
        let reader = options.reader(&aio, file.clone()).unwrap_err();
        let kinds = (writer.kind(), reader.kind());
        assert_eq!(kinds, (ErrorKind::InvalidInput, ErrorKind::InvalidInput));
    }
    // The last block that a file may have: the kernel refuses it.
    let mut reader = StreamReader::new(&aio, file.clone()).unwrap();
    let mut writer = StreamOptions::new()
        .start(i64::MAX.cast_unsigned() - 4095)
        .writer(&aio, file.clone())
        .unwrap();
    writer.write_all(&[7; 10_000]).unwrap();
    let error = writer.finish().unwrap_err();
    assert_eq!(inner(&error).position(), i64::MAX.cast_unsigned() - 4095);
    reader.set_range(u64::MAX - 4095..u64::MAX).unwrap();
    assert!(reader.read(&mut [0; 9]).is_err());
}

/// The kernel refuses the read only when it gets it: before, it waits for the slot of one that is not wanted any more.
#[test]
fn a_range_beyond_any_file_is_refused_where_its_read_queues() {
    let _watchdog = watchdog();
    let place = disk_dir();
    let path = place.path().join("file");
    let bytes = pattern(17, 10 * 4096);
    fs::write(&path, &bytes).unwrap();
    let aio = build(Aio::builder().depth(1).dispatch(Dispatch::Manual));
    let mut reader = options((4, 4096)).reader(&aio, open(&path)).unwrap();
    reader.fill_buf().unwrap();
    reader.set_range(u64::MAX - 10..u64::MAX).unwrap();
    let error = reader.fill_buf().unwrap_err();
    assert_eq!(inner(&error).errno(), Some(libc::EINVAL));
    assert_eq!(inner(&error).position(), u64::MAX - 10);
    reader.set_range(0..u64::MAX).unwrap();
    let mut got = Vec::new();
    reader.read_to_end(&mut got).unwrap();
    assert!(got == bytes);
}

/// Its writes would all go to the end of the file, the last block's zeroes included.
#[test]
fn a_file_that_is_open_for_appending_is_refused_to_a_writer() {
    let place = disk_dir();
    let path = place.path().join("file");
    fs::write(&path, "kept").unwrap();
    let mut options = File::options();
    let file = options.read(true).append(true).open(&path).unwrap();
    let Ok(file) = DirectFile::from_file(file) else {
        return skip("no direct I/O here");
    };
    let error = StreamWriter::new(&aio(), file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("O_APPEND"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"kept");
}

#[test]
fn after_a_shutdown_what_was_read_ahead_comes_and_then_the_reason() {
    let _watchdog = watchdog();
    let place = disk_dir();
    let path = place.path().join("file");
    let bytes = pattern(10, 100_000);
    fs::write(&path, &bytes).unwrap();
    for dispatch in KINDS {
        let aio = of_kind(dispatch);
        let mut reader = options((4, 4096)).reader(&aio, open(&path)).unwrap();
        let mut writer = options((4, 4096))
            .writer(&aio, open(&place.path().join("to")))
            .unwrap();
        reader.fill_buf().unwrap();
        writer.write_all(&bytes[..9_000]).unwrap();
        aio.shutdown(Duration::from_secs(60)).unwrap();
        let mut got = Vec::new();
        let error = reader.read_to_end(&mut got).unwrap_err();
        assert_eq!(inner(&error).aio_error(), Some(AioError::ShutDown));
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert!(got == bytes[..4 * 4096], "{} bytes", got.len());
        let error = writer.flush().unwrap_err();
        assert_eq!(inner(&error).aio_error(), Some(AioError::ShutDown));
        assert_eq!(inner(&error).position(), 8192);
        let error = run(&aio, writer.finish_async()).unwrap_err();
        assert_eq!(inner(&error).aio_error(), Some(AioError::ShutDown));
    }
}

#[test]
fn what_a_shutdown_refuses_comes_behind_what_is_in_the_file() {
    let _watchdog = watchdog();
    let place = disk_dir();
    let path = place.path().join("file");
    for _ in 0..20 {
        let (aio, bytes) = (aio(), pattern(16, 64 << 10));
        let mut writer = options((8, 4096)).writer(&aio, open(&path)).unwrap();
        let (error, bytes) = std::thread::scope(|scope| {
            let writes = scope.spawn(move || {
                let mut writes = (0..).map(|_| writer.write_all(&bytes));
                writes.find_map(Result::err).map(|error| (error, bytes))
            });
            std::thread::sleep(Duration::from_millis(2));
            aio.shutdown(Duration::from_secs(3600)).unwrap();
            writes.join().unwrap().unwrap()
        });
        assert_eq!(inner(&error).aio_error(), Some(AioError::ShutDown));
        let end = usize::try_from(inner(&error).position()).unwrap();
        let written = fs::read(&path).unwrap();
        let mut rounds = written[..end].chunks(bytes.len());
        assert!(rounds.all(|round| round == &bytes[..round.len()]));
    }
}

#[test]
fn streams_that_are_dropped_or_forgotten_leave_nothing_under_way() {
    let _watchdog = watchdog();
    let place = disk_dir();
    let path = place.path().join("file");
    let bytes = pattern(11, 100_000);
    fs::write(&path, &bytes).unwrap();
    for dispatch in KINDS {
        let aio = of_kind(dispatch);
        for forget in [false, true] {
            let to = place.path().join(format!("{forget}"));
            let mut reader = options((4, 4096)).reader(&aio, open(&path)).unwrap();
            let mut writer = options((4, 4096)).writer(&aio, open(&to)).unwrap();
            reader.fill_buf().unwrap();
            writer.write_all(&bytes[..9_000]).unwrap();
            match forget {
                true => std::mem::forget((reader, writer)),
                false => drop((reader, writer)),
            }
            aio.drain().unwrap();
            assert!(fs::read(&to).unwrap()[..8192] == bytes[..8192], "{forget}");
        }
    }
}

#[test]
fn streams_work_inside_a_callback() {
    let _watchdog = watchdog();
    let place = disk_dir();
    let path = place.path().join("file");
    for dispatch in KINDS {
        let (aio, bytes) = (of_kind(dispatch), pattern(12, 100_001));
        let (send, receive) = mpsc::channel();
        let (streams, at, expected) = (aio.clone(), path.clone(), bytes.clone());
        let request = aio.alloc().init_rw(null(), ReadOp, Vec::new(), 0);
        let callback = move |_| {
            write_in_pieces(&streams, &at, (3, 4096), &bytes);
            send.send(read_in_pieces(&streams, &at, (3, 4096))).unwrap();
        };
        request.init_callback(callback).submit().unwrap();
        aio.drain().unwrap();
        assert!(receive.recv().unwrap() == expected, "{dispatch:?}");
    }
}

#[test]
fn a_waker_that_panics_takes_nothing_from_a_stream() {
    let _watchdog = watchdog();
    let place = disk_dir();
    let path = place.path().join("file");
    let (aio, bytes) = (aio(), pattern(13, 100_001));
    fs::write(&path, &bytes).unwrap();
    let bomb = waker_that(|| panic!("on purpose"));
    let mut reader = options((2, 4096)).reader(&aio, open(&path)).unwrap();
    let mut got = Vec::new();
    while got.len() < bytes.len() {
        let polled = pin!(reader.fill_buf_async()).poll(&mut Context::from_waker(&bomb));
        let count = match polled {
            Poll::Ready(more) => {
                let more = more.unwrap();
                got.extend_from_slice(more);
                more.len()
            }
            Poll::Pending => 0,
        };
        reader.consume(count);
    }
    assert!(got == bytes);
    aio.drain().unwrap();
}

/// Reads, then asks twice at the same time; the file ends inside a block.
#[test]
fn two_streams_may_be_over_one_file_at_once() {
    let _watchdog = watchdog();
    let place = disk_dir();
    let path = place.path().join("file");
    let (aio, bytes) = (aio(), pattern(14, 1_000_001));
    fs::write(&path, &bytes).unwrap();
    let file = open(&path);
    std::thread::scope(|scope| {
        let read = || {
            let mut got = Vec::new();
            let mut reader = StreamReader::new(&aio, file.clone()).unwrap();
            reader.read_to_end(&mut got).unwrap();
            got
        };
        let threads = [scope.spawn(read), scope.spawn(read)];
        for thread in threads {
            assert!(thread.join().unwrap() == bytes);
        }
    });
}

#[test]
fn a_drop_without_finish_is_logged_once_and_only_where_it_loses() {
    alone(
        "a_drop_without_finish_is_logged_once_and_only_where_it_loses",
        || {
            let (aio, lines, place) = (aio(), logged(log::LevelFilter::Warn), disk_dir());
            let writer = |name| StreamWriter::new(&aio, open(&place.path().join(name))).unwrap();
            drop(writer("untouched"));
            let mut finished = writer("finished");
            finished.write_all(b"x").unwrap();
            finished.finish().unwrap();
            let mut told = options((2, 4096)).writer(&aio, with_an_end()).unwrap();
            told.write_all(&[7; 5000]).unwrap();
            told.flush().unwrap_err();
            drop(told);
            assert_eq!(lines.lock().unwrap()[..], [""; 0]);

            let mut lost = writer("lost");
            lost.write_all(b"hello").unwrap();
            drop(lost);
            let lines = lines.lock().unwrap();
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].starts_with("a StreamWriter was dropped at byte 5 without `finish`"));
            assert_eq!(fs::read(place.path().join("lost")).unwrap(), b"");
        },
    );
}

/// Where the file has no space for a step, the writes tell, and those that fit succeed. It is tried once, and not
/// for each block.
#[test]
fn space_that_cannot_be_reserved_is_said_once_and_no_error() {
    alone(
        "space_that_cannot_be_reserved_is_said_once_and_no_error",
        || {
            let (aio, lines, place) = (aio(), logged(log::LevelFilter::Debug), disk_dir());
            let path = place.path().join("file");
            let more_than_there_is = options((2, 4096)).preallocate(u64::MAX);
            let mut small = more_than_there_is.writer(&aio, open(&path)).unwrap();
            small
                .write_all(b"a file of less than a block needs no step")
                .unwrap();
            small.finish().unwrap();
            assert_eq!(lines.lock().unwrap()[..], [""; 0]);
            let mut writer = more_than_there_is.writer(&aio, open(&path)).unwrap();
            writer.write_all(&[7; 5 * 4096]).unwrap();
            writer.finish().unwrap();
            assert_eq!(fs::read(&path).unwrap(), [7; 5 * 4096]);
            let lines = lines.lock().unwrap();
            let said = |line: &&String| line.contains("reserves no space");
            assert_eq!(lines.iter().filter(said).count(), 1, "{lines:?}");
        },
    );
}
