//! What the buffer traits promise, for every type that implements them: the address holds while nobody
//! touches the value, the lengths are right, and what a read leaves behind is what its owner sees.
//!
//! The part of the kernel is played by [`read_into`] and its kin, which do with a buffer exactly what the
//! engine does: move it to the heap, take the pointer there, touch nothing until the "kernel" is done, note
//! the result, move it back. Run under a memory checker they check the aliasing too. The last tests do the
//! same through the engine and the real kernel.
#![allow(
    unsafe_code,
    reason = "plays the kernel: reads and writes through the pointers of the buffers"
)]

use kiocb::buf::{IoBuf, IoBufMut, IoBufs, IoBufsMut, IoVec};
use kiocb::op::{Operation, Read, ReadV, Write, WriteV};
use kiocb::{Aio, AlignedBuf, BufPool, Iocb};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::panic::catch_unwind;
use std::sync::Arc;

/// A read of `bytes` into a buffer that is already at its final place.
fn read_into<B: IoBufMut>(buf: B, bytes: &[u8]) -> B {
    let mut cell = Box::new(buf);
    let n = bytes.len().min(cell.buf_capacity());
    let target = cell.buf_mut_ptr();
    // SAFETY: `target` is good for `buf_capacity()` writes until the value is touched again, and `n` is no
    // more than that.
    unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), n) };
    // SAFETY: `n <= buf_capacity()`, and these bytes have just been written.
    unsafe { cell.set_init(n) };
    *cell
}

/// A write of a buffer that is already at its final place: the bytes that would reach the file.
fn written_from<B: IoBuf>(buf: B) -> Vec<u8> {
    let cell = Box::new(buf);
    let (source, len) = (cell.buf_ptr(), cell.buf_len());
    assert!(!source.is_null());
    assert_eq!(
        (cell.buf_ptr(), cell.buf_len()),
        (source, len),
        "a second look gives another answer"
    );
    // SAFETY: `source` is good for `buf_len()` reads of initialised bytes until the value is touched.
    unsafe { std::slice::from_raw_parts(source, len) }.to_vec()
}

/// A vectored read: each piece is filled before the next.
fn read_into_all<V: IoBufsMut>(bufs: V, bytes: &[u8]) -> V {
    let mut cell = Box::new(bufs);
    let vecs = cell.io_vecs_mut();
    let mut rest = bytes;
    for piece in vecs.iter() {
        let (now, later) = rest.split_at(rest.len().min(piece.len()));
        // SAFETY: the piece is good for `len()` writes, and `now` is no longer than that.
        unsafe {
            piece
                .as_ptr()
                .cast_mut()
                .copy_from_nonoverlapping(now.as_ptr(), now.len())
        };
        rest = later;
    }
    // SAFETY: this many bytes have been written, in the order of the pieces.
    unsafe { cell.set_init(bytes.len() - rest.len()) };
    *cell
}

/// A vectored write: the bytes that would reach the file.
fn written_from_all<V: IoBufs>(bufs: V) -> Vec<u8> {
    let cell = Box::new(bufs);
    let mut bytes = Vec::new();
    for piece in cell.io_vecs().iter() {
        // SAFETY: the piece is good for `buf_len()` reads of initialised bytes.
        bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(piece.as_ptr(), piece.len()) });
    }
    bytes
}

/// Nothing but a panic may come of it.
fn panics<T>(f: impl FnOnce() -> T + std::panic::UnwindSafe) -> String {
    let payload = catch_unwind(f).err().expect("a panic");
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string))
        .expect("a message")
}

#[test]
fn every_kind_of_buffer_sends_its_bytes() {
    let hello = b"hello".as_slice();
    assert_eq!(written_from(hello.to_vec()), hello);
    assert_eq!(written_from(hello.to_vec().into_boxed_slice()), hello);
    assert_eq!(written_from(*b"hello"), hello);
    assert_eq!(written_from(Box::new(*b"hello")), hello);
    assert_eq!(written_from(b"hello"), hello);
    assert_eq!(written_from(hello), hello);
    assert_eq!(written_from("hello"), hello);
    assert_eq!(written_from(String::from("hello")), hello);
    assert_eq!(written_from(AlignedBuf::from(b"hello")), hello);
    assert_eq!(written_from(Arc::<[u8]>::from(hello)), hello);
    assert_eq!(written_from(Arc::new(*b"hello")), hello);
    assert_eq!(written_from(Arc::new(hello.to_vec())), hello);
    assert_eq!(written_from(Arc::new(AlignedBuf::from(hello))), hello);
    assert_eq!(written_from(b"say hello twice".buf_slice(4..9)), hello);
}

