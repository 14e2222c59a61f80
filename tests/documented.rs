//! What the documentation says in numbers and no other test shows.
#![allow(
    unsafe_code,
    reason = "an allocator that counts, and a process without system calls"
)]

mod common;

use common::*;
use kiocb::op::{Rw, Write};
use kiocb::{Aio, BufPool, Dispatch, Iocb, SyncGroup, SyncKind};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: the system's allocator does it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(address, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread allocates in there.
fn allocations(run: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

fn manual() -> Aio {
    build(Aio::builder().dispatch(Dispatch::Manual))
}

#[test]
fn making_a_request_allocates_nothing() {
    assert_eq!(allocations(|| drop(Iocb::alloc())), 0);
}

/// Submits a write with a callback that has captured so many bytes; returns how often that allocates.
fn submit_with<const BYTES: usize>(aio: &Aio, file: &Arc<File>) -> usize {
    let (file, buf, captured) = (Arc::clone(file), Vec::new(), [1_u8; BYTES]);
    let request = aio.alloc().init_rw(file, Write, buf, 0);
    allocations(|| {
        let callback = move |_| assert_eq!(captured, [1; BYTES]);
        request.init_callback(callback).submit().unwrap();
    })
}

#[test]
fn a_closure_of_the_documented_size_needs_no_allocation() {
    let _watchdog = watchdog();
    let (aio, file) = (manual(), Arc::new(null()));
    // The thread's own memory for cells comes first.
    for _ in 0..2 {
        submit_with::<0>(&aio, &file);
        aio.drain().unwrap();
    }
    assert_eq!(submit_with::<48>(&aio, &file), 0);
    aio.drain().unwrap();
    assert_eq!(submit_with::<49>(&aio, &file), 1, "a larger one is boxed");
    aio.drain().unwrap();
}

#[test]
fn a_batch_goes_by_1024_requests_at_most_in_a_call() {
    let _watchdog = watchdog();
    let (aio, file) = (build(Aio::builder().depth(3000)), Arc::new(null()));
    if aio.stats().depth < 3000 {
        return skip("fs.aio-max-nr leaves no room for 3000 requests");
    }
    for (count, calls) in [(1, 1), (64, 1), (65, 1), (1024, 1), (1025, 2), (2049, 3)] {
        let before = aio.stats().submits;
        let mut batch = aio.batch();
        let write = || aio.alloc().init_rw(Arc::clone(&file), Write, [0; 1], 0);
        let handles: Vec<_> = (0..count).map(|_| batch.push(write())).collect();
        assert!(batch.submit().is_empty());
        assert_eq!(aio.stats().submits - before, calls, "{count}");
        handles
            .into_iter()
            .for_each(|handle| assert_eq!(handle.wait().result.unwrap(), 1));
    }
}

/// A thread that polls `aio` until the latch of the first callback opens; returns when it is inside.
fn poller(aio: &Aio) -> (Latch, std::thread::JoinHandle<usize>) {
    let (inside, go_on) = (Latch::default(), Latch::default());
    let (there, gone) = (inside.clone(), go_on.clone());
    let request = aio.alloc().init_rw(null(), Write, [0; 1], 0);
    let callback = move |_| {
        there.open();
        gone.wait();
    };
    request.init_callback(callback).submit().unwrap();
    let polling = aio.clone();
    let thread = std::thread::spawn(move || polling.poll(1, 1, None).unwrap());
    inside.wait();
    (go_on, thread)
}

#[test]
fn a_poll_for_nothing_does_not_wait_for_another_poller() {
    let _watchdog = watchdog();
    let aio = manual();
    let (go_on, first) = poller(&aio);
    assert_eq!(aio.poll(0, usize::MAX, None).unwrap(), 0);
    go_on.open();
    assert_eq!(first.join().unwrap(), 1);
}

#[test]
fn a_second_poller_waits_for_its_turn_until_its_time_is_over() {
    let _watchdog = watchdog();
    let aio = manual();
    let (go_on, first) = poller(&aio);
    let fates = Fates::default();
    let request = aio.alloc().init_rw(null(), Write, [0; 1], 0);
    request.init_callback(fates.callback()).submit().unwrap();
    let late = aio.poll(1, usize::MAX, Some(Duration::from_millis(5)));
    assert_eq!((late.unwrap(), fates.calls.get()), (0, 0));
    let second = {
        let polling = aio.clone();
        std::thread::spawn(move || polling.poll(1, usize::MAX, None).unwrap())
    };
    go_on.open();
    assert_eq!(first.join().unwrap(), 1);
    assert_eq!((second.join().unwrap(), fates.calls.get()), (1, 1));
}

#[test]
fn barriers_that_wait_together_share_one_sync_call() {
    let _watchdog = watchdog();
    let aio = aio();
    let group = SyncGroup::new(&aio, scratch());
    let fates = Fates::default();
    let write = group.track();
    for _ in 0..100 {
        let barrier = group.barrier(SyncKind::Data, fates.callback());
        assert!(barrier.is_ok());
    }
    assert_eq!(aio.stats().accepted, 0);
    write.end(&Ok(()));
    aio.drain().unwrap();
    assert_eq!((aio.stats().accepted, fates.calls.get()), (1, 100));
}

#[test]
fn under_manual_callbacks_run_in_every_call_that_waits_for_all() {
    let _watchdog = watchdog();
    type End = fn(Aio);
    let ends: [End; 4] = [
        |aio| aio.drain().unwrap(),
        |aio| aio.drain_timeout(Duration::from_secs(60)).unwrap(),
        |aio| aio.shutdown(Duration::from_secs(60)).unwrap(),
        drop,
    ];
    for end in ends {
        let (aio, here) = (manual(), std::thread::current().id());
        let fates = Fates::default();
        let count = fates.callback();
        let request = aio.alloc().init_rw(null(), Write, [0; 1], 0);
        let callback = move |_| {
            assert_eq!(std::thread::current().id(), here);
            count(());
        };
        request.init_callback(callback).submit().unwrap();
        assert_eq!(fates.calls.get(), 0);
        end(aio);
        assert_eq!(fates.calls.get(), 1);
    }
}

fn write_one(aio: &Aio, file: &Arc<File>) -> Iocb<Rw<Arc<File>, Write, [u8; 1]>> {
    aio.alloc().init_rw(Arc::clone(file), Write, [0; 1], 0)
}

/// Two callbacks are there together, and each submits two requests: returns the calls of `io_submit` for
/// these.
fn calls_of_a_round(aio: &Aio, file: &Arc<File>) -> u64 {
    for _ in 0..2 {
        let (inner, file_inside) = (aio.clone(), Arc::clone(file));
        let submit_two = move |_| {
            for _ in 0..2 {
                let request = write_one(&inner, &file_inside).init_callback(|_| ());
                request.submit().unwrap();
            }
        };
        let request = write_one(aio, file).init_callback(submit_two);
        request.submit().unwrap();
    }
    let before = aio.stats().submits;
    assert_eq!(aio.poll(2, 2, None).unwrap(), 2);
    let calls = aio.stats().submits - before;
    assert_eq!(aio.poll(4, usize::MAX, None).unwrap(), 4);
    calls
}

#[test]
fn a_new_contexts_callbacks_send_one_by_one_for_64_rounds() {
    let _watchdog = watchdog();
    let (aio, file) = (manual(), null());
    let rounds: Vec<u64> = (0..100).map(|_| calls_of_a_round(&aio, &file)).collect();
    assert_eq!(rounds[0], 2, "one call after each callback");
    // A round that the machine interrupts for long counts as slow.
    assert!(rounds[64..].contains(&1), "one call for both: {rounds:?}");
}

#[test]
fn taking_a_buffer_and_giving_it_back_makes_no_system_call() {
    // SAFETY: the child uses what a fork leaves usable, and ends by the one call that it is left.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        take_without_system_calls();
    }
    let mut status = 0;
    // SAFETY: `status` is valid for the write.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "9: a system call was made");
}

fn take_without_system_calls() -> ! {
    let pool = BufPool::builder(4, 4096).prefault(true).build().unwrap();
    drop(pool.take());
    // SAFETY: from here on any system call but read, write, _exit and sigreturn kills.
    unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
    for _ in 0..1000 {
        let mut first = pool.take();
        first[0] = 1;
        drop((pool.try_take(), pool.try_take(), first));
    }
    // SAFETY: ends this process, by its only thread.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!()
}
