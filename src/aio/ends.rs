//! Waiting for the end of what was submitted, and of a context, without blocking a thread.

use super::Aio;
use crate::engine::IdleTask;
use crate::error::AioError;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

impl Aio {
    /// [`drain`](Aio::drain) for async code: the future is ready when nothing is outstanding. Any executor
    /// will do; no thread is blocked. To bound it, use the runtime's timeout. It may be dropped at any time,
    /// which changes nothing.
    ///
    /// Under [`Dispatch::Manual`](crate::Dispatch::Manual) the context is polled elsewhere: the future polls
    /// nothing, and is woken by the thread in [`poll`](Aio::poll).
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
    /// use kiocb::{Aio, op::Read};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # block_on(async {
    /// let aio = Aio::builder().build()?;
    /// let read = aio.alloc().init_rw(std::fs::File::open("/dev/zero")?, Read, [1; 512], 0);
    /// read.init_callback(|done| assert_eq!(done.buf, [0; 512])).submit()?;
    /// aio.drain_async().await?; // the callback has returned
    /// aio.shutdown_async().await?; // the context is gone: no later drop blocks
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AioError::Forked`] in a child, [`AioError::ContextGone`] where no completions come any more.
    pub fn drain_async(&self) -> Drain<'_> {
        Drain {
            aio: self,
            shard: 0,
            accepted: self.stats().accepted,
            task: IdleTask::default(),
        }
    }

    /// [`shutdown`](Aio::shutdown) for async code. The first poll refuses new requests from then on, on all
    /// clones; the future is ready when everything that was accepted is complete and the context is
    /// destroyed. Any executor will do; no thread is blocked.
    ///
    /// To bound it, use the runtime's timeout. Dropped after its first poll, the end goes on in the
    /// background, as it does past the deadline of [`shutdown`](Aio::shutdown): nothing is freed that the
    /// kernel may still use, and **no later drop of the [`Aio`] blocks**. So this is how an async program
    /// lets go of a context of its own.
    ///
    /// Under [`Dispatch::Manual`](crate::Dispatch::Manual) the context ends on a thread that is started for
    /// it; callbacks that are due then run there.
    ///
    /// # Errors
    /// [`AioError::Forked`] in a child, [`AioError::ContextGone`] where something destroyed the context
    /// before.
    pub fn shutdown_async(&self) -> Shutdown<'_> {
        Shutdown {
            aio: self,
            began: false,
            shard: 0,
            result: Ok(()),
            task: IdleTask::default(),
        }
    }
}

/// The future of [`Aio::drain_async`].
#[must_use = "a future does nothing before it is polled: use `.await`"]
pub struct Drain<'a> {
    aio: &'a Aio,
    /// The one that is waited for; those before were idle.
    shard: usize,
    /// How many requests had been accepted when the first was waited for.
    accepted: u64,
    task: IdleTask,
}

/// The future of [`Aio::shutdown_async`].
#[must_use = "a future does nothing before it is polled: use `.await`"]
pub struct Shutdown<'a> {
    aio: &'a Aio,
    began: bool,
    /// The one that is waited for; those before have ended, with this result.
    shard: usize,
    result: Result<(), AioError>,
    task: IdleTask,
}

impl Drain<'_> {
    fn poll_shards(&mut self, waker: &Waker) -> Poll<Result<(), AioError>> {
        while self.shard < self.aio.0.places() {
            let engine = self.aio.0.get(self.shard);
            match engine.map(|engine| engine.poll_idle(&mut self.task, waker)) {
                None | Some(Poll::Ready(Ok(()))) => self.shard += 1,
                Some(other) => return other,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Future for Drain<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let polled = self.poll_shards(context.waker());
            // What one shard's callbacks submit to another may come after that one was idle: go round until
            // nothing was submitted.
            let accepted = self.aio.stats().accepted;
            let again = self.aio.0.shared().len() > 1 && accepted != self.accepted;
            if polled != Poll::Ready(Ok(())) || !again {
                return polled.map_err(io::Error::from);
            }
            (self.shard, self.accepted) = (0, accepted);
        }
    }
}

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        if let Some(engine) = self.aio.0.get(self.shard) {
            engine.forget_idle(&mut self.task);
        }
    }
}

impl Shutdown<'_> {
    fn begin(&mut self) -> Result<(), AioError> {
        self.aio.check_origin()?;
        self.aio.0.close();
        for engine in self.aio.0.all() {
            engine.stop();
        }
        self.aio.0.end_in_background();
        self.began = true;
        Ok(())
    }

    fn poll_shards(&mut self, waker: &Waker) -> Poll<Result<(), AioError>> {
        while self.shard < self.aio.0.places() {
            let engine = self.aio.0.get(self.shard);
            match engine.map(|engine| engine.poll_end(&mut self.task, waker)) {
                None => {}
                Some(Poll::Ready(ended)) => self.result = self.result.and(ended),
                Some(Poll::Pending) => return Poll::Pending,
            }
            self.shard += 1;
        }
        Poll::Ready(self.result)
    }
}

impl Future for Shutdown<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.began {
            self.begin()?;
        }
        self.poll_shards(context.waker()).map_err(io::Error::from)
    }
}

impl Drop for Shutdown<'_> {
    fn drop(&mut self) {
        if let Some(engine) = self.aio.0.get(self.shard) {
            engine.forget_end(&mut self.task);
        }
    }
}

impl fmt::Debug for Drain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").finish_non_exhaustive()
    }
}

impl fmt::Debug for Shutdown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("began", &self.began)
            .finish_non_exhaustive()
    }
}
