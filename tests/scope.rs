//! Borrowed files and memory: read and written in place, and never left to the kernel when the scope is over.

mod common;

use common::*;
use kiocb::op::{Read, Write};
use kiocb::{Aio, Dispatch};
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

const KINDS: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];
const PAGE: usize = 4096;
const P: u64 = PAGE as u64;

fn of(dispatch: Dispatch, depth: u32) -> Aio {
    build(Aio::builder().dispatch(dispatch).depth(depth))
}

fn pages(count: usize) -> (Vec<u8>, File) {
    let bytes = pattern(9, count * PAGE);
    let file = file_of(&bytes);
    (bytes, file)
}

/// Whatever was in flight is over: the scope has waited for it.
#[track_caller]
fn all_over(aio: &Aio, count: u64) {
    let stats = aio.stats();
    assert_eq!((stats.accepted, stats.completed), (count, count));
}

#[test]
fn sixty_four_pages_are_read_into_one_array_by_one_system_call() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch, 64);
        let (bytes, file) = pages(64);
        let mut frames = vec![0; 64 * PAGE];
        aio.scope(|s| {
            let frames = frames.chunks_mut(PAGE).zip((0..).step_by(PAGE));
            let reads: Vec<_> = frames
                .map(|(frame, at)| s.read_at(&file, frame, at))
                .collect();
            assert_eq!(aio.stats().submits, 0, "all go together");
            for read in reads {
                assert_eq!(read.wait().unwrap(), PAGE);
            }
        });
        assert!(frames == bytes);
        assert_eq!(aio.stats().submits, 1);
        all_over(&aio, 64);
    }
}

#[test]
fn the_end_of_the_closure_waits_for_what_nobody_waited_for() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch, 64);
        let (bytes, file) = pages(16);
        let mut frames = vec![0; 16 * PAGE];
        aio.scope(|s| {
            let mut forgotten = Vec::new();
            for (place, frame) in frames.chunks_mut(PAGE).enumerate() {
                let read = s.read_at(&file, frame, place as u64 * P);
                match place % 3 {
                    0 => forgotten.push(read),
                    1 => s.submit(),
                    _ => {}
                }
            }
            std::mem::forget(forgotten);
        });
        assert!(frames == bytes);
        all_over(&aio, 16);
    }
}

#[test]
fn results_come_back_for_each_request() {
    let _watchdog = watchdog();
    let aio = aio();
    let (_, file) = pages(1);
    let write_only = File::options().write(true).open("/dev/null").unwrap();
    let (mut whole, mut part, mut none, mut refused) = ([0; 16], [0; 16], [0; 16], [0; 16]);
    let out = b"out";
    aio.scope(|s| {
        let refused = s.read_at(&write_only, &mut refused, 0);
        let whole = s.read_at(&file, &mut whole, 0);
        let part = s.read_at(&file, &mut part, P - 3);
        let none = s.read_at(&file, &mut none, P);
        let beyond = s.write_at(&write_only, out, u64::MAX);
        let written = s.write_at(&write_only, out, 7);
        assert_eq!(none.wait().unwrap(), 0);
        assert_eq!(part.wait().unwrap(), 3);
        assert_eq!(written.wait().unwrap(), 3);
        assert_eq!(whole.wait().unwrap(), 16);
        let errno = |result: io::Result<usize>| result.unwrap_err().raw_os_error().unwrap();
        assert_eq!(errno(beyond.wait()), libc::EINVAL);
        assert_eq!(errno(refused.wait()), libc::EBADF);
    });
    assert_eq!(refused, [0; 16]);
    all_over(&aio, 4);
}

#[test]
fn the_value_of_the_closure_is_returned() {
    let _watchdog = watchdog();
    let (aio, mut buf) = (aio(), [0; 5]);
    let file = file_of(b"bytes");
    let count = aio.scope(|s| s.read_at(&file, &mut buf, 0).wait());
    assert_eq!((count.unwrap(), &buf), (5, b"bytes"));
    assert_eq!(aio.scope(|_| "nothing to do"), "nothing to do");
    let error = aio.scope(|s| -> io::Result<()> {
        let mut late = s.write_at(&file, b"BYTES", 0);
        late = s.write_at(&file, b"X", 0).wait().map(|_| late)?;
        Err(io::Error::other(format!("{late:?} is not over")))
    });
    assert!(error.unwrap_err().to_string().contains("ScopedIo"));
    all_over(&aio, 3);
}

#[test]
fn a_panic_goes_on_when_everything_is_complete() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch, 8);
        let (bytes, file) = pages(32);
        let mut frames = vec![0; 32 * PAGE];
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            aio.scope(|s| {
                for (frame, at) in frames.chunks_mut(PAGE).zip((0..).step_by(PAGE)) {
                    drop(s.read_at(&file, frame, at));
                }
                s.submit();
                resume_unwind(Box::new("on purpose"))
            })
        }));
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"on purpose"));
        assert!(frames == bytes);
        all_over(&aio, 32);
    }
}

