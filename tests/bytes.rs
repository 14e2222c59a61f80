//! `Bytes` and `BytesMut` as buffers (feature `bytes`): the contract of the buffer traits, and transfers
//! through the kernel.

mod common;

use bytes::{BufMut, Bytes, BytesMut};
use common::*;
use kiocb::buf::{IoBuf, IoBufMut};
use kiocb::op::{Read, ReadV, Write, WriteV};
use kiocb::{AlignedBuf, Iocb};
use std::sync::Arc;

/// Writes all of `buf` to a new file and says what is in it then.
fn written<B: IoBuf + Send + 'static>(buf: B) -> Vec<u8> {
    let len = buf.buf_len();
    let done = Iocb::alloc()
        .init_rw(scratch(), Write, buf, 0)
        .wait()
        .unwrap();
    assert_eq!(done.result.unwrap(), len);
    let read = Iocb::alloc().init_rw(done.file, Read, Vec::with_capacity(len), 0);
    read.wait().unwrap().buf
}

/// Reads a file with these bytes.
fn read(bytes: &[u8], buf: BytesMut) -> BytesMut {
    let read = Iocb::alloc().init_rw(file_of(bytes), Read, buf, 0);
    read.wait().unwrap().buf
}

#[test]
fn every_kind_of_bytes_is_written_as_it_is() {
    let shared = Bytes::from(pattern(1, 5000));
    assert_eq!(written(Bytes::new()), b"");
    assert_eq!(written(Bytes::from_static(b"static")), b"static");
    assert_eq!(written(shared.clone()), pattern(1, 5000));
    assert_eq!(
        written(shared.slice(100..4000)),
        pattern(1, 5000)[100..4000]
    );
    assert_eq!(
        written(Bytes::from_owner(AlignedBuf::from(b"owned"))),
        b"owned"
    );
    assert_eq!(
        written(shared.clone().buf_slice(10..20)),
        pattern(1, 5000)[10..20]
    );
    assert_eq!(written(BytesMut::from(&shared[..])), pattern(1, 5000));
}

#[test]
fn a_read_fills_the_capacity_and_keeps_what_lies_behind() {
    let all = pattern(2, 4096);
    let buf = read(&all, BytesMut::with_capacity(4096));
    assert_eq!(buf.len(), buf.capacity().min(4096));
    assert_eq!(buf, all[..buf.len()]);
    // A short read into a buffer in use overwrites its beginning, and its length does not shrink.
    let buf = read(b"short", BytesMut::from("something longer"));
    assert_eq!(buf, "shorthing longer");
}

#[test]
fn parts_that_were_split_off_are_not_touched() {
    let mut all = BytesMut::with_capacity(4096);
    all.put_slice(&[7; 4096]);
    let (tail, head) = (all.split_off(2048), all.split_to(1024));
    let middle = read(&[9; 4096], all);
    assert_eq!((middle.len(), middle.capacity()), (1024, 1024));
    assert!(middle.iter().all(|&byte| byte == 9));
    assert!(head.iter().chain(&tail).all(|&byte| byte == 7));
}

#[test]
fn taking_the_pointer_to_the_whole_capacity_changes_nothing() {
    for len in [0, 1, 100] {
        let mut buf = BytesMut::with_capacity(100);
        buf.put_bytes(5, len);
        let (before, start) = (buf.clone(), buf.as_ref().as_ptr());
        assert_eq!(IoBufMut::buf_mut_ptr(&mut buf).cast_const(), start);
        assert_eq!(buf, before);
        assert_eq!(IoBufMut::buf_capacity(&buf), buf.capacity());
        // Through moving the handle, too.
        let mut moved = Box::new(buf);
        assert_eq!(IoBufMut::buf_mut_ptr(&mut *moved).cast_const(), start);
    }
}

#[test]
fn vectored_transfers_take_them_too() {
    let file = Arc::new(scratch());
    let pieces = vec![Bytes::from_static(b"one "), Bytes::from("two".to_owned())];
    let write = Iocb::alloc().init_rw(file.clone(), WriteV, pieces, 0);
    assert_eq!(write.wait().unwrap().result.unwrap(), 7);
    let room = [BytesMut::with_capacity(4), BytesMut::with_capacity(100)];
    let done = Iocb::alloc().init_rw(file, ReadV, room, 0).wait().unwrap();
    assert_eq!(done.result.unwrap(), 7);
    assert_eq!(done.buf.map(|piece| piece.freeze()).concat(), b"one two");
}

#[test]
fn what_was_read_is_passed_on_without_a_copy() {
    let buf = read(&pattern(3, 512), BytesMut::with_capacity(512));
    let start = buf.as_ref().as_ptr();
    let bytes = buf.freeze();
    assert_eq!(bytes.as_ptr(), start);
    assert_eq!(written(bytes), pattern(3, 512));
}
