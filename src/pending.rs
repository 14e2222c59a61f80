//! A request on its way, with a result to wait for: by blocking or by `.await`.

use crate::engine::{Engine, Watch};
use crate::op::{Job, PollReady, Work};
use crate::sync::now;
use std::fmt;
use std::future::Future;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A request on its way, from [`Iocb::start`](crate::Iocb::start): a future, or something to block on.
///
/// Dropping it does not take the request back (the kernel can't): the request completes, and then the thread
/// that reaps it drops its file and buffer. A wait for readiness is [cancelled](Pending::cancel) by the drop.
/// Forgetting it (`mem::forget`) leaks them. As a future it needs no runtime, may be polled by any executor
/// and moved between tasks. It panics if it is polled again after it has returned `Ready`.
///
/// ```
/// use kiocb::Iocb;
/// use kiocb::op::Read;
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// let file = std::fs::File::open("/dev/zero")?;
/// let mut pending = Iocb::alloc().init_rw(file, Read, vec![1; 512], 0).start()?;
/// let done = loop {
///     match pending.wait_timeout(Duration::from_secs(1)) {
///         Ok(done) => break done,
///         Err(unfinished) => pending = unfinished, // a second is over: log it, for example
///     }
/// };
/// assert_eq!(done.result?, 512);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropped, the request goes on and its result is lost: wait for it, or `.await` it"]
pub struct Pending<S: Work> {
    engine: Arc<Engine>,
    watch: Option<Watch<Job<S>>>,
}

impl<S: Work> Pending<S> {
    pub(crate) fn new(engine: Arc<Engine>, watch: Watch<Job<S>>) -> Self {
        Pending {
            engine,
            watch: Some(watch),
        }
    }

    /// Returns true once the result is available; `wait` and `poll` then return at once. Does not look for
    /// new completions.
    pub fn is_complete(&self) -> bool {
        self.watch.as_ref().is_none_or(Watch::is_done)
    }

    /// Blocks until the result is there. The waiting thread takes events from the kernel itself; under
    /// [`Dispatch::Anywhere`](crate::Dispatch::Anywhere) other requests' callbacks may run inside. Works on
    /// any thread, inside a callback too.
    ///
    /// A handle from a [`Batch`](crate::Batch) that has not been submitted takes the request out of it, and
    /// returns an error with [`AioError::NotSubmitted`](crate::AioError::NotSubmitted) inside.
    ///
    /// In a forked child of the process that submitted the request it returns at once: the result if that was
    /// there at the fork, otherwise an error with [`AioError::Forked`](crate::AioError::Forked) inside. The
    /// buffer and the file come back in either case.
    ///
    /// # Panics
    /// If it was polled as a future and has returned `Ready`.
    pub fn wait(mut self) -> S::Output {
        if let Some(output) = self.take_if_done() {
            return output;
        }
        let output = self.take_unsubmitted();
        let output = output.or_else(|| self.wait_until(None));
        output.expect("without a deadline there is a result")
    }

    /// As [`wait`](Pending::wait), but not longer than `timeout`, and a request in a batch that has not been
    /// submitted stays there. It returns in time also where requests queue behind one whose submission
    /// blocks.
    ///
    /// # Errors
    /// The handle itself, if the time is over: it still stands for the request.
    ///
    /// # Panics
    /// If it was polled as a future and has returned `Ready`.
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<S::Output, Self> {
        match self.wait_until(now().checked_add(timeout)) {
            Some(output) => Ok(output),
            None => Err(self),
        }
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Option<S::Output> {
        let watch = self.watch.as_mut().expect("a request answers once");
        if self.engine.is_here() {
            self.engine.wait(watch, deadline);
        }
        self.take()
    }

    /// Takes a request out of a batch that has not been submitted, and returns its result.
    fn take_unsubmitted(&mut self) -> Option<S::Output> {
        match self.watch.take()?.take_unsubmitted() {
            Ok(output) => Some(output),
            Err(watch) => {
                self.watch = Some(watch);
                None
            }
        }
    }

    /// Returns the result, if there is one; in a forked child there always is.
    fn take(&mut self) -> Option<S::Output> {
        if self.engine.is_here() {
            return self.take_if_done();
        }
        self.watch.take().map(Watch::take_in_child)
    }

    /// The result, if it was stored.
    #[inline]
    fn take_if_done(&mut self) -> Option<S::Output> {
        match self.watch.take()?.take() {
            Ok(output) => Some(output),
            Err(watch) => {
                self.watch = Some(watch);
                None
            }
        }
    }
}

impl<F: AsFd + Send + 'static> Pending<PollReady<F>> {
    /// Cancels the wait for readiness
    /// ([`io_cancel(2)`](https://man7.org/linux/man-pages/man2/io_cancel.2.html), Linux 4.19; reads and
    /// writes can't be cancelled). Any thread may call it. Returns whether the request was cancelled. Then
    /// the result is there, or comes soon: ECANCELED, or the events that came first. Blocks while another
    /// thread submits the request or takes its event.
    ///
    /// `false`: the result is there already, or this process is a forked child and the request is its
    /// parent's.
    ///
    /// ```
    /// use kiocb::{Iocb, PollFlags};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, _writer) = std::io::pipe()?;
    /// let readable = Iocb::alloc().init_poll(reader, PollFlags::IN).start()?;
    /// assert!(readable.cancel());
    /// assert_eq!(readable.wait().result.unwrap_err().raw_os_error(), Some(125)); // ECANCELED
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "io_cancel")]
    pub fn cancel(&self) -> bool {
        let Some(watch) = &self.watch else {
            return false;
        };
        self.engine.check_origin().is_ok() && self.engine.cancel(watch)
    }
}

impl<S: Work> Future for Pending<S> {
    type Output = S::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<S::Output> {
        let this = &mut *self;
        let watch = this.watch.as_mut().expect("a request answers once");
        if !watch.is_done() {
            this.engine.help();
            let waits = this.engine.is_here() && watch.register_waker(context.waker());
            // Cloning or dropping a waker may fork.
            if waits && this.engine.is_here() {
                return Poll::Pending;
            }
        }
        Poll::Ready(this.take().expect("done, or this is a forked child"))
    }
}

// The body is behind a pointer of the engine's: moving the handle moves nothing that the kernel knows.
impl<S: Work> Unpin for Pending<S> {}

impl<S: Work> Drop for Pending<S> {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take() {
            self.engine.abandon(watch);
        }
    }
}

impl<S: Work> fmt::Debug for Pending<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("complete", &self.is_complete())
            .finish_non_exhaustive()
    }
}
