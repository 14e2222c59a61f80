//! Direct I/O is believed only where the whole stack of file systems does it.

mod kit;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use kiocb::buf::IoBuf as _;
use kiocb::op::{Read, Write};
use kiocb::{Aio, AlignedBuf, DirectFile, Dispatch, Iocb, RwFlags};
use kiocb_faults::{Filter, Mount, Watchdog, in_child, need, need_root, skip};
use kit::*;

fn is_marked_direct(file: &impl AsRawFd) -> bool {
    // SAFETY: numbers only.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    flags & libc::O_DIRECT != 0
}

/// What README's program and the example `copy` do with a file: read it, whatever it is.
fn reads_as_it_says(path: &Path, content: &[u8], direct: bool) {
    let file = DirectFile::options()
        .read(true)
        .open_or_buffered(path)
        .unwrap();
    assert_eq!(
        (file.is_direct(), is_marked_direct(&file)),
        (direct, direct)
    );
    let buf = file.buffer(content.len());
    let done = Iocb::alloc().init_rw(file, Read, buf, 0).wait().unwrap();
    assert_eq!(done.result.unwrap(), content.len());
    assert!(done.buf[..content.len()] == *content);

    match DirectFile::open(path) {
        Ok(_) => assert!(direct),
        Err(error) => assert!(!direct && error.kind() == ErrorKind::Unsupported, "{error}"),
    }
    match DirectFile::from_file(std::fs::File::open(path).unwrap()) {
        Ok(file) => assert!(direct && is_marked_direct(&file)),
        Err(refused) => {
            assert!(!direct);
            assert_eq!(refused.error().kind(), ErrorKind::Unsupported);
            let mut plain = refused.into_file();
            assert!(!is_marked_direct(&plain), "as it was");
            let mut there = Vec::new();
            plain.read_to_end(&mut there).unwrap();
            assert!(there == content);
        }
    }
}

/// A new file, in each way of opening it, takes what is written.
fn writes_as_it_says(mount: &Mount, direct: bool) {
    for read in [false, true] {
        let path = mount.path().join(format!("new-{read}"));
        let mut options = DirectFile::options();
        options.read(read).write(true).create_new(true);
        let file = options.open_or_buffered(&path).unwrap();
        assert_eq!(
            (file.is_direct(), is_marked_direct(&file)),
            (direct, direct)
        );
        let mut page = file.buffer(4096);
        page.fill(5);
        let done = Iocb::alloc().init_rw(file, Write, page, 0).wait().unwrap();
        assert_eq!(done.result.unwrap(), 4096);
        assert_eq!(std::fs::read(&path).unwrap(), [5; 4096]);
    }
}

#[test]
fn an_overlay_over_a_file_system_without_direct_io_is_not_direct() {
    need_root!();
    let _watchdog = Watchdog::new("overlay without direct I/O");
    let content: Vec<u8> = (0..10_000).map(|at| (at % 251) as u8).collect();
    let ram = need!(Mount::ramfs());
    ram.open("f", 0).unwrap().write_all(&content).unwrap();
    let squash = need!(Mount::squashfs("f", &content));
    for lower in [&ram, &squash] {
        reads_as_it_says(&lower.path().join("f"), &content, false);
        let above = need!(Mount::ramfs());
        let overlay = need!(Mount::overlay(lower, &above));
        reads_as_it_says(&overlay.path().join("f"), &content, false);
        writes_as_it_says(&overlay, false);
    }
}

#[test]
fn an_overlay_over_a_file_system_with_direct_io_is_direct() {
    need_root!();
    let _watchdog = Watchdog::new("overlay with direct I/O");
    let content: Vec<u8> = (0..10_000).map(|at| (at % 251) as u8).collect();
    // ext4 says what it wants, also through the overlay; btrfs says nothing.
    for lower in [need!(Mount::ext4(32 << 20)), need!(Mount::btrfs(128 << 20))] {
        lower.open("f", 0).unwrap().write_all(&content).unwrap();
        let above = need!(Mount::ext4(32 << 20));
        let overlay = need!(Mount::overlay(&lower, &above));
        reads_as_it_says(&overlay.path().join("f"), &content, true);
        writes_as_it_says(&overlay, true);
    }
}

/// Only the question by `open` can tell of a file that may not be read; and closing what it opened must not
/// drop the locks that the process has on the file.
#[test]
fn asking_a_file_for_writing_only_leaves_the_locks_alone() {
    need_root!();
    let _watchdog = Watchdog::new("locks");
    let mount = need!(Mount::btrfs(128 << 20));
    let locked = mount.open("f", 0).unwrap();
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 10,
        l_pid: 0,
    };
    // SAFETY: a `struct flock` that lives across the call.
    let taken = unsafe { libc::fcntl(locked.as_raw_fd(), libc::F_SETLK, &raw mut lock) };
    assert_eq!(taken, 0);
    let path = mount.path().join("f");
    let plain = OpenOptions::new().write(true).open(&path).unwrap();
    let file = DirectFile::from_file(plain).unwrap();
    assert!(file.is_direct());
    // A lock of an open file, not of a process, is in the way of the process's own.
    lock.l_pid = 0;
    // SAFETY: as above.
    let asked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    assert_eq!(
        (asked, i32::from(lock.l_type)),
        (0, libc::F_WRLCK),
        "still locked"
    );
    assert_eq!(lock.l_len, 10);
}

