//! What other code in the process may do to a context behind its back: destroy it, unmap its ring, write to it.
//! It is that code's fault; what is asked for here is that the process hears of it, and gets stuck nowhere.

mod kit;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use kiocb::op::Read;
use kiocb::{Aio, AioError, Dispatch};
use kiocb_faults::{
    Child, Filter, SlowFs, Watchdog, in_child, need, need_root, wait_until_asleep_in,
};
use kit::*;

/// The number of the only AIO context of this process, which is its ring's address, and how long the ring is.
fn the_ring() -> (u64, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let rings: Vec<_> = maps.lines().filter(|line| line.contains("[aio]")).collect();
    assert_eq!(rings.len(), 1, "{maps}");
    let range = rings[0].split(' ').next().unwrap();
    let (from, to) = range.split_once('-').unwrap();
    let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).unwrap());
    (from, (to - from) as usize)
}

/// Destroys it, as some careless library might.
fn destroy_the_context() {
    // SAFETY: nothing is in flight, and the completion thread is parked: nobody reads the ring.
    unsafe { kiocb::sys::io_destroy(the_ring().0) }.unwrap();
}
#[test]
fn a_context_destroyed_behind_its_back_is_told_from_a_bad_request() {
    in_child(
        "a_context_destroyed_behind_its_back_is_told_from_a_bad_request",
        || {
            let aio = named("bereaved").build().unwrap();
            let file = Arc::new(tempfile::tempfile().unwrap());
            let request = || aio.alloc().init_rw(Arc::clone(&file), Read, vec![0; 1], 0);
            assert_eq!(request().wait().unwrap().result.unwrap(), 0);
            wait_until_asleep_in(thread_named("bereaved"), libc::SYS_futex);
            destroy_the_context();
            let gone =
                |error: &io::Error| assert_eq!(unavailable(error), Some(AioError::ContextGone));
            gone(request().wait().unwrap_err().error());
            gone(request().start().unwrap_err().error());
            gone(
                request()
                    .init_callback(|_| unreachable!())
                    .submit()
                    .unwrap_err()
                    .error(),
            );
            let bad = aio
                .alloc()
                .init_rw(Arc::clone(&file), Read, vec![0; 1], u64::MAX);
            gone(bad.wait().unwrap_err().error()); // no request can be judged any more
            assert_eq!(aio.stats().accepted, 1);
            drop(aio); // comes back
        },
    )
    .success();
}

#[test]
fn a_context_destroyed_while_a_thread_sleeps_in_it_is_gone_for_all() {
    need_root!();
    const TEST: &str = "a_context_destroyed_while_a_thread_sleeps_in_it_is_gone_for_all";
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let child = Child::of(TEST).case(&format!("{dispatch:?}"));
        let exit = child.run(|| {
            let _watchdog = Watchdog::new("a destroyed context");
            listen_to_log();
            let fs = need!(SlowFs::new());
            let file = Arc::new(fs.file("f", blocks(4)));
            let gate = fs.hold_reads(0..u64::MAX);
            let aio = Aio::builder().depth(4).dispatch(dispatch).build().unwrap();
            let (done, completions) = channel();
            read_to(&aio, &file, 0, &done);
            let waiting = read(&aio, &file, 1).start().unwrap();
            let mut waiter = Worker::start(move || waiting.wait().result);
            gate.wait_for(2);
            waiter.wait_until_waiting();
            if dispatch != Dispatch::Manual {
                wait_until_waiting(thread_named("kiocb")); // a thread that reads the ring just now would fault
            }
            let context = the_ring().0;
            // It waits for the reads.
            let destroyer = Worker::start(move || {
                // SAFETY: the kernel takes the number alone; that the ring goes is what is tried.
                unsafe { kiocb::sys::io_destroy(context) }
            });
            wait_for_log("destroyed behind our back");
            gate.release();
            destroyer.join().unwrap();
            let refused = read(&aio, &file, 2).wait().unwrap_err();
            assert_eq!(unavailable(refused.error()), Some(AioError::ContextGone));
            let lost = aio.shutdown(Duration::from_secs(30)).unwrap_err();
            assert_eq!(unavailable(&lost), Some(AioError::ContextGone));
            assert!(completions.try_recv().is_err() && waiter.is_done().is_none());
            std::process::exit(0); // the waiter's memory is the kernel's for ever
        });
        exit.success();
    }
}