#[test]
fn every_kind_of_buffer_receives_bytes() {
    assert_eq!(read_into(vec![0; 5], b"hello"), b"hello");
    assert_eq!(read_into(Vec::with_capacity(5), b"hello"), b"hello");
    assert_eq!(
        *read_into(vec![0; 5].into_boxed_slice(), b"hello"),
        *b"hello"
    );
    assert_eq!(read_into([0; 5], b"hello"), *b"hello");
    assert_eq!(*read_into(Box::new([0; 5]), b"hello"), *b"hello");
    assert_eq!(*read_into(AlignedBuf::zeroed(5), b"hello"), *b"hello");
    assert_eq!(
        read_into(vec![b'.'; 9].buf_slice(2..7), b"hello").into_inner(),
        b"..hello.."
    );
}

#[test]
fn empty_buffers_move_nothing() {
    assert_eq!(read_into(Vec::new(), b"hello"), b"");
    assert_eq!(read_into([], b"hello"), [0u8; 0]);
    assert_eq!(*read_into(Box::<[u8]>::default(), b"hello"), *b"");
    assert_eq!(*read_into(AlignedBuf::zeroed(0), b"hello"), *b"");
    assert_eq!(written_from(Vec::new()), b"");
    assert_eq!(written_from(AlignedBuf::default()), b"");
    assert_eq!(written_from(vec![1, 2, 3].buf_slice(3..)), b"");
    assert!(Vec::new().buf_len() == 0 && "x".buf_len() == 1);
}

#[test]
fn a_read_into_a_vec_starts_at_its_first_byte_and_never_shrinks_it() {
    let short = read_into(b"0123456789".to_vec(), b"abc");
    assert_eq!(short, b"abc3456789");
    let mut grown = Vec::with_capacity(10);
    grown.extend_from_slice(b"01");
    assert_eq!(read_into(grown, b"abc"), b"abc");
    assert_eq!(read_into(Vec::<u8>::with_capacity(64), b""), b"");
}

#[test]
fn a_slice_of_spare_capacity_appends() {
    let mut log = Vec::with_capacity(64);
    log.extend_from_slice(b"old ");
    let tail = log.buf_slice_mut(4..10);
    assert_eq!((tail.buf_capacity(), tail.buf_len()), (6, 0));
    let tail = read_into(tail, b"new and more");
    assert_eq!(&tail[..], b"new an");
    assert_eq!(tail.into_inner(), b"old new an");
}

#[test]
fn an_open_slice_reaches_the_length_or_the_capacity() {
    let mut v = Vec::with_capacity(64);
    v.extend_from_slice(b"12345");
    let capacity = v.capacity();
    assert_eq!(v.clone().buf_slice(..).buf_capacity(), 5);
    assert_eq!(v.buf_slice_mut(2..).buf_capacity(), capacity - 2);
    assert_eq!(written_from(b"12345".buf_slice(1..=3)), b"234");
}

#[test]
fn a_slice_that_does_not_fit_panics_before_it_exists() {
    let spare = || Vec::<u8>::with_capacity(8);
    assert!(panics(|| b"12345".buf_slice(0..6)).contains("ends at 6, the buffer at 5"));
    assert!(panics(|| b"12345".buf_slice(6..)).contains("starts after it ends"));
    #[allow(clippy::reversed_empty_ranges, reason = "what is being tested")]
    let reversed = 3..2;
    assert!(panics(move || b"12345".buf_slice(reversed)).contains("starts after it ends"));
    assert!(panics(|| b"12345".buf_slice(..=usize::MAX)).contains("beyond"));
    assert!(panics(move || spare().buf_slice(0..1)).contains("the buffer at 0"));
    assert!(panics(move || spare().buf_slice_mut(0..9999)).contains("ends at 9999"));
    // The gap would count as initialised once the read is done.
    assert!(panics(move || spare().buf_slice_mut(1..8)).contains("only 0 bytes are initialised"));
}