/// Where nothing can be asked: what `fcntl` says of a file system that keeps its files itself is its own
/// word, and that of an overlay is not.
#[test]
fn an_overlay_that_cannot_be_asked_is_not_direct() {
    need_root!();
    let ram = need!(Mount::ramfs());
    let overlay = need!(Mount::overlay(&need!(Mount::ramfs()), &ram));
    let btrfs = need!(Mount::btrfs(128 << 20));
    in_child("an_overlay_that_cannot_be_asked_is_not_direct", || {
        Filter::new().fail(libc::SYS_unshare, libc::EPERM).install();
        for (mount, direct) in [(&overlay, false), (&btrfs, true)] {
            let mut options = DirectFile::options();
            let file = options.write(true).create(true);
            let file = file.open_or_buffered(mount.path().join("f")).unwrap();
            assert_eq!(
                (file.is_direct(), is_marked_direct(&file)),
                (direct, direct)
            );
        }
    })
    .success();
}

/// btrfs writes through the page cache what has a checksum, since Linux 6.15, and nothing says so but a write
/// that must not block: that way blocks. The documentation of `DirectFile` says it.
#[test]
fn btrfs_takes_direct_io_and_writes_through_the_page_cache() {
    need_root!();
    let _watchdog = Watchdog::new("btrfs and its page cache");
    let mount = need!(Mount::btrfs(128 << 20));
    let mut options = DirectFile::options();
    options.read(true).write(true).create(true);
    let file = options.open(mount.path().join("f")).unwrap();
    assert!(file.is_direct());
    let (page, aio) = (file.buffer(4096), aio(4));
    let write = aio.alloc().init_rw(file, Write, page, 0).wait().unwrap();
    assert_eq!(write.result.unwrap(), 4096);
    write.file.file().sync_all().unwrap();
    for _ in 0..3 {
        // Settled and allocated: a direct write of it would not block.
        let page = AlignedBuf::zeroed(4096);
        let write = aio
            .alloc()
            .init_rw(write.file.try_clone().unwrap(), Write, page, 0);
        let done = write.rw_flags(RwFlags::NOWAIT).wait().unwrap();
        if done.result.is_ok() {
            skip!("before Linux 6.15 btrfs wrote directly");
        }
        assert_eq!(errno(&done.result), Some(libc::EAGAIN));
    }
}

/// Blocks of 4096 bytes, and memory that need be aligned to 512 only: what is left after the end must begin
/// at a block.
#[test]
fn a_read_beyond_the_end_of_a_file_of_large_blocks_says_so() {
    need_root!();
    let _watchdog = Watchdog::new("large blocks");
    let mount = need!(Mount::ext4_of_blocks(32 << 20, 4096));
    let content: Vec<u8> = (0..10_000).map(|at| (at % 251) as u8).collect();
    mount.open("f", 0).unwrap().write_all(&content).unwrap();
    let file = Arc::new(DirectFile::open(mount.path().join("f")).unwrap());
    assert_eq!(
        (file.offset_alignment(), file.memory_alignment()),
        (4096, 512)
    );
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let aio = Aio::builder().depth(4).dispatch(dispatch).build().unwrap();
        for offset in [0, 8192, 12_288] {
            // At an odd multiple of 512.
            let buf = AlignedBuf::with_alignment(512 + 16_384, 4096).buf_slice(512..);
            let read = aio
                .alloc()
                .init_rw(Arc::clone(&file), Read, buf, offset as u64);
            let done = read.read_exact().wait().unwrap();
            assert_eq!(done.result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
            let there = content.get(offset..).unwrap_or_default();
            assert!(done.buf.into_inner()[512..].starts_with(there));
        }
    }
}

#[test]
fn a_pipe_stays_a_stream_of_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut options = DirectFile::options();
    let fifo = options
        .read(true)
        .write(true)
        .open_or_buffered(&path)
        .unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let refused = DirectFile::try_from(OwnedFd::from(writer)).unwrap_err();
    assert_eq!(refused.error().kind(), ErrorKind::Unsupported);
    let pairs = [
        (
            fifo.file().try_clone().unwrap(),
            fifo.file().try_clone().unwrap(),
        ),
        (refused.into_file(), OwnedFd::from(reader).into()),
    ];
    assert!(!fifo.is_direct());
    for (mut writer, mut reader) in pairs {
        assert!(!is_marked_direct(&writer));
        writer.write_all(b"packets lose their ends").unwrap();
        let mut there = [0; 23];
        let (start, end) = there.split_at_mut(7);
        reader.read_exact(start).unwrap();
        reader.read_exact(end).unwrap();
        assert_eq!(&there, b"packets lose their ends");
    }
}