#[test]
fn an_error_in_the_middle_leaves_early_and_nothing_behind() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch, 8);
        let (bytes, file) = pages(32);
        let write_only = File::options().write(true).open("/dev/null").unwrap();
        let mut frames = vec![0; 32 * PAGE];
        let outcome = aio.scope(|s| -> io::Result<()> {
            let mut reads = Vec::new();
            for (place, frame) in frames.chunks_mut(PAGE).enumerate() {
                let file = if place == 5 { &write_only } else { &file };
                reads.push(s.read_at(file, frame, place as u64 * P));
            }
            for read in reads {
                read.wait()?;
            }
            Ok(())
        });
        assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::EBADF));
        frames[5 * PAGE..6 * PAGE].copy_from_slice(&bytes[5 * PAGE..6 * PAGE]);
        assert!(frames == bytes);
        let stats = aio.stats();
        assert_eq!(
            (stats.completed, stats.in_flight, stats.queued),
            (stats.accepted, 0, 0)
        );
    }
}

#[test]
fn more_requests_than_slots_go_through() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch, 3);
        let (bytes, file) = pages(256);
        let mut frames = vec![0; 256 * PAGE];
        let read = aio.scope(|s| {
            let frames = frames.chunks_mut(PAGE).zip((0..).step_by(PAGE));
            let reads: Vec<_> = frames
                .map(|(frame, at)| s.read_at(&file, frame, at))
                .collect();
            let counts = reads.into_iter().rev().map(|read| read.wait().unwrap());
            counts.sum::<usize>()
        });
        assert_eq!(read, 256 * PAGE);
        assert!(frames == bytes);
        all_over(&aio, 256);
    }
}

#[test]
fn requests_may_follow_each_other_inside() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, file) = (of(dispatch, 8), scratch());
        let mut back = vec![0; 8];
        let stop = Cell::new(false);
        aio.scope(|s| {
            for place in 0..8 {
                assert_eq!(s.write_at(&file, b"x", place).wait().unwrap(), 1);
            }
            let read = s.read_at(&file, &mut back, 0);
            stop.set(true);
            assert_eq!(read.wait().unwrap(), 8);
        });
        assert!(stop.get() && back == b"xxxxxxxx");
        all_over(&aio, 9);
    }
}

#[test]
fn scopes_nest() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch, 2);
        let other = of(dispatch, 2);
        let file = file_of(b"0123456789");
        let (mut outer, mut inner, mut strange) = ([0; 4], [0; 3], [0; 2]);
        aio.scope(|s| {
            let first = s.read_at(&file, &mut outer, 0);
            aio.scope(|t| {
                drop(t.read_at(&file, &mut inner, 4));
                other.scope(|u| assert_eq!(u.read_at(&file, &mut strange, 7).wait().unwrap(), 2));
            });
            assert_eq!((&inner, &strange), (b"456", b"78"));
            assert_eq!(first.wait().unwrap(), 4);
        });
        assert_eq!(&outer, b"0123");
        all_over(&aio, 2);
    }
}

#[test]
fn a_callback_may_have_a_scope() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, file) = (of(dispatch, 1), Arc::new(file_of(b"bytes")));
        let (send, receive) = mpsc::channel();
        let inner = aio.clone();
        aio.alloc()
            .init_rw(null(), Read, [0; 1], 0)
            .init_callback(move |_| {
                let mut buf = [0; 5];
                // Behind what this callback has submitted.
                let write = inner.alloc().init_rw(null(), Write, [0; 1], 0);
                write.init_callback(drop).submit().unwrap();
                let count = inner.scope(|s| s.read_at(&file, &mut buf, 0).wait());
                send.send((count.unwrap(), buf)).unwrap();
            })
            .submit()
            .unwrap();
        aio.drain().unwrap();
        assert_eq!(receive.recv().unwrap(), (5, *b"bytes"));
        all_over(&aio, 3);
    }
}

#[test]
fn the_short_forms_read_and_write_in_place() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, file) = (of(dispatch, 4), scratch());
        assert_eq!(aio.write_at(&file, b"0123456789", 2).unwrap(), 10);
        let mut buf = [0; 4];
        assert_eq!(aio.read_at(&file, &mut buf, 5).unwrap(), 4);
        assert_eq!(&buf, b"3456");
        assert_eq!(
            aio.read_at(&file, &mut buf, 10).unwrap(),
            2,
            "short at the end"
        );
        let refused = aio.write_at(&File::open("/dev/null").unwrap(), b"x", 0);
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}

