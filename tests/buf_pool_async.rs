//! Tasks that wait for a buffer of a pool; and buffers that are shared while they are written.

mod common;

use common::*;
use kiocb::BufPool;
use kiocb::buf::{PoolBuf, TakeBuf};
use kiocb::op::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;

fn pool(count: usize) -> BufPool {
    BufPool::new(count, 64).unwrap()
}

/// Which tasks were woken, in order.
#[derive(Clone, Default)]
struct Woken(Arc<Mutex<Vec<usize>>>);

impl Woken {
    fn waker(&self, number: usize) -> Waker {
        let woken = self.clone();
        waker_that(move || woken.0.lock().unwrap().push(number))
    }

    /// So many tasks that wait, numbered from 0.
    fn tasks<'a>(&self, pool: &'a BufPool, count: usize) -> Vec<TakeBuf<'a>> {
        let mut tasks: Vec<_> = (0..count).map(|_| pool.take_async()).collect();
        for (number, task) in tasks.iter_mut().enumerate() {
            assert!(poll_with(task, &self.waker(number)).is_pending());
        }
        tasks
    }

    /// Those since the last time.
    fn told(&self) -> Vec<usize> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn ready(poll: Poll<PoolBuf>) -> Option<PoolBuf> {
    match poll {
        Poll::Ready(buf) => Some(buf),
        Poll::Pending => None,
    }
}

#[test]
fn tasks_get_buffers_in_the_order_in_which_they_came() {
    let _watchdog = watchdog();
    let (pool, woken) = (pool(2), Woken::default());
    let held = [pool.take(), block_on(pool.take_async())];
    let mut tasks = woken.tasks(&pool, 4);
    drop(held);
    assert_eq!(woken.told(), [0, 1]);
    // One that came later looks in between, and one that is in the queue: both are behind the woken ones.
    assert!(poll_with(&mut pool.take_async(), Waker::noop()).is_pending());
    assert!(poll_with(&mut tasks[2], &woken.waker(2)).is_pending());
    assert_eq!(pool.available(), 2);
    let second = ready(poll_with(&mut tasks[1], Waker::noop())).expect("there are two");
    let first = ready(poll_with(&mut tasks[0], Waker::noop())).expect("one is left");
    drop(first);
    assert_eq!(woken.told(), [2]);
    drop(second);
    assert_eq!(woken.told(), [3]);
}

#[test]
fn a_task_that_gives_up_loses_no_buffer_and_no_turn() {
    let _watchdog = watchdog();
    let (pool, woken) = (pool(1), Woken::default());
    let held = pool.take();
    let mut tasks = woken.tasks(&pool, 5);
    drop(tasks.remove(1)); // asleep
    drop(held);
    assert_eq!(woken.told(), [0]);
    drop(tasks.remove(0)); // woken, and never looked
    assert_eq!(woken.told(), [2]);
    drop(tasks.remove(1)); // asleep, behind the one that is woken: that one's turn it is still
    assert_eq!((woken.told(), pool.available()), (vec![], 1));
    let mut left = tasks.into_iter();
    let (mut second, mut last) = (left.next().unwrap(), left.next().unwrap());
    assert!(poll_with(&mut last, Waker::noop()).is_pending());
    assert!(ready(poll_with(&mut second, Waker::noop())).is_some());
    assert!(ready(poll_with(&mut last, Waker::noop())).is_some());
}

#[test]
fn a_task_whose_buffer_a_thread_took_keeps_its_place() {
    let _watchdog = watchdog();
    let (pool, woken) = (pool(1), Woken::default());
    let held = pool.take();
    let (mut first, mut second) = (pool.take_async(), pool.take_async());
    assert!(poll_with(&mut first, &woken.waker(1)).is_pending());
    assert!(poll_with(&mut second, &woken.waker(2)).is_pending());
    drop(held);
    let taken = pool.try_take().expect("threads take what is free");
    assert!(poll_with(&mut first, &woken.waker(1)).is_pending());
    drop(taken);
    assert_eq!(woken.told(), [1, 1]);
    assert!(ready(poll_with(&mut first, Waker::noop())).is_some());
}

