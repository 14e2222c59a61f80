//! Reads, writes and syncs of borrowed memory with what may be asked of them: alone, and in a scope.
#![allow(unsafe_code, reason = "forks")]

mod common;

use common::*;
use kiocb::op::Write;
use kiocb::{Aio, AioError, Dispatch, IoOptions, IoPriority, RwFlags};
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

fn contexts() -> impl Iterator<Item = Aio> {
    KINDS
        .into_iter()
        .map(|dispatch| build(Aio::builder().dispatch(dispatch).depth(4)))
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().expect("an error").raw_os_error()
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

fn is_forked<T>(result: io::Result<T>) -> bool {
    let error = result.err().expect("an error");
    error.get_ref().and_then(|inner| inner.downcast_ref()) == Some(&AioError::Forked)
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn exact_reads_and_writes_transfer_all_or_say_why() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let (file, bytes, mut back) = (scratch(), pattern(1, 100_000), vec![0; 100_000]);
        aio.write_all_at(&file, &bytes, 7).unwrap();
        aio.read_exact_at(&file, &mut back, 7).unwrap();
        assert!(back == bytes);
        let beyond = aio.read_exact_at(&file, &mut back, 8);
        assert_eq!(kind(beyond), ErrorKind::UnexpectedEof);
        assert!(back[..99_999] == bytes[1..]);
        aio.read_exact_at(&file, &mut [], 1 << 40).unwrap();
        assert_eq!(
            errno(aio.write_all_at(&file, b"x", u64::MAX)),
            Some(libc::EINVAL)
        );
    }
}

/// A pipe gives what there is: the rest of the read waits for the rest of the bytes.
#[test]
fn an_exact_read_goes_on_where_a_pipe_gives_it_piece_by_piece() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let (reader, writer) = io::pipe().unwrap();
        let bytes = pattern(2, 300_000);
        let mut back = vec![0; bytes.len()];
        thread::scope(|threads| {
            threads.spawn(|| aio.write_all_at(&writer, &bytes, 0).unwrap());
            aio.read_exact_at(&reader, &mut back, 0).unwrap();
        });
        assert!(back == bytes);
        let mut left = [0; 8];
        drop(writer);
        let end = aio.read_exact_at(&reader, &mut left, 0);
        assert_eq!(kind(end), ErrorKind::UnexpectedEof);
    }
}

#[test]
fn several_buffers_are_one_transfer() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let file = scratch();
        let out = [
            IoSlice::new(b"head"),
            IoSlice::new(b""),
            IoSlice::new(b"body"),
        ];
        assert_eq!(aio.write_vectored_at(&file, &out, 2).unwrap(), 8);
        let (mut first, mut second) = ([0; 6], [0; 9]);
        let mut into = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        assert_eq!(aio.read_vectored_at(&file, &mut into, 0).unwrap(), 10);
        assert_eq!((&first, &second), (b"\0\0head", b"body\0\0\0\0\0"));

        let many = vec![IoSlice::new(b"x"); 1025];
        let refused = aio.write_vectored_at(&file, &many, 0);
        assert_eq!(errno(refused), Some(libc::EINVAL));
        let at_most = aio.write_vectored_at(&file, &many[..1024], 0);
        assert_eq!(at_most.unwrap(), 1024);
    }
}

#[test]
fn syncs_work_on_files_and_folders_and_say_what_has_none() {
    let _watchdog = watchdog();
    let (dir, (reader, _writer)) = (disk_dir(), io::pipe().unwrap());
    let folder = File::open(dir.path()).unwrap();
    for aio in contexts() {
        for file in [&scratch(), &folder] {
            aio.fsync(file).unwrap();
            aio.fdatasync(file).unwrap();
        }
        assert_eq!(errno(aio.fsync(&reader)), Some(libc::EINVAL));
        assert_eq!(errno(aio.fdatasync(&reader)), Some(libc::EINVAL));
        assert_eq!(aio.stats().accepted, 4);
    }
}

