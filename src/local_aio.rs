//! A handle on a context that belongs to one thread, for which nothing need be `Send`.

use crate::aio::{Aio, AioBuilder};
use crate::dispatch::Dispatch;
use crate::error::SubmitError;
use crate::iocb::Iocb;
use crate::op::{Receive, Request};
use crate::queue::Queue;
use crate::scope::{AioWith, IoOptions, Scope};
use crate::stats::Stats;
use crate::thread_bound::Bound;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A handle on a [`Dispatch::Manual`](crate::Dispatch::Manual) context that belongs to one thread: callbacks
/// and the tags of queues need not be `Send`. Made by
/// [`AioBuilder::build_local`](crate::AioBuilder::build_local).
///
/// It is neither `Send`, `Sync` nor `Clone`, so it stays on the thread that made it, and with it everything
/// that runs callbacks. Files and buffers are still `Send`, because a helper thread may have to submit or to
/// drop them.
///
/// ```
/// use kiocb::{Aio, op::Read};
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// # fn main() -> std::io::Result<()> {
/// let aio = Aio::builder().build_local()?;
/// let bytes = Rc::new(Cell::new(0));
/// let read = aio.alloc().init_rw(std::fs::File::open("/dev/zero")?, Read, vec![1; 512], 0);
/// let sum = Rc::clone(&bytes);
/// aio.submit(read, move |done| sum.set(sum.get() + done.result.unwrap_or(0)))?;
/// aio.run_once(None)?;
/// assert_eq!(bytes.get(), 512);
/// # Ok(())
/// # }
/// ```
///
/// # Dropping
/// As the last drop of an [`Aio`] under `Dispatch::Manual`, on this thread: it **blocks while requests are
/// outstanding**, polls, and callbacks run inside it. [`shutdown`](LocalAio::shutdown) bounds that.
///
/// There are two cases in which a drop must not wait: inside user code (a callback, a waker, a destructor, a
/// logger) of another context, and after a shutdown that timed out. What is still outstanding then completes
/// on a thread that is made for it (`kiocb-end`), which drops files and buffers. **The callbacks are not
/// called there, and they and the tags of queues leak**, with an error in the log: nothing that is not `Send`
/// is touched or dropped on another thread. The same is true of a child that another thread forks. Forgetting
/// the handle (`mem::forget`) leaks the context and all that is in it.
pub struct LocalAio {
    aio: Aio,
    /// Neither `Send` nor `Sync`: callbacks run where it is.
    here: PhantomData<*const ()>,
}

impl AioBuilder {
    /// Makes a context that belongs to this thread, and for whose callbacks and tags nothing need be `Send`:
    /// [`Dispatch::Manual`] with one shard, whatever was chosen before. Opens one descriptor; does not block.
    ///
    /// # Errors
    /// As [`build`](AioBuilder::build).
    pub fn build_local(self) -> io::Result<LocalAio> {
        Ok(LocalAio {
            aio: self.dispatch(Dispatch::Manual).shards(1).build()?,
            here: PhantomData,
        })
    }
}

impl LocalAio {
    /// A blank request for this context: as [`Aio::alloc`]. It can be waited for and awaited by itself; to
    /// give it a callback that is not `Send`, [submit](LocalAio::submit) it here.
    pub fn alloc(&self) -> Iocb {
        self.aio.alloc()
    }

    /// Submits the request with a callback, which need not be `Send`, and is called exactly once, on this
    /// thread, inside [`poll`](LocalAio::poll), [`drain`](LocalAio::drain), [`shutdown`](LocalAio::shutdown)
    /// or the drop of the handle (which has exceptions: see [there](LocalAio#dropping)). What it may do is
    /// what the callback of [`Iocb::init_callback`] may do. The request goes to this context, whatever
    /// context it was made for. Blocks where [`Iocb::submit`] does.
    ///
    /// What the closure has captured needs no allocation if that is 40 bytes at most, beside an `Arc<File>`
    /// and a `Vec`.
    ///
    /// # Errors
    /// As [`Iocb::submit`]. The request and the callback are inside the error.
    pub fn submit<S, C>(
        &self,
        request: Iocb<S>,
        callback: C,
    ) -> Result<(), SubmitError<(Iocb<S>, C)>>
    where
        S: Request,
        C: FnOnce(S::Output) + 'static,
    {
        let request = request.on(&self.aio).init_receiver(Bound::here(callback));
        request.submit().map_err(|refused| {
            let (error, request) = refused.into_parts();
            let (request, callback) = request.into_parts();
            let callback = callback.take().expect("it comes back on its thread");
            SubmitError::new(error, (request, callback))
        })
    }

    /// An empty queue for this context, whose tags need not be `Send`. Does not block.
    pub fn queue<T: 'static, S: Request>(&self) -> Queue<T, S> {
        Queue::new(Arc::clone(self.aio.engine()), Bound::here)
    }

    /// Calls on borrowed files and memory, each of which blocks until it is complete, with these options: as
    /// [`Aio::with`]. Callbacks don't run inside.
    pub fn with(&self, options: impl Into<IoOptions>) -> AioWith<'_> {
        self.aio.with(options)
    }

    /// Several requests at once on borrowed files and memory: as [`Aio::scope`]. Callbacks don't run inside.
    ///
    /// # Panics
    /// If `body` does, afterwards.
    pub fn scope<'env, R>(
        &'env self,
        body: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R,
    ) -> R {
        self.aio.scope(body)
    }

    /// Runs completions on this thread: as [`Aio::poll`].
    ///
    /// # Errors
    /// As [`Aio::poll`].
    pub fn poll(&self, min: usize, max: usize, timeout: Option<Duration>) -> io::Result<usize> {
        self.aio.poll(min, max, timeout)
    }

    /// One turn of a loop: as [`Aio::run_once`].
    ///
    /// # Errors
    /// As [`Aio::poll`].
    pub fn run_once(&self, timeout: Option<Duration>) -> io::Result<usize> {
        self.aio.run_once(timeout)
    }

    /// Polls until nothing is outstanding: as [`Aio::drain`].
    ///
    /// # Errors
    /// As [`Aio::drain`].
    pub fn drain(&self) -> io::Result<()> {
        self.aio.drain()
    }

    /// As [`drain`](LocalAio::drain), but not longer than `timeout`.
    ///
    /// # Errors
    /// As [`Aio::drain_timeout`].
    pub fn drain_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.aio.drain_timeout(timeout)
    }

    /// Refuses new requests, completes what was accepted, and destroys the context: as [`Aio::shutdown`].
    /// After one that timed out this thread may go on polling; see [Dropping](LocalAio#dropping) for what
    /// happens otherwise.
    ///
    /// # Errors
    /// As [`Aio::shutdown`].
    pub fn shutdown(&self, timeout: Duration) -> io::Result<()> {
        self.aio.shutdown(timeout)
    }

    /// Returns the counters. Does not block.
    pub fn stats(&self) -> Stats {
        self.aio.stats()
    }
}

/// The context ends here and now, on its thread, although requests that were not submitted may have a handle on
/// it, and may be on another thread. It is a single one: several would end on threads made for it.
impl Drop for LocalAio {
    fn drop(&mut self) {
        self.aio.end();
    }
}

/// A callback of a [`LocalAio`]. On another thread it is not called, and leaks.
impl<T, C: FnOnce(T)> Receive<T> for Bound<C> {
    #[inline]
    fn receive(self, output: T) {
        if let Some(callback) = self.take() {
            callback(output);
        }
    }
}

impl fmt::Debug for LocalAio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalAio")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