#[test]
fn the_clone_of_a_slice_stays_inside_its_own_buffer() {
    let mut v = Vec::with_capacity(64);
    v.extend_from_slice(b"1234");
    let slice = v.buf_slice_mut(4..64);
    let clone = slice.clone();
    assert!(
        clone.get_ref().capacity() < 64,
        "the clone of a Vec keeps no spare capacity"
    );
    assert_eq!(clone.buf_capacity(), clone.get_ref().capacity() - 4);
    assert_eq!(
        &read_into(clone, b"too much for it").into_inner()[..4],
        b"1234"
    );
}

/// Says what it is told to: a foreign buffer whose length is looked up anew each time.
struct Shrinking(Vec<u8>, std::cell::Cell<usize>);

// SAFETY: never more than the Vec has; changes only when the test changes it.
unsafe impl IoBuf for Shrinking {
    fn buf_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }
    fn buf_len(&self) -> usize {
        self.1.get()
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Shrinking {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }
    fn buf_capacity(&self) -> usize {
        self.1.get()
    }
    unsafe fn set_init(&mut self, n: usize) {
        assert!(n <= self.1.get());
    }
}

#[test]
fn a_slice_of_a_buffer_that_has_shrunk_is_empty_rather_than_outside() {
    let slice = Shrinking(vec![0; 8], 8.into()).buf_slice(4..8);
    assert_eq!((slice.buf_len(), slice.buf_capacity()), (4, 4));
    slice.get_ref().1.set(6);
    assert_eq!((slice.buf_len(), slice.buf_capacity()), (2, 2));
    slice.get_ref().1.set(3);
    assert_eq!((slice.buf_len(), slice.buf_capacity()), (0, 0));
    assert_eq!(slice.buf_ptr(), slice.get_ref().0[3..].as_ptr());
    read_into(slice, b"nothing");
}

#[test]
fn slices_nest() {
    let inner = b"0123456789".to_vec().buf_slice(2..9).buf_slice(1..4);
    assert_eq!(&inner[..], b"345");
    let inner = read_into(inner, b"abcdef");
    assert_eq!(inner.into_inner().into_inner(), b"012abc6789");
}

#[test]
fn a_slice_can_be_looked_at_and_changed_where_its_buffer_can() {
    let mut page = AlignedBuf::zeroed(64).buf_slice(32..);
    page[..2].copy_from_slice(b"hi");
    page.as_mut()[2] = b'!';
    assert_eq!(&page.as_ref()[..4], b"hi!\0");
    assert_eq!(
        format!("{:?}", [1u8, 2, 3].buf_slice(1..)),
        "Slice { range: 1..3, buf: [1, 2, 3] }"
    );
}

#[test]
fn vectored_buffers_of_every_shape_send_their_bytes_in_order() {
    assert_eq!(
        written_from_all(vec!["one ", "two ", "three"]),
        b"one two three"
    );
    assert_eq!(
        written_from_all(["one ", "two ", "three"]),
        b"one two three"
    );
    assert_eq!(
        written_from_all(vec![*b"ab", *b"cd"].into_boxed_slice()),
        b"abcd"
    );
    assert_eq!(written_from_all([*b"ab", *b"cd"]), b"abcd");
    assert_eq!(
        written_from_all(vec![Arc::<[u8]>::from(&b"shared"[..]); 2]),
        b"sharedshared"
    );
    assert_eq!(written_from_all(Vec::<Vec<u8>>::new()), b"");
}

#[test]
fn a_short_vectored_read_fills_the_buffers_one_after_another() {
    let bufs = || {
        vec![
            Vec::with_capacity(2),
            Vec::with_capacity(0),
            Vec::with_capacity(3),
        ]
    };
    let read = |bytes: &[u8]| read_into_all(bufs(), bytes);
    assert_eq!(read(b""), [b"".as_slice(), b"", b""]);
    assert_eq!(read(b"a"), [b"a".as_slice(), b"", b""]);
    assert_eq!(read(b"ab"), [b"ab".as_slice(), b"", b""]);
    assert_eq!(read(b"abc"), [b"ab".as_slice(), b"", b"c"]);
    assert_eq!(read(b"abcdefgh"), [b"ab".as_slice(), b"", b"cde"]);
}