#[test]
fn the_short_forms_for_many_take_one_system_call_and_keep_each_result() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, file) = (of(dispatch, 64), scratch());
        let bytes = pattern(10, 64 * 100);
        let pieces = bytes.chunks(100).zip((0..).step_by(100));
        let written = aio.write_many(&file, pieces);
        assert!(written.into_iter().all(|result| result.unwrap() == 100));
        assert_eq!(aio.stats().submits, 1);

        let mut back = vec![0; 65 * 100];
        let pieces = back.chunks_mut(100).zip((0..).step_by(100));
        let mut read = aio.read_many(&file, pieces.rev_pairs());
        assert_eq!(read.remove(0).unwrap(), 0, "beyond the end");
        assert!(read.into_iter().all(|result| result.unwrap() == 100));
        assert!(back[..6400] == bytes);
        let nothing: Vec<(&mut [u8], u64)> = Vec::new();
        assert!(aio.read_many(&file, nothing).is_empty());

        let mut bufs = [[0; 4]; 3];
        let offsets = [0, u64::MAX, 4].into_iter();
        let pieces = bufs.iter_mut().map(|buf| &mut buf[..]).zip(offsets);
        let read = aio.read_many(&file, pieces);
        assert!(read[0].is_ok() && read[1].is_err() && read[2].is_ok());
    }
}

/// The last first.
trait RevPairs: Iterator + Sized {
    fn rev_pairs(self) -> std::iter::Rev<std::vec::IntoIter<Self::Item>> {
        self.collect::<Vec<_>>().into_iter().rev()
    }
}

impl<I: Iterator> RevPairs for I {}

#[test]
fn an_iterator_that_panics_leaves_nothing_in_flight() {
    let _watchdog = watchdog();
    let aio = aio();
    let (_, file) = pages(8);
    let mut frames = vec![0; 8 * PAGE];
    let pieces = frames.chunks_mut(PAGE).enumerate().map(|(place, frame)| {
        if place == 6 {
            resume_unwind(Box::new("on purpose"));
        }
        (frame, place as u64 * P)
    });
    assert!(catch_unwind(AssertUnwindSafe(|| aio.read_many(&file, pieces))).is_err());
    all_over(&aio, 6);
}

#[test]
fn after_shutdown_every_request_says_so() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let (aio, mut buf) = (of(dispatch, 4), [7; 4]);
        aio.shutdown(Duration::from_secs(60)).unwrap();
        let file = null();
        aio.scope(|s| {
            let read = s.read_at(&file, &mut buf, 0);
            drop(s.write_at(&file, b"x", 0));
            assert_eq!(
                read.wait().unwrap_err().raw_os_error(),
                Some(libc::ECANCELED)
            );
        });
        assert_eq!(buf, [7; 4]);
    }
}

#[test]
fn scopes_of_many_threads_share_one_context() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch, 5);
        let (bytes, file) = pages(64);
        thread::scope(|threads| {
            for seed in 0..4 {
                let (aio, bytes, file) = (&aio, &bytes, &file);
                threads.spawn(move || {
                    let mut random = Random(seed);
                    let mut frames = vec![0; 16 * PAGE];
                    for _ in 0..50 {
                        let order: Vec<usize> = (0..16).map(|_| random.below(64)).collect();
                        aio.scope(|s| {
                            for (frame, page) in frames.chunks_mut(PAGE).zip(&order) {
                                drop(s.read_at(file, frame, *page as u64 * P));
                            }
                        });
                        for (frame, page) in frames.chunks(PAGE).zip(&order) {
                            assert!(frame == &bytes[page * PAGE..][..PAGE]);
                        }
                    }
                });
            }
        });
        all_over(&aio, 4 * 50 * 16);
    }
}

/// What blocks its submitter blocks the scope, and no longer than that.
#[test]
fn a_scope_waits_for_a_pipe_that_somebody_else_fills() {
    let _watchdog = watchdog();
    for dispatch in KINDS {
        let aio = of(dispatch, 4);
        let (reader, writer) = io::pipe().unwrap();
        let (reader, writer) = (OwnedFd::from(reader), File::from(OwnedFd::from(writer)));
        let mut buf = [0; 5];
        thread::scope(|threads| {
            threads.spawn(|| aio.write_at(&writer, b"bytes", 0).unwrap());
            assert_eq!(aio.read_at(&reader, &mut buf, 0).unwrap(), 5);
        });
        assert_eq!(&buf, b"bytes");
    }
}

/// The file is borrowed as well: whoever owns it can use it meanwhile, and may close it afterwards.
#[test]
fn the_file_is_free_again_afterwards() {
    let _watchdog = watchdog();
    let (aio, file, mut buf) = (aio(), file_of(b"bytes"), [0; 5]);
    aio.scope(|s| {
        let read = s.read_at(&file, &mut buf, 0);
        file.write_all_at(b"B", 0).unwrap();
        read.wait().unwrap();
    });
    drop(file);
    assert_eq!(buf[1..], *b"ytes");
}