#[test]
fn only_the_last_waker_is_called_and_the_others_are_dropped() {
    let _watchdog = watchdog();
    let (pool, owned, woken) = (pool(1), Arc::new(()), Woken::default());
    let held = pool.take();
    let mut task = pool.take_async();
    for _ in 0..3 {
        let token = Arc::clone(&owned);
        let owns = waker_that(move || assert_eq!(Arc::strong_count(&token), 0, "it was dropped"));
        assert!(poll_with(&mut task, &owns).is_pending());
    }
    assert_eq!(Arc::strong_count(&owned), 2);
    assert!(poll_with(&mut task, &woken.waker(7)).is_pending());
    assert_eq!(Arc::strong_count(&owned), 1);
    drop(held);
    assert_eq!(woken.told(), [7]);
}

#[test]
fn wakers_may_panic_or_use_the_pool() {
    let _watchdog = watchdog();
    let (pool, used) = (pool(1), Counter::default());
    let held = pool.take();
    let (mut panics, mut uses) = (pool.take_async(), pool.take_async());
    assert!(poll_with(&mut panics, &waker_that(|| panic!("on purpose"))).is_pending());
    let (inside, count) = (pool.clone(), used.clone());
    let takes = waker_that(move || {
        drop(inside.try_take().expect("no lock is held, and it is free"));
        assert!(format!("{inside:?}").contains("available: 1"));
        count.add();
    });
    assert!(poll_with(&mut uses, &takes).is_pending());
    drop(held);
    drop(panics);
    assert_eq!(used.get(), 1);
    assert!(ready(poll_with(&mut uses, Waker::noop())).is_some());
}

/// The request is complete, and its buffer is dropped on whatever thread: the task hears of it.
#[test]
fn a_buffer_that_a_callback_drops_wakes_a_task() {
    let _watchdog = watchdog();
    let (aio, pool) = (aio(), pool(1));
    for _ in 0..200 {
        let buf = block_on(pool.take_async());
        let read = aio.alloc().init_rw(null(), Read, buf, 0);
        read.init_callback(drop).submit().unwrap();
    }
    drop(block_on(pool.take_async()));
}

#[test]
fn threads_and_tasks_that_give_up_at_random_lose_nothing() {
    let _watchdog = watchdog();
    let (pool, taken) = (pool(3), AtomicUsize::new(0));
    thread::scope(|threads| {
        for seed in 0..6 {
            let (pool, taken) = (&pool, &taken);
            threads.spawn(move || {
                let mut random = Random(seed);
                for _ in 0..2000 {
                    let buf = match random.roll(4) {
                        0 => pool.take(),
                        1 => {
                            let mut given_up = pool.take_async();
                            let _ = poll_with(&mut given_up, Waker::noop());
                            drop(given_up);
                            continue;
                        }
                        _ => block_on(pool.take_async()),
                    };
                    assert!(taken.fetch_add(1, Ordering::SeqCst) < 3, "one for each");
                    taken.fetch_sub(1, Ordering::SeqCst);
                    drop(buf);
                }
            });
        }
    });
    assert_eq!(pool.available(), 3);
}

#[test]
fn a_shared_buffer_is_written_while_others_read_it_and_thaws_afterwards() {
    let _watchdog = watchdog();
    let (aio, pool, file) = (aio(), pool(1), Arc::new(scratch()));
    let mut page = pool.take();
    for round in 1..=3 {
        page.fill(round);
        let frozen = Arc::new(page);
        let at = u64::from(round) * 64;
        let write = aio.alloc().init_rw(file.clone(), Write, frozen.clone(), at);
        let write = write.write_all().start().unwrap();
        thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| assert!(frozen.iter().all(|&byte| byte == round)));
            }
        });
        let frozen = Arc::try_unwrap(frozen).expect_err("the request has it, too");
        assert_eq!(write.wait().result.unwrap(), 64);
        page = Arc::try_unwrap(frozen).expect("no other has it");
        let mut there = [0; 64];
        file.read_exact_at(&mut there, at).unwrap();
        assert_eq!(there, [round; 64]);
    }
    drop(page);
    assert_eq!(pool.available(), 1);
}