#[test]
fn vectored_buffers_of_every_shape_receive_bytes() {
    assert_eq!(read_into_all([[0; 2], [0; 2]], b"abcd"), [*b"ab", *b"cd"]);
    assert_eq!(read_into_all(vec![[0; 2]; 2], b"abcd"), [*b"ab", *b"cd"]);
    let boxed: Box<[[u8; 2]]> = Box::new([[0; 2]; 2]);
    assert_eq!(*read_into_all(boxed, b"abcd"), [*b"ab", *b"cd"]);
    let pages = [AlignedBuf::zeroed(2), AlignedBuf::with_alignment(2, 8)];
    assert_eq!(
        read_into_all(pages, b"abcd").map(|page| page.to_vec()),
        [*b"ab", *b"cd"]
    );
    let boxes: [Box<[u8]>; 2] = [Box::new([0; 2]), Box::new([0; 2])];
    assert_eq!(
        read_into_all(boxes, b"abcd").map(|b| b.to_vec()),
        [*b"ab", *b"cd"]
    );
}

#[test]
fn the_real_kernel_takes_the_pieces() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"0123456789").unwrap();
    let mut bufs = Box::new([Vec::with_capacity(4), Vec::with_capacity(100)]);
    let vecs = bufs.io_vecs_mut();
    assert_eq!(size_of::<IoVec>(), size_of::<libc::iovec>());
    // SAFETY: an `IoVec` is a `struct iovec`; the pieces are good for writes, and nobody touches them
    // meanwhile.
    let n = unsafe { libc::preadv(file.as_raw_fd(), vecs.as_ptr().cast(), 2, 3) };
    assert_eq!(n, 7);
    // SAFETY: the kernel has filled this many bytes, in order.
    unsafe { bufs.set_init(7) };
    assert_eq!(*bufs, [b"3456".as_slice(), b"789"]);
}

#[test]
fn an_io_vec_shows_its_two_numbers() {
    let bytes = [7u8; 3];
    let piece = IoVec::new(bytes.as_ptr(), 3);
    assert_eq!(
        (piece.as_ptr(), piece.len(), piece.is_empty()),
        (bytes.as_ptr(), 3, false)
    );
    assert!(IoVec::new(bytes.as_ptr(), 0).is_empty());
    assert!(format!("{piece:?}").starts_with("IoVec { ptr: 0x"));
}

#[test]
fn aligned_memory_is_aligned_zeroed_and_exactly_as_long_as_asked() {
    for align in [1, 2, 512, 4096, 1 << 21] {
        for len in [0, 1, 511, 512, 4096, 100_000] {
            let buf = AlignedBuf::with_alignment(len, align);
            assert_eq!(buf.as_ptr() as usize % align, 0, "{buf:?}");
            assert_eq!((buf.len(), buf.alignment()), (len, align));
            assert!(buf.iter().all(|&byte| byte == 0));
        }
    }
    assert_eq!(AlignedBuf::zeroed(1).alignment(), AlignedBuf::DEFAULT_ALIGN);
}

#[test]
fn memory_that_was_used_before_comes_zeroed() {
    for _ in 0..100 {
        let mut buf = AlignedBuf::zeroed(4096);
        assert!(buf.iter().all(|&byte| byte == 0));
        buf.fill(0xa5);
    }
}

#[test]
fn an_alignment_or_length_that_cannot_be_is_an_error_or_a_panic() {
    for align in [0, 3, 4095, usize::MAX] {
        let error = AlignedBuf::try_with_alignment(8, align).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("power of two"), "{error}");
        assert!(panics(move || AlignedBuf::with_alignment(8, align)).contains("power of two"));
    }
    for len in [usize::MAX, isize::MAX as usize, isize::MAX as usize - 4000] {
        let error = AlignedBuf::try_zeroed(len).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(panics(move || AlignedBuf::zeroed(len)).contains("address space"));
    }
}