#[test]
fn options_reach_the_kernel_with_each_kind_of_request() {
    let _watchdog = watchdog();
    const LOG: IoOptions = IoOptions::new().rw_flags(RwFlags::DSYNC);
    for aio in contexts() {
        let file = file_of(b"begin");
        // The end moves: the offset is not looked at.
        let end = aio.with(RwFlags::APPEND);
        assert_eq!(end.write_at(&file, b" one", 0).unwrap(), 4);
        end.write_all_at(&file, b" two", 0).unwrap();
        let three = [IoSlice::new(b" thr"), IoSlice::new(b"ee")];
        assert_eq!(end.write_vectored_at(&file, &three, 0).unwrap(), 6);
        assert_eq!(content(&file), b"begin one two three");

        let durable = aio.with(LOG.priority(IoPriority::best_effort(1)));
        durable.write_all_at(&file, b"BEGIN", 0).unwrap();
        durable.read_exact_at(&file, &mut [0; 5], 0).unwrap();
        let (mut word, mut bufs) = ([0; 5], Vec::new());
        bufs.push(IoSliceMut::new(&mut word));
        assert_eq!(durable.read_vectored_at(&file, &mut bufs, 0).unwrap(), 5);
        assert_eq!(&word, b"BEGIN");
        assert_eq!(errno(durable.fsync(&file)), Some(libc::EINVAL), "flags");
        assert_eq!(errno(durable.fdatasync(&file)), Some(libc::EINVAL), "flags");
        aio.with(IoPriority::IDLE).fsync(&file).unwrap();
        aio.with(IoPriority::IDLE).fdatasync(&file).unwrap();

        let bad = IoPriority::from_bits_retain(7 << 13);
        assert_eq!(
            errno(aio.with(bad).read_at(&file, &mut word, 0)),
            Some(libc::EINVAL)
        );
    }
}

/// With NOWAIT alone the pipe would say EAGAIN; offloaded, the read waits on the helper's thread.
#[test]
fn what_would_block_is_offloaded_if_asked_for() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let ((reader, writer), mut byte) = (io::pipe().unwrap(), [0]);
        if nowait_on_pipes() {
            let tried = aio.with(RwFlags::NOWAIT).read_at(&reader, &mut byte, 0);
            assert_eq!(errno(tried), Some(libc::EAGAIN));
        }
        let offload = IoOptions::new().nowait_or_offload();
        thread::scope(|threads| {
            let read = threads.spawn(|| aio.with(offload).read_exact_at(&reader, &mut byte, 0));
            aio.write_all_at(&writer, b"x", 0).unwrap();
            read.join().unwrap().unwrap();
        });
        assert_eq!(&byte, b"x");
    }
}

#[test]
fn every_kind_of_request_may_be_in_one_scope() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let (file, other) = (file_of(b"0123456789"), scratch());
        let (mut exact, mut beyond, mut head, mut tail) = ([0; 4], [0; 4], [0; 2], [0; 8]);
        let mut bufs = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut tail)];
        let pieces = [IoSlice::new(b"vec"), IoSlice::new(b"tored")];
        aio.scope(|s| {
            let exact = s.read_exact_at(&file, &mut exact, 6);
            let beyond = s.read_exact_at(&file, &mut beyond, 7);
            let vectored = s.read_vectored_at(&file, &mut bufs, 1);
            let all = s.write_all_at(&other, b"all", 8);
            let gathered = s.write_vectored_at(&other, &pieces, 0);
            let syncs = [s.fsync(&file), s.fdatasync(&file)];
            assert_eq!(aio.stats().submits, 0, "all go together");
            assert_eq!(exact.wait().unwrap(), 4, "the whole length");
            assert_eq!(kind(beyond.wait()), ErrorKind::UnexpectedEof);
            assert_eq!(vectored.wait().unwrap(), 9);
            assert_eq!((all.wait().unwrap(), gathered.wait().unwrap()), (3, 8));
            assert!(syncs.into_iter().all(|sync| sync.wait().unwrap() == 0));
        });
        assert_eq!((&exact, &beyond[..3]), (b"6789", &b"789"[..]));
        assert_eq!((&head, &tail[..7]), (b"12", &b"3456789"[..]));
        assert_eq!(content(&other), b"vectoredall");
        assert_eq!(aio.stats().completed, 7);
    }
}