#[test]
fn a_ring_unmapped_by_hand_is_a_context_that_is_gone() {
    const TEST: &str = "a_ring_unmapped_by_hand_is_a_context_that_is_gone";
    let child = Child::of(TEST).env("KIOCB_FORCE_SYSCALLS", "1");
    let exit = child.run(|| {
        let _watchdog = Watchdog::new("an unmapped ring");
        let aio = named("unmapped").build().unwrap();
        let file = Arc::new(tempfile::tempfile().unwrap());
        assert_eq!(read(&aio, &file, 0).wait().unwrap().result.unwrap(), 0);
        wait_until_asleep_in(thread_named("unmapped"), libc::SYS_futex);
        let (ring, length) = the_ring();
        // SAFETY: in this mode nobody reads the ring.
        unsafe { libc::munmap(ring as *mut libc::c_void, length) };
        let refused = read(&aio, &file, 0).wait().unwrap_err();
        assert_eq!(unavailable(refused.error()), Some(AioError::ContextGone));
        drop(aio);
    });
    exit.success();
}

/// Writes to the head of the ring, the third word of its header (`struct aio_ring` of fs/aio.c). The kernel has its
/// own copy of the tail.
fn forge_head(value: u32) {
    let ring = the_ring().0 as *mut u32;
    // SAFETY: a word of a mapping that others only use with atomic operations.
    let head = unsafe { AtomicU32::from_ptr(ring.add(2)) };
    head.store(value, Ordering::SeqCst);
}

/// The reader would read beyond the end of the ring, and a thread that waits would not sleep: the event that is
/// there is none that can be taken. (The kernel, which reads the ring where events are taken by system calls,
/// believes what is in it.)
#[test]
fn a_ring_whose_head_is_forged_is_not_read_and_its_context_is_lost() {
    const TEST: &str = "a_ring_whose_head_is_forged_is_not_read_and_its_context_is_lost";
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let child = Child::of(TEST).case(&format!("{dispatch:?}"));
        let exit = child.env("KIOCB_FORCE_SYSCALLS", "0").run(|| {
            let _watchdog = Watchdog::new("a forged ring");
            listen_to_log();
            let aio = Aio::builder().depth(4).dispatch(dispatch).build().unwrap();
            let file = Arc::new(tempfile::tempfile().unwrap());
            assert_eq!(read(&aio, &file, 0).wait().unwrap().result.unwrap(), 0);
            forge_head(u32::MAX - 3);
            let waiting = read(&aio, &file, 0).start().unwrap();
            let waiter = Worker::start(move || drop(waiting.wait()));
            wait_for_log("has written to the ring");
            waiter.wait_until_parked();
            is_lost(&aio, &file);
            std::process::exit(0); // the waiter's memory is the kernel's for ever
        });
        exit.success();
    }
}

/// Nothing new is accepted, and nothing is waited for.
fn is_lost(aio: &Aio, file: &Arc<File>) {
    let gone = Some(AioError::ContextGone);
    assert_eq!(
        unavailable(read(aio, file, 0).wait().unwrap_err().error()),
        gone
    );
    assert_eq!(
        unavailable(read(aio, file, 0).start().unwrap_err().error()),
        gone
    );
    let callback = read(aio, file, 0).init_callback(|_| unreachable!());
    assert_eq!(unavailable(callback.submit().unwrap_err().error()), gone);
    assert_eq!(
        unavailable(&aio.read_at(file, &mut [0], 0).unwrap_err()),
        gone
    );
    assert_eq!(unavailable(&aio.drain().unwrap_err()), gone);
}

/// Where events are taken by system calls and a filter refuses that one, no event comes either.
#[test]
fn a_context_whose_events_are_refused_is_lost() {
    const TEST: &str = "a_context_whose_events_are_refused_is_lost";
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let child = Child::of(TEST).case(&format!("{dispatch:?}"));
        let exit = child.env("KIOCB_FORCE_SYSCALLS", "1").run(|| {
            let _watchdog = Watchdog::new("refused events");
            listen_to_log();
            let aio = Aio::builder().depth(4).dispatch(dispatch).build().unwrap();
            let file = Arc::new(tempfile::tempfile().unwrap());
            Filter::new()
                .fail(libc::SYS_io_getevents, libc::EPERM)
                .install();
            let waiting = read(&aio, &file, 0).start().unwrap();
            let _waiter = Worker::start(move || drop(waiting.wait()));
            wait_for_log("the call is refused");
            is_lost(&aio, &file);
            std::process::exit(0); // as above
        });
        exit.success();
    }
}