#[test]
fn memory_that_is_not_there_is_an_error() {
    // More than any machine's address space has, and still a legal length.
    let error = AlignedBuf::try_zeroed(isize::MAX as usize / 2).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
    assert!(error.to_string().contains("4096"), "{error}");
}

#[test]
fn an_aligned_buffer_is_cloned_compared_and_shown_by_its_bytes_and_shape() {
    let mut a = AlignedBuf::copy_of(b"same", 512);
    let b = a.clone();
    assert_eq!((&a, b.alignment()), (&b, 512));
    assert_ne!(a.as_ptr(), b.as_ptr());
    assert_eq!(a, AlignedBuf::from(b"same"));
    a[0] = b'S';
    assert_ne!(a, b);
    assert_eq!(format!("{a:?}"), "AlignedBuf { len: 4, align: 512 }");
    assert_eq!(std::mem::take(&mut a).len() + a.len(), 4);
}

#[test]
fn buffers_cross_threads() {
    fn is_send<T: Send>(_: &T) {}
    let buf = AlignedBuf::from(b"moved");
    is_send(&[IoVec::from_buf(&buf)]);
    is_send(&vec![AlignedBuf::zeroed(1)].io_vecs());
    is_send(&[AlignedBuf::zeroed(1)].io_vecs());
    let shared = Arc::new(buf);
    let there = shared.clone();
    assert_eq!(
        std::thread::spawn(move || written_from(there))
            .join()
            .unwrap(),
        b"moved"
    );
    assert_eq!(**shared, *b"moved");
}

#[test]
fn an_aligned_buffer_serves_direct_io() {
    let place = std::env::var_os("KIOCB_TEST_DIR");
    let place = place.unwrap_or(env!("CARGO_TARGET_TMPDIR").into());
    let dir = tempfile::tempdir_in(place).unwrap();
    let path = dir.path().join("direct");
    std::fs::write(&path, [0x5a; 8192]).unwrap();
    let file = match open_direct(&path) {
        Ok(file) => file,
        Err(error) => return skip(&format!("no O_DIRECT below target: {error}")),
    };
    let mut buf = Box::new(AlignedBuf::zeroed(8192));
    let (len, target) = (buf.buf_capacity(), buf.buf_mut_ptr());
    // SAFETY: good for `len` writes, and nobody touches it meanwhile.
    let n = unsafe { libc::pread(file.as_raw_fd(), target.cast(), len, 0) };
    assert_eq!(n, 8192, "{}", std::io::Error::last_os_error());
    assert!(buf.iter().all(|&byte| byte == 0x5a));
}

fn open_direct(path: &std::path::Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
}

/// Says why a test proves nothing here, and fails where everything is expected to be there.
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
    assert!(
        std::env::var_os("KIOCB_CI").is_none(),
        "skipped in CI: {reason}"
    );
}

#[test]
fn what_must_outlive_the_request_can_be_asked_for() {
    // The engine stores the pieces of a vectored request in its cell, whatever the buffers' own lifetimes.
    fn stored<V: IoBufs>(bufs: &V) -> Box<dyn std::any::Any + Send> {
        Box::new(bufs.io_vecs())
    }
    let _ = stored(&vec![vec![1u8].buf_slice(..)]);
}

/// One request on the file, through the engine; all of the file's ten bytes are at stake.
fn read_by_engine<B: Send + 'static>(
    file: &Arc<File>,
    op: impl Operation<B>,
    buf: B,
    at: u64,
) -> (usize, B) {
    let done = Iocb::alloc()
        .init_rw(file.clone(), op, buf, at)
        .wait()
        .unwrap();
    (done.result.unwrap(), done.buf)
}

