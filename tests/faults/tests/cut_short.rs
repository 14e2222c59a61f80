//! `nowait_or_offload` where NOWAIT transfers a part: the result is what a plain call's would be.

mod kit;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::mpsc::channel;

use kiocb::op::{Read, ReadV, Write, WriteV};
use kiocb::{Aio, AlignedBuf, Dispatch, RwFlags};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Mount, Watchdog, need, need_root};
use kit::*;

const ALL: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

fn of(dispatch: Dispatch) -> Aio {
    Aio::builder().depth(8).dispatch(dispatch).build().unwrap()
}

/// A read of 8 bytes.
fn read_eight(aio: &Aio, file: impl Into<OwnedFd>) -> kiocb::Completion<OwnedFd, Vec<u8>> {
    let read = aio.alloc().init_rw(file.into(), Read, vec![0; 8], 0);
    read.nowait_or_offload().wait().unwrap()
}

/// The first half of a file is in the page cache: NOWAIT gives that, and a plain read the whole.
#[test]
fn a_read_that_is_half_in_the_page_cache_is_read_whole() {
    need_root!();
    let _watchdog = Watchdog::new("half in the page cache");
    half_cached(&need!(Mount::ext4(32 << 20)));
    half_cached(&need!(Mount::xfs(320 << 20)));
    half_cached(&need!(Mount::btrfs(128 << 20)));
}

const HALF: usize = 1 << 20;

/// Leaves the first half of the file in the page cache, and no more.
fn drop_second_half(file: &File) {
    let advise = |offset: usize, advice| {
        // SAFETY: numbers only.
        let refused = unsafe { libc::posix_fadvise(file.as_raw_fd(), offset as i64, 0, advice) };
        assert_eq!(refused, 0);
    };
    file.sync_all().unwrap();
    advise(0, libc::POSIX_FADV_DONTNEED);
    advise(0, libc::POSIX_FADV_RANDOM); // no reading ahead
    file.read_exact_at(&mut vec![0; HALF], 0).unwrap();
}

fn half_cached(mount: &Mount) {
    let content: Vec<u8> = (0..2 * HALF).map(|at| (at * 31 % 251) as u8).collect();
    for dispatch in ALL {
        let (aio, file) = (of(dispatch), Arc::new(mount.open("f", 0).unwrap()));
        file.write_all_at(&content, 0).unwrap();
        let read = |whole, offset: usize| {
            drop_second_half(&file);
            let buf = vec![0; whole];
            aio.alloc()
                .init_rw(Arc::clone(&file), Read, buf, offset as u64)
        };
        let nowait = read(2 * HALF, 0).rw_flags(RwFlags::NOWAIT).wait().unwrap();
        let count = nowait.result.unwrap();
        assert!((1..2 * HALF).contains(&count), "the way is needed: {count}");

        let done = read(2 * HALF, 0).nowait_or_offload().wait().unwrap();
        assert_eq!(done.result.unwrap(), 2 * HALF);
        assert!(done.buf == content);
        let past = read(2 * HALF, HALF / 2).nowait_or_offload();
        let done = past.start().unwrap().wait();
        assert_eq!(
            done.result.unwrap(),
            2 * HALF - HALF / 2,
            "to the end of the file"
        );
        assert!(done.buf.starts_with(&content[HALF / 2..]));

        drop_second_half(&file);
        let pieces: Vec<Vec<u8>> = content
            .chunks(100_000)
            .map(|part| vec![0; part.len()])
            .collect();
        let (send, receive_one) = channel();
        aio.alloc()
            .init_rw(Arc::clone(&file), ReadV, pieces, 0)
            .nowait_or_offload()
            .init_callback(move |done| {
                send.send((done.result.unwrap(), done.buf.concat()))
                    .unwrap()
            })
            .submit()
            .unwrap();
        aio.drain().unwrap();
        assert!(receive(&receive_one) == (2 * HALF, content.clone()));
        let stats = aio.stats();
        assert_eq!(
            (stats.accepted, stats.completed, stats.in_flight),
            (4, 4, 0)
        );
    }
}

/// At the end of a file a read is short, of a pipe it gives what there is, and neither goes on.
#[test]
fn what_a_plain_read_leaves_short_stays_short() {
    need_root!();
    let _watchdog = Watchdog::new("short reads");
    let mount = need!(Mount::ext4(32 << 20));
    for dispatch in ALL {
        let aio = of(dispatch);
        for flags in [0, libc::O_DIRECT] {
            let file = mount.file("f", 3 * BLOCK - 100, flags).unwrap();
            let buf = AlignedBuf::zeroed(8 * BLOCK);
            let read = aio.alloc().init_rw(file, Read, buf, 0).nowait_or_offload();
            assert_eq!(read.wait().unwrap().result.unwrap(), 3 * BLOCK - 100);
        }
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"part").unwrap();
        let done = read_eight(&aio, reader);
        assert_eq!((done.result.unwrap(), &done.buf[..4]), (4, &b"part"[..]));
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        theirs.write_all(b"part").unwrap();
        let done = read_eight(&aio, ours);
        assert_eq!((done.result.unwrap(), &done.buf[..4]), (4, &b"part"[..]));
        assert_eq!(aio.stats().submits, 6, "only files were asked for more");
    }
}

/// A plain write to a pipe or a socket waits until all is written; NOWAIT writes what fits.
#[test]
fn a_write_that_fits_in_part_is_written_whole() {
    let _watchdog = Watchdog::new("writes in parts");
    let content: Vec<u8> = (0..1_000_000).map(|at| (at * 31 % 251) as u8).collect();
    let pieces: Vec<Vec<u8>> = content.chunks(9999).map(<[u8]>::to_vec).collect();
    for dispatch in ALL {
        let aio = of(dispatch);
        let (reader, writer) = std::io::pipe().unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let ends: [(OwnedFd, OwnedFd); 2] =
            [(writer.into(), reader.into()), (ours.into(), theirs.into())];
        for (writer, reader) in ends {
            let (writer, length) = (Arc::new(writer), content.len());
            let reader = Worker::start(move || {
                let mut there = vec![0; 2 * length];
                File::from(reader).read_exact(&mut there).map(|()| there)
            });
            let write = aio
                .alloc()
                .init_rw(Arc::clone(&writer), Write, content.clone(), 0);
            let done = write.nowait_or_offload().wait().unwrap();
            assert_eq!(done.result.unwrap(), length);
            let write = aio.alloc().init_rw(writer, WriteV, pieces.clone(), 0);
            let done = write.nowait_or_offload().wait().unwrap();
            assert_eq!(done.result.unwrap(), length);
            let there = reader.join().unwrap();
            assert!(there[..length] == content && there[length..] == content);
        }
    }
}

/// What had no room for all says how much it took, as a plain write does.
#[test]
fn an_error_after_a_part_is_the_part() {
    let _watchdog = Watchdog::new("nonblocking pipe");
    for dispatch in ALL {
        let (aio, (reader, writer)) = (of(dispatch), std::io::pipe().unwrap());
        // SAFETY: numbers only.
        let set = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        assert_eq!(set, 0);
        let write = aio
            .alloc()
            .init_rw(OwnedFd::from(writer), Write, vec![7; 1_000_000], 0);
        let done = write.nowait_or_offload().wait().unwrap();
        assert_eq!(done.result.unwrap(), 65_536);
        drop(reader);
    }
}
