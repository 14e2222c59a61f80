//! The pool: who has which buffer, what waiting does, and where the memory goes.
#![allow(
    unsafe_code,
    reason = "mincore and seccomp tell and change what the kernel does with the pages"
)]

mod common;
#[path = "common/seccomp.rs"]
mod seccomp;

use common::*;
use kiocb::buf::{HugePages, IoBuf, IoBufMut, PoolBuf};
use kiocb::op::Write;
use kiocb::{Aio, BufPool, Dispatch};
use std::collections::HashSet;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

fn all(pool: &BufPool) -> Vec<PoolBuf> {
    std::iter::from_fn(|| pool.try_take()).collect()
}

#[test]
fn a_pool_hands_out_each_buffer_once() {
    let pool = BufPool::new(100, 8192).unwrap();
    assert_eq!(
        (
            pool.count(),
            pool.available(),
            pool.buffer_size(),
            pool.alignment()
        ),
        (100, 100, 8192, 4096)
    );
    let mut bufs = all(&pool);
    assert_eq!((bufs.len(), pool.available()), (100, 0));
    let places: HashSet<_> = bufs.iter().map(|buf| buf.buf_ptr() as usize).collect();
    assert_eq!(places.len(), 100);
    for (mark, buf) in (1..).zip(&mut bufs) {
        assert!(
            buf.iter().all(|&byte| byte == 0),
            "zero at first, and no neighbour writes here"
        );
        buf.fill(mark);
    }
    for (mark, buf) in (1..).zip(&bufs) {
        assert!(buf.iter().all(|&byte| byte == mark));
    }
    drop(bufs);
    assert_eq!(pool.available(), 100);
}

#[test]
fn buffers_have_the_size_and_alignment_that_were_asked_for() {
    for (size, alignment) in [
        (1, 1),
        (512, 512),
        (513, 512),
        (4096, 4096),
        (5000, 4096),
        (100, 1 << 16),
        (8, 1 << 22),
    ] {
        let pool = BufPool::builder(5, size)
            .alignment(alignment)
            .build()
            .unwrap();
        assert_eq!(pool.alignment(), alignment);
        for mut buf in all(&pool) {
            assert_eq!(
                (buf.len(), buf.buf_len(), buf.buf_capacity()),
                (size, size, size)
            );
            assert_eq!(buf.buf_mut_ptr() as usize % alignment, 0);
            buf.fill(1);
        }
    }
}

#[test]
fn a_buffer_that_comes_back_is_handed_out_next_with_its_old_bytes() {
    let pool = BufPool::new(2, 64).unwrap();
    let mut buf = pool.take();
    let place = buf.buf_ptr();
    buf.fill(7);
    drop(buf);
    let again = pool.take();
    assert_eq!(again.buf_ptr(), place);
    assert!(again.iter().all(|&byte| byte == 7));
}

#[test]
fn an_empty_pool_says_so_or_waits_no_longer_than_told() {
    let pool = BufPool::new(1, 64).unwrap();
    let only = pool.take_timeout(Duration::ZERO).expect("one is free");
    assert!(pool.try_take().is_none());
    assert!(pool.take_timeout(Duration::ZERO).is_none());
    assert!(pool.take_timeout(Duration::from_millis(1)).is_none());
    drop(only);
    assert!(pool.take_timeout(Duration::MAX).is_some());
}

#[test]
fn whoever_waits_gets_the_buffer_that_another_thread_drops() {
    let pool = BufPool::new(1, 64).unwrap();
    for wait in [
        |pool: &BufPool| pool.take(),
        |pool: &BufPool| pool.take_timeout(Duration::from_secs(600)).unwrap(),
    ] {
        let mut held = pool.take();
        held.fill(9);
        let waiter = thread::spawn({
            let pool = pool.clone();
            move || wait(&pool)[0]
        });
        thread::yield_now();
        drop(held);
        assert_eq!(waiter.join().unwrap(), 9);
    }
}