#[test]
fn a_scopes_options_are_those_of_the_requests_made_by_them() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let file = file_of(b"begin");
        let (mut word, mut piece) = ([0; 5], [0; 5]);
        let mut bufs = [IoSliceMut::new(&mut piece)];
        let (four, five) = ([IoSlice::new(b" 4")], b" 5");
        aio.scope(|s| {
            let end = s.with(RwFlags::APPEND);
            assert_eq!(end.write_at(&file, b" 3", 0).wait().unwrap(), 2);
            assert_eq!(end.write_vectored_at(&file, &four, 0).wait().unwrap(), 2);
            assert_eq!(end.write_all_at(&file, five, 0).wait().unwrap(), 2);
            assert_eq!(errno(end.fsync(&file).wait()), Some(libc::EINVAL), "flags");
            assert_eq!(
                errno(end.fdatasync(&file).wait()),
                Some(libc::EINVAL),
                "flags"
            );
            let idle = s.with(IoPriority::IDLE);
            assert_eq!(idle.read_at(&file, &mut word, 0).wait().unwrap(), 5);
            assert_eq!(
                idle.read_vectored_at(&file, &mut bufs, 0).wait().unwrap(),
                5
            );
            let plain = s.write_at(&file, b"B", 0);
            plain.wait().unwrap();
        });
        assert_eq!((&word, &piece), (b"begin", b"begin"));
        assert_eq!(content(&file), b"Begin 3 4 5");
    }
}

#[test]
fn a_sync_may_be_in_a_batch() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let file = Arc::new(scratch());
        let mut batch = aio.batch();
        let write = batch.push(aio.alloc().init_rw(file.clone(), Write, "text", 0));
        let sync = batch.push(aio.alloc().init_fdsync(file.clone()));
        assert!(batch.submit().is_empty());
        assert_eq!(write.wait().result.unwrap(), 4);
        assert_eq!(sync.wait().result.unwrap(), 0);
    }
}

#[test]
fn many_results_are_put_into_the_callers_vector() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let (file, mut pages) = (file_of(&pattern(3, 1024)), [[0; 512]; 3]);
        let mut results = vec![Ok(9), Ok(9), Ok(9)];
        let out = [(&b"ab"[..], 1022), (b"", 0)];
        aio.write_many_into(&file, out, &mut results);
        let counts: Vec<usize> = results.drain(..).map(Result::unwrap).collect();
        assert_eq!(counts, [2, 0]);
        let pieces = pages
            .iter_mut()
            .map(|page| &mut page[..])
            .zip([0, 512, 1024]);
        aio.read_many_into(&file, pieces, &mut results);
        let counts: Vec<usize> = results.drain(..).map(Result::unwrap).collect();
        assert_eq!(counts, [512, 512, 0]);
        assert!(pages.concat()[..1024] == content(&file));
    }
}

/// The inner one finds the memory of the thread's lists taken, and the next outer one finds it again.
#[test]
fn scopes_inside_scopes_keep_their_requests_apart() {
    let _watchdog = watchdog();
    let (aio, file) = (aio(), file_of(b"0123456789"));
    for _ in 0..3 {
        let (mut outer, mut inner) = ([0; 4], [0; 2]);
        aio.scope(|s| {
            let first = s.read_at(&file, &mut outer, 0);
            let count = aio.scope(|s| s.read_at(&file, &mut inner, 8).wait().unwrap());
            assert_eq!((count, first.wait().unwrap()), (2, 4));
        });
        assert_eq!((&outer, &inner), (b"0123", b"89"));
    }
}

/// A file whose descriptor can't be asked for.
struct Panics;

