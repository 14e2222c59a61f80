//! Streams as the readers and writers of `futures-io` and of `tokio`. The traits are used directly, so that no
//! crate of combinators is needed.

mod common;

use common::*;
use kiocb::stream::{StreamOptions, StreamReader, StreamWriter};
use kiocb::{Aio, DirectFile};
use std::fs;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

fn file(path: &Path) -> DirectFile {
    let mut options = DirectFile::options();
    options.read(true).write(true).create(true);
    options.open_or_buffered(path).unwrap()
}

fn streams(aio: &Aio, path: &Path) -> (StreamWriter, StreamReader) {
    let options = StreamOptions::new().depth(2).block(4096);
    let writer = options.writer(aio, file(path)).unwrap();
    (writer, options.reader(aio, file(path)).unwrap())
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let place = disk_dir();
    let path = place.path().join("file");
    (place, path)
}

/// Writes all of it by whatever `write` is.
async fn write_all<W: Unpin>(
    writer: &mut W,
    mut bytes: &[u8],
    write: impl Fn(Pin<&mut W>, &mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
) {
    while !bytes.is_empty() {
        let count = poll_fn(|context| write(Pin::new(&mut *writer), context, bytes)).await;
        bytes = &bytes[count.unwrap()..];
    }
}

type Call = fn(Pin<&mut StreamWriter>, &mut Context<'_>) -> Poll<io::Result<()>>;

/// Flushes, and closes twice.
async fn end(writer: &mut StreamWriter, flush: Call, close: Call) {
    for call in [flush, close, close] {
        let called = poll_fn(|context| call(Pin::new(&mut *writer), context));
        called.await.unwrap();
    }
}

type Fill = for<'a> fn(Pin<&'a mut StreamReader>, &mut Context<'_>) -> Poll<io::Result<&'a [u8]>>;

/// Reads to the end.
async fn read_all(
    reader: &mut StreamReader,
    fill: Fill,
    consume: fn(Pin<&mut StreamReader>, usize),
) -> Vec<u8> {
    let mut got = Vec::new();
    loop {
        let more = poll_fn(|context| {
            let more = fill(Pin::new(&mut *reader), context);
            more.map_ok(<[u8]>::to_vec)
        });
        let more = more.await.unwrap();
        if more.is_empty() {
            return got;
        }
        consume(Pin::new(reader), more.len());
        got.extend(more);
    }
}

#[test]
fn bytes_come_back_by_the_traits_of_futures_io() {
    use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};
    let _watchdog = watchdog();
    let ((_place, path), bytes) = (place(), pattern(1, 100_001));
    let (mut writer, mut reader) = streams(&aio(), &path);
    block_on(async {
        write_all(&mut writer, &bytes, AsyncWrite::poll_write).await;
        end(&mut writer, AsyncWrite::poll_flush, AsyncWrite::poll_close).await;
        assert!(fs::read(&path).unwrap() == bytes);
        let late = poll_fn(|context| AsyncWrite::poll_write(Pin::new(&mut writer), context, b"x"));
        assert_eq!(late.await.unwrap_err().kind(), io::ErrorKind::InvalidInput);

        let mut first = [0; 1000];
        let read =
            poll_fn(|context| AsyncRead::poll_read(Pin::new(&mut reader), context, &mut first));
        let count = read.await.unwrap();
        let mut got = first[..count].to_vec();
        let rest = read_all(
            &mut reader,
            AsyncBufRead::poll_fill_buf,
            AsyncBufRead::consume,
        );
        got.extend(rest.await);
        assert!(got == bytes);
    });
}

#[test]
fn bytes_come_back_by_the_traits_of_tokio() {
    use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
    let _watchdog = watchdog();
    let ((_place, path), bytes) = (place(), pattern(2, 100_001));
    let (mut writer, mut reader) = streams(&aio(), &path);
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    runtime.block_on(async {
        write_all(&mut writer, &bytes, AsyncWrite::poll_write).await;
        end(
            &mut writer,
            AsyncWrite::poll_flush,
            AsyncWrite::poll_shutdown,
        )
        .await;
        assert!(fs::read(&path).unwrap() == bytes);

        let mut first = [0; 1000];
        let mut part = ReadBuf::new(&mut first);
        part.put_slice(b"before");
        let read =
            poll_fn(|context| AsyncRead::poll_read(Pin::new(&mut reader), context, &mut part));
        read.await.unwrap();
        assert_eq!(&part.filled()[..6], b"before");
        let mut got = part.filled()[6..].to_vec();
        let rest = read_all(
            &mut reader,
            AsyncBufRead::poll_fill_buf,
            AsyncBufRead::consume,
        );
        got.extend(rest.await);
        assert!(got == bytes);
    });
}

/// A close that has begun, and was not awaited, is no end: what is written after it is in the file, which ends
/// behind it.
#[test]
fn a_writer_may_go_on_after_a_close_that_has_only_begun() {
    use futures_io::AsyncWrite;
    let _watchdog = watchdog();
    let (_place, path) = place();
    let (aio, mut expected) = (aio(), Vec::new());
    let (mut writer, _) = streams(&aio, &path);
    let mut context = Context::from_waker(std::task::Waker::noop());
    for round in 0..20 {
        let bytes = pattern(round, 3_001);
        block_on(write_all(&mut writer, &bytes, AsyncWrite::poll_write));
        expected.extend(bytes);
        // Its first poll, or one that comes when the blocks are written.
        for _ in 0..round % 3 {
            if AsyncWrite::poll_close(Pin::new(&mut writer), &mut context).is_ready() {
                assert!(fs::read(&path).unwrap() == expected);
                writer = StreamOptions::new()
                    .depth(2)
                    .block(4096)
                    .start(expected.len() as u64)
                    .writer(&aio, file(&path))
                    .unwrap();
            }
        }
    }
    block_on(poll_fn(|context| {
        AsyncWrite::poll_close(Pin::new(&mut writer), context)
    }))
    .unwrap();
    assert!(fs::read(&path).unwrap() == expected);
}