#[test]
fn more_threads_than_buffers_never_share_one_and_never_starve() {
    const THREADS: u8 = 8;
    let pool = BufPool::new(3, 256).unwrap();
    let (start, out) = (Barrier::new(THREADS.into()), AtomicUsize::new(0));
    thread::scope(|scope| {
        for me in 0..THREADS {
            let (pool, start, out) = (&pool, &start, &out);
            scope.spawn(move || {
                start.wait();
                for round in 0..2000 {
                    let mut buf = match round % 3 {
                        0 => pool
                            .take_timeout(Duration::from_micros(50))
                            .unwrap_or_else(|| pool.take()),
                        _ => pool.take(),
                    };
                    assert!(out.fetch_add(1, Ordering::Relaxed) < 3);
                    buf.fill(me);
                    thread::yield_now();
                    assert!(buf.iter().all(|&byte| byte == me));
                    out.fetch_sub(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(pool.available(), 3);
}

#[test]
fn a_buffer_outlives_its_pool() {
    let pool = BufPool::new(2, 4096).unwrap();
    let mut buf = pool.take();
    drop(pool);
    buf.fill(3);
    let buf = thread::spawn(move || buf).join().unwrap();
    assert!(buf.iter().all(|&byte| byte == 3));
}

/// Pages of address space that this process has mapped.
fn mapped_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn the_memory_goes_with_the_last_handle_or_buffer() {
    let before = mapped_bytes();
    for round in 0..2000 {
        let pool = BufPool::builder(64, 1 << 20)
            .huge_pages(HugePages::Transparent)
            .build()
            .unwrap();
        let buf = pool.take();
        // Either may be the last.
        if round % 2 == 0 {
            drop((pool, buf))
        } else {
            drop((buf, pool))
        }
    }
    // 125 GiB have been mapped; whatever other tests map meanwhile is far less.
    assert!(mapped_bytes() < before + (32 << 30));
}

#[test]
fn a_forgotten_buffer_is_lost_and_nothing_else() {
    let pool = BufPool::new(2, 64).unwrap();
    std::mem::forget(pool.take());
    assert_eq!(pool.available(), 1);
    let other = pool.take();
    assert!(pool.try_take().is_none());
    drop(other);
    assert_eq!(pool.available(), 1);
}

#[test]
fn a_pool_that_cannot_be_is_an_error() {
    let build = |count, size, alignment| BufPool::builder(count, size).alignment(alignment).build();
    let nonsense = [
        (0, 1, 1),
        (1, 0, 1),
        (1, 1, 0),
        (1, 1, 3),
        (usize::MAX, 1, 1),
        (2, usize::MAX, 1),
        (3, usize::MAX / 2, 1),
    ];
    for (count, size, alignment) in nonsense {
        let error = build(count, size, alignment).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::InvalidInput,
            "{count} {size} {alignment}: {error}"
        );
    }
    for (size, alignment) in [(isize::MAX as usize, 1), (1 << 60, 1), (1, 1 << 62)] {
        let error = build(1, size, alignment).unwrap_err();
        assert_eq!(
            error.raw_os_error(),
            Some(libc::ENOMEM),
            "{size} {alignment}: {error}"
        );
        let error = BufPool::builder(1, size)
            .huge_pages(HugePages::Reserved)
            .build()
            .map(drop);
        assert!(size == 1 || error.is_err());
    }
}

/// How many of the pages below the buffers are present.
fn present(bufs: &[PoolBuf]) -> usize {
    let mut present = 0;
    for buf in bufs {
        let mut page = 0u8;
        // SAFETY: one page of a live mapping, one byte for the answer.
        let result = unsafe { libc::mincore(buf.buf_ptr().cast_mut().cast(), 4096, &raw mut page) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        present += usize::from(page & 1);
    }
    present
}

#[test]
fn prefaulting_makes_every_page_present() {
    let build = |prefault| {
        BufPool::builder(64, 4096)
            .prefault(prefault)
            .build()
            .unwrap()
    };
    assert_eq!(present(&all(&build(false))), 0);
    assert_eq!(present(&all(&build(true))), 64);
}

#[test]
fn prefaulting_works_on_kernels_without_a_call_for_it() {
    let pool = thread::spawn(|| {
        seccomp::refuse(libc::SYS_madvise, libc::EINVAL);
        BufPool::builder(64, 4096)
            .huge_pages(HugePages::Transparent)
            .prefault(true)
            .build()
            .unwrap()
    });
    let pool = pool.join().unwrap();
    assert_eq!(
        pool.huge_pages(),
        HugePages::Never,
        "madvise has been refused"
    );
    let bufs = all(&pool);
    assert_eq!(present(&bufs), 64);
    assert!(bufs.iter().all(|buf| buf.iter().all(|&byte| byte == 0)));
}

#[test]
fn huge_pages_are_used_where_they_are_and_do_without_where_not() {
    for asked in [
        HugePages::Never,
        HugePages::Transparent,
        HugePages::Reserved,
    ] {
        let pool = BufPool::builder(300, 8192)
            .huge_pages(asked)
            .prefault(true)
            .build()
            .unwrap();
        let got = pool.huge_pages();
        assert!(
            got == asked || asked == HugePages::Reserved || got == HugePages::Never,
            "{asked:?} gave {got:?}"
        );
        let mut bufs = all(&pool);
        let marks = || (0..=u8::MAX).cycle();
        for (mark, buf) in marks().zip(&mut bufs) {
            buf.fill(mark);
        }
        let is_all = |(mark, buf): (u8, &PoolBuf)| buf.iter().all(|&byte| byte == mark);
        assert!(marks().zip(&bufs).all(is_all));
        if got != HugePages::Never {
            let start = bufs.iter().map(|buf| buf.buf_ptr() as usize).min().unwrap();
            assert_eq!(start % (1 << 20), 0, "no huge page starts anywhere else");
        }
    }
}

#[test]
fn pool_and_buffer_show_their_shape() {
    let pool = BufPool::new(4, 64).unwrap();
    let buf = pool.take();
    assert_eq!(
        format!("{pool:?}"),
        "BufPool { count: 4, available: 3, buffer_size: 64, alignment: 4096, huge_pages: Never }"
    );
    assert_eq!(format!("{buf:?}"), "PoolBuf { len: 64, index: 0 }");
}

#[test]
fn a_pool_buffer_is_a_buffer_like_any_other() {
    let pool = BufPool::new(2, 8).unwrap();
    let mut cell = Box::new(pool.take().buf_slice(2..6));
    assert_eq!(cell.buf_capacity(), 4);
    let target = cell.buf_mut_ptr();
    // SAFETY: good for four writes, and nobody touches the buffer meanwhile.
    unsafe { target.copy_from_nonoverlapping(b"page".as_ptr(), 4) };
    // SAFETY: just written.
    unsafe { cell.set_init(4) };
    assert_eq!(&cell[..], b"page");
    assert_eq!(cell.into_inner()[..], *b"\0\0page\0\0");
}

/// Inside a callback, after it has submitted a write to a pipe; another thread gives the pool's only buffer
/// back when the write arrives.
fn take_behind_a_write(dispatch: Dispatch, take: fn(&BufPool) -> PoolBuf) {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().dispatch(dispatch));
    let pool = BufPool::new(1, 64).unwrap();
    let (mut reader, writer) = io::pipe().unwrap();
    let held = pool.take();
    let returner = thread::spawn(move || {
        reader.read_exact(&mut [0]).unwrap();
        drop(held);
    });
    let (inner, taken) = (aio.clone(), Counter::default());
    let count = taken.clone();
    let request = aio.alloc().init_rw(null(), Write, [0; 4], 0);
    let callback = move |_| {
        let write = inner
            .alloc()
            .init_rw(OwnedFd::from(writer), Write, [0; 1], 0);
        write
            .init_callback(|done| assert_eq!(done.result.unwrap(), 1))
            .submit()
            .unwrap();
        drop(take(&pool));
        count.add();
    };
    request.init_callback(callback).submit().unwrap();
    aio.drain().unwrap();
    assert_eq!(taken.get(), 1);
    returner.join().unwrap();
}

#[test]
fn what_a_callback_submitted_is_sent_before_it_waits_for_a_buffer() {
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        take_behind_a_write(dispatch, |pool| pool.take());
        take_behind_a_write(dispatch, |pool| {
            pool.take_timeout(Duration::from_secs(600)).unwrap()
        });
    }
}