impl AsFd for Panics {
    fn as_fd(&self) -> BorrowedFd<'_> {
        panic!("on purpose")
    }
}

#[test]
fn a_file_that_panics_is_its_callers_panic_and_nothing_is_submitted() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let quietly = |call: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
        quietly(&|| drop(aio.read_exact_at(&Panics, &mut [0; 4], 0)));
        quietly(&|| drop(aio.with(RwFlags::DSYNC).write_all_at(&Panics, b"x", 0)));
        quietly(&|| drop(aio.fsync(&Panics)));
        let file = null();
        quietly(&|| {
            aio.scope(|s| {
                drop(s.fsync(&file));
                drop(s.fdatasync(&Panics));
            });
        });
        assert_eq!(aio.stats().in_flight, 0);
        assert_eq!(aio.write_at(&file, b"goes on", 0).unwrap(), 7);
    }
}

#[test]
fn after_shutdown_each_call_says_so() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let (file, mut buf) = (scratch(), [7; 4]);
        aio.shutdown(Duration::from_secs(60)).unwrap();
        let says_so = |result: io::Result<()>| {
            let error = result.unwrap_err();
            error.get_ref().and_then(|inner| inner.downcast_ref()) == Some(&AioError::ShutDown)
        };
        assert!(says_so(aio.read_exact_at(&file, &mut buf, 0)));
        assert!(says_so(
            aio.with(RwFlags::DSYNC).write_all_at(&file, &buf, 0)
        ));
        assert!(says_so(aio.fsync(&file)));
        assert!(says_so(aio.fdatasync(&file)));
        assert_eq!(
            errno(aio.scope(|s| s.fsync(&file).wait())),
            Some(libc::ECANCELED)
        );
        assert_eq!(buf, [7; 4]);
    }
}

#[test]
fn inside_a_callback_each_call_works() {
    let _watchdog = watchdog();
    for aio in contexts() {
        let (inside, file, over) = (aio.clone(), scratch(), Latch::default());
        let seen = over.clone();
        let outer = aio.alloc().init_rw(null(), Write, "x", 0);
        let outer = outer.init_callback(move |_| {
            let mut back = [0; 4];
            inside.write_all_at(&file, b"text", 0).unwrap();
            inside.fdatasync(&file).unwrap();
            inside.read_exact_at(&file, &mut back, 0).unwrap();
            inside.scope(|s| s.fsync(&file).wait()).unwrap();
            assert_eq!(&back, b"text");
            seen.open();
        });
        outer.submit().unwrap();
        aio.drain().unwrap();
        over.wait();
        assert_eq!(aio.stats().panics, 0);
    }
}

#[test]
fn in_a_forked_child_each_call_says_so() {
    alone("in_a_forked_child_each_call_says_so", || {
        for aio in contexts() {
            let (file, mut buf) = (scratch(), [7; 4]);
            aio.write_all_at(&file, b"text", 0).unwrap();
            // SAFETY: the child uses what a fork leaves usable: glibc's allocator, and its own memory.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                let passed = catch_unwind(AssertUnwindSafe(|| {
                    assert!(is_forked(aio.read_exact_at(&file, &mut buf, 0)));
                    assert!(is_forked(
                        aio.with(RwFlags::DSYNC).write_all_at(&file, b"x", 0)
                    ));
                    assert!(is_forked(aio.fsync(&file)));
                    assert!(is_forked(aio.fdatasync(&file)));
                    assert!(aio.scope(|s| s.fdatasync(&file).wait()).is_err());
                    assert_eq!(buf, [7; 4]);
                }));
                // SAFETY: ends this process without running what belongs to the parent.
                unsafe { libc::_exit(i32::from(passed.is_err())) }
            }
            let mut status = 0;
            // SAFETY: `status` is valid for the write.
            let ended = unsafe { libc::waitpid(pid, &raw mut status, 0) };
            assert_eq!((ended, status), (pid, 0));
            aio.read_exact_at(&file, &mut buf, 0).unwrap();
            assert_eq!(&buf, b"text");
        }
    });
}
