//! Waiting for a buffer without blocking a thread.

use super::queue::Place;
use super::{BufPool, PoolBuf};
use crate::user_code;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The future of [`BufPool::take_async`].
#[must_use = "a future does nothing before it is polled: use `.await`"]
pub struct TakeBuf<'a> {
    pool: &'a BufPool,
    place: Place,
}

impl BufPool {
    /// [`take`](BufPool::take) for async code: the future is ready when a buffer is free. Any executor will
    /// do; no thread is blocked.
    ///
    /// Tasks get buffers in the order in which they first polled. A task that is woken keeps its place until
    /// it polls, so one that is never polled again holds up those behind it. Threads in
    /// [`take`](BufPool::take) and [`try_take`](BufPool::try_take) do not queue with tasks: they take what is
    /// free.
    ///
    /// It may be dropped at any time: no buffer is lost, and the next task is woken in its stead.
    ///
    /// ```
    /// # use std::{future::Future, pin::pin, task::{Context, Poll, Waker}};
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     let mut future = pin!(future);
    /// #     loop {
    /// #         let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    /// #         if let Poll::Ready(output) = polled { return output }
    /// #     }
    /// # }
    /// # fn main() -> std::io::Result<()> {
    /// let pool = kiocb::BufPool::new(2, 4096)?;
    /// block_on(async {
    ///     let page = pool.take_async().await;
    ///     assert_eq!((page.len(), pool.available()), (4096, 1));
    /// });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// When polled in a forked child of the process that made the pool, as [`take`](BufPool::take).
    pub fn take_async(&self) -> TakeBuf<'_> {
        TakeBuf {
            pool: self,
            place: Place::default(),
        }
    }
}

impl TakeBuf<'_> {
    /// Takes a buffer, or sleeps. Returns the wakers that are of no use, to be dropped without the lock.
    fn take_or_sleep(&mut self, waker: Waker) -> (Option<PoolBuf>, [Option<Waker>; 2]) {
        let shared = &self.pool.shared;
        let free = shared.free.lock();
        let mut free = free.expect(super::IN_CHILD);
        if !free.queue.is_turn_of(&self.place, free.buffers.len()) {
            return (None, [free.queue.sleep(&mut self.place, waker), None]);
        }
        let before = free.queue.leave(&mut self.place);
        let taken = PoolBuf::pop(shared, &mut free.buffers);
        (taken, [before, Some(waker)])
    }
}

impl Future for TakeBuf<'_> {
    type Output = PoolBuf;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<PoolBuf> {
        let waker = user_code::clone_waker(context.waker());
        let (taken, unused) = self.take_or_sleep(waker);
        user_code::drop_value("dropping a waker", unused);
        taken.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for TakeBuf<'_> {
    /// If it was woken, the buffer is another task's now.
    fn drop(&mut self) {
        if !self.place.is_taken() {
            return;
        }
        let Some(mut free) = self.pool.shared.free.lock() else {
            return; // a forked child: the queue is the parent's
        };
        let own = free.queue.leave(&mut self.place);
        let next = if own.is_none() && !free.buffers.is_empty() {
            free.queue.wake_oldest()
        } else {
            None
        };
        drop(free);
        user_code::drop_value("dropping a waker", own);
        wake(next);
    }
}

/// Without the lock: a waker is user code.
pub(super) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        user_code::wake(waker);
    }
}

impl fmt::Debug for TakeBuf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakeBuf")
            .field("waits", &self.place.is_taken())
            .finish_non_exhaustive()
    }
}