#[test]
fn the_engine_reads_into_every_kind_of_buffer() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"0123456789").unwrap();
    let file = Arc::new(file);
    let pool = BufPool::new(1, 4).unwrap();
    assert_eq!(
        read_by_engine(&file, Read, Vec::with_capacity(4), 8),
        (2, b"89".to_vec())
    );
    assert_eq!(read_by_engine(&file, Read, [0; 4], 1), (4, *b"1234"));
    assert_eq!(
        read_by_engine(&file, Read, Box::new([0; 4]), 1),
        (4, Box::new(*b"1234"))
    );
    assert_eq!(
        read_by_engine(&file, Read, vec![0; 4].into_boxed_slice(), 1).1[..],
        *b"1234"
    );
    assert_eq!(
        read_by_engine(&file, Read, AlignedBuf::zeroed(4), 1).1,
        AlignedBuf::from(b"1234")
    );
    assert_eq!(read_by_engine(&file, Read, pool.take(), 1).1[..], *b"1234");
    assert_eq!(
        read_by_engine(&file, Read, vec![b'.'; 6].buf_slice(1..3), 0)
            .1
            .into_inner(),
        b".01..."
    );
    assert_eq!(read_by_engine(&file, Read, Vec::new(), 0), (0, Vec::new()));
    let vecs = || vec![Vec::with_capacity(3), Vec::with_capacity(3)];
    assert_eq!(
        read_by_engine(&file, ReadV, vecs(), 5),
        (5, vec![b"567".to_vec(), b"89".to_vec()])
    );
    assert_eq!(
        read_by_engine(&file, ReadV, [[0; 2]; 3], 0),
        (6, [*b"01", *b"23", *b"45"])
    );
    let boxed: Box<[[u8; 2]]> = Box::new([[0; 2]; 2]);
    assert_eq!(*read_by_engine(&file, ReadV, boxed, 6).1, [*b"67", *b"89"]);
}

#[test]
fn the_engine_writes_from_every_kind_of_buffer() {
    let file = Arc::new(tempfile::tempfile().unwrap());
    let mut at = 0;
    fn write<B: Send + 'static>(file: &Arc<File>, op: impl Operation<B>, buf: B, at: &mut u64) {
        *at += read_by_engine(file, op, buf, *at).0 as u64;
    }
    let pool = BufPool::new(1, 2).unwrap();
    let mut pooled = pool.take();
    pooled.copy_from_slice(b"po");
    write(&file, Write, b"vec ".to_vec(), &mut at);
    write(&file, Write, b"static ", &mut at);
    write(&file, Write, "str ", &mut at);
    write(&file, Write, String::from("string "), &mut at);
    write(&file, Write, *b"array ", &mut at);
    write(&file, Write, Arc::<[u8]>::from(&b"arc "[..]), &mut at);
    write(&file, Write, AlignedBuf::from(b"aligned "), &mut at);
    write(&file, Write, pooled, &mut at);
    write(&file, Write, b"oliver".buf_slice(1..2), &mut at);
    write(&file, WriteV, vec![" many ", "strs "], &mut at);
    write(&file, WriteV, [*b"ab", *b"cd"], &mut at);
    let mut text = vec![0; usize::try_from(at).unwrap()];
    std::os::unix::fs::FileExt::read_exact_at(&*file, &mut text, 0).unwrap();
    assert_eq!(
        text,
        b"vec static str string array arc aligned pol many strs abcd"
    );
    assert_eq!(pool.available(), 1);
}

#[test]
fn more_pieces_than_the_kernel_takes_are_refused_and_come_back() {
    let file = tempfile::tempfile().unwrap();
    let refused = Iocb::alloc()
        .init_rw(file, ReadV, vec![[0u8; 1]; 1025], 0)
        .wait()
        .unwrap_err();
    assert_eq!(refused.error().raw_os_error(), Some(libc::EINVAL));
    let (_, bufs) = refused.into_request().into_parts();
    assert_eq!(bufs.len(), 1025);
}

#[test]
fn a_pool_gets_its_buffers_back_from_requests_that_nobody_waits_for() {
    let aio = Aio::builder().depth(4).build().unwrap();
    let pool = BufPool::new(64, 512).unwrap();
    let file = Arc::new(File::open("/dev/zero").unwrap());
    for round in 0..64 {
        let request = aio.alloc().init_rw(file.clone(), Read, pool.take(), 0);
        match round % 4 {
            0 => drop(request),
            1 => drop(request.start().unwrap()),
            2 => request.init_callback(drop).submit().unwrap(),
            _ => request
                .init_callback(|_| panic!("of the user's"))
                .submit()
                .unwrap(),
        }
    }
    aio.drain().unwrap();
    assert_eq!(pool.available(), 64);
}
