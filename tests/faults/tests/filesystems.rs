//! The same round trip on every file system that we mount: written, synced, read back, past the page cache.

mod kit;

use std::sync::Arc;
use std::sync::mpsc::channel;

use kiocb::op::{Read, ReadV, Write, WriteV};
use kiocb::{Aio, AlignedBuf, Completion, DirectFile, Dispatch};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Mount, Watchdog, need, need_root};
use kit::*;

const BLOCKS: u64 = 64;

fn pattern(number: u64) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(BLOCK);
    let words = buf.chunks_exact_mut(8).zip(0_u64..);
    words.for_each(|(word, index)| word.copy_from_slice(&(number << 32 | index).to_le_bytes()));
    buf
}

/// Writes, syncs and reads by callback, wait, handle and vector.
fn round_trip(mount: &Mount, direct: bool) {
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
        let aio = Aio::builder().depth(8).dispatch(dispatch).build().unwrap();
        let path = mount.path().join(format!("{dispatch:?}-{direct}"));
        let mut options = DirectFile::options();
        options.read(true).write(true).create(true);
        let file = if direct {
            options.open(&path)
        } else {
            options.open_or_buffered(&path)
        };
        let file = Arc::new(file.unwrap());
        let (done, completions) = channel();
        for number in 0..BLOCKS {
            let done = done.clone();
            aio.alloc()
                .init_rw(Arc::clone(&file), Write, pattern(number), number * B)
                .init_callback(move |Completion { result, .. }| done.send(result.unwrap()).unwrap())
                .submit()
                .unwrap();
        }
        (0..BLOCKS).for_each(|_| assert_eq!(receive(&completions), BLOCK));
        let tail = vec![pattern(BLOCKS), pattern(BLOCKS + 1)];
        let tail = aio
            .alloc()
            .init_rw(Arc::clone(&file), WriteV, tail, BLOCKS * B)
            .wait()
            .unwrap();
        assert_eq!(tail.result.unwrap(), 2 * BLOCK);
        assert_eq!(
            aio.alloc()
                .init_fdsync(Arc::clone(&file))
                .wait()
                .unwrap()
                .result
                .unwrap(),
            0
        );
        assert_eq!(
            aio.alloc()
                .init_fsync(Arc::clone(&file))
                .wait()
                .unwrap()
                .result
                .unwrap(),
            0
        );

        for number in 0..BLOCKS + 2 {
            let buf = AlignedBuf::zeroed(BLOCK);
            let read = aio
                .alloc()
                .init_rw(Arc::clone(&file), Read, buf, number * B);
            let done = if number % 2 == 0 {
                read.wait().unwrap()
            } else {
                read.start().unwrap().wait()
            };
            assert_eq!((done.result.unwrap(), done.buf), (BLOCK, pattern(number)));
        }
        let bufs = vec![AlignedBuf::zeroed(BLOCK); 4];
        let done = aio
            .alloc()
            .init_rw(Arc::clone(&file), ReadV, bufs, BLOCKS * B)
            .wait()
            .unwrap();
        assert_eq!(done.result.unwrap(), 2 * BLOCK, "the end of the file");
        assert_eq!(
            (&done.buf[0], &done.buf[1]),
            (&pattern(BLOCKS), &pattern(BLOCKS + 1))
        );
        drop(aio);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), (BLOCKS + 2) * B);
        let bytes = std::fs::read(&path).unwrap();
        assert!(
            (0..BLOCKS + 2)
                .zip(bytes.chunks_exact(BLOCK))
                .all(|(number, block)| *block == *pattern(number))
        );
    }
}

#[test]
fn ext4_keeps_what_it_is_given() {
    need_root!();
    let _watchdog = Watchdog::new("ext4");
    round_trip(&need!(Mount::ext4(64 << 20)), true);
}

#[test]
fn xfs_keeps_what_it_is_given() {
    need_root!();
    let _watchdog = Watchdog::new("xfs");
    round_trip(&need!(Mount::xfs(320 << 20)), true);
}

#[test]
fn btrfs_keeps_what_it_is_given() {
    need_root!();
    let _watchdog = Watchdog::new("btrfs");
    round_trip(&need!(Mount::btrfs(128 << 20)), true);
}

#[test]
fn tmpfs_keeps_what_it_is_given() {
    need_root!();
    let _watchdog = Watchdog::new("tmpfs");
    round_trip(&need!(Mount::tmpfs(4 << 20)), false); // O_DIRECT on tmpfs is Linux 6.6
}
