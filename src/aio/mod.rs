//! The handle users hold: one context, or several, one for each shard.

mod builder;
mod ends;
mod observe;
mod poll_with_mask;
mod private;
mod shards;

pub use builder::AioBuilder;
pub use ends::{Drain, Shutdown};

use crate::engine::Engine;
use crate::error::AioError;
use crate::op::{Traits, Work};
use crate::stats::Stats;
use crate::sync::{now, place_of_thread};
use crate::sys::process_once::ProcessOnce;
use crate::user_code;
use private::Held;
use shards::Shards;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A handle on a kernel AIO context and what drives it; with [`shards`](AioBuilder::shards), on one context
/// for each. Cloning it is cheap, and all clones stand for the same contexts.
///
/// [`Aio::global`] is the one that [`Iocb::alloc`](crate::Iocb::alloc) uses; [`Aio::builder`] makes others.
///
/// # Dropping
/// When the last clone is dropped, all submitted requests are completed first, queued ones included, and
/// every callback is called. Then the completion thread ends, where there is one (not under
/// [`Dispatch::Manual`](crate::Dispatch::Manual)), and the context is destroyed (about 30 ms in the kernel).
/// So **the last drop blocks while requests are outstanding**. To bound that, call
/// [`shutdown`](Aio::shutdown) before. Inside a callback, a waker, a destructor or a logger of any context,
/// the end goes on in the background instead, and the drop does not block. Waits for readiness are cancelled
/// (`ECANCELED`). A request does not keep its `Aio` alive; a callback that owns a clone does. The global one
/// is never dropped: call [`drain`](Aio::drain) before the program ends.
///
/// In async code a last drop blocks a thread of the runtime's. Await [`shutdown_async`](Aio::shutdown_async)
/// before, or poll it once and drop it: the end then goes on in the background, and no drop blocks.
///
/// # Fork
/// In a forked child every call returns [`AioError::Forked`](crate::AioError::Forked), and dropping does
/// nothing: the requests are the parent's.
#[derive(Clone, Debug)]
pub struct Aio(Arc<Shards>);

/// The process-wide context, once it is made.
static GLOBAL: ProcessOnce<Aio> = ProcessOnce::new();

impl Aio {
    /// The process-wide context, made at the first call: [`AioBuilder`]'s defaults, with a completion thread
    /// named `kiocb`.
    ///
    /// # Errors
    /// As [`AioBuilder::build`]. The next call tries again. In a forked child of the process that made it:
    /// [`AioError::Forked`](crate::AioError::Forked).
    pub fn global() -> io::Result<Aio> {
        Self::global_ref().cloned()
    }

    pub(crate) fn global_ref() -> io::Result<&'static Aio> {
        let aio = match GLOBAL.get() {
            Some(aio) => aio,
            None => Self::make_global()?,
        };
        aio.check_origin()?;
        Ok(aio)
    }

    #[cold]
    fn make_global() -> io::Result<&'static Aio> {
        let (aio, fresh) = GLOBAL.get_or_try_make(|| Aio::builder().make())?;
        if fresh {
            aio.log(); // no lock is held: a logger may use the crate
        }
        Ok(aio)
    }

    /// For a context of your own.
    pub fn builder() -> AioBuilder {
        AioBuilder::new()
    }

    /// Waits until nothing is outstanding: every request accepted before this call is complete, and its
    /// callback has returned. It also waits for requests that other threads submit meanwhile. Blocks; under
    /// [`Dispatch::Manual`](crate::Dispatch::Manual) it polls, and callbacks run inside it.
    ///
    /// # Errors
    /// [`AioError::WouldDeadlock`](crate::AioError::WouldDeadlock) inside user code of any context (a
    /// callback, a waker, a destructor, a logger), [`AioError::Forked`](crate::AioError::Forked) in a child,
    /// [`AioError::ContextGone`](crate::AioError::ContextGone) if something else in the process destroyed the
    /// kernel's context and a submission or a wait has noticed.
    pub fn drain(&self) -> io::Result<()> {
        self.drain_until(None)
    }

    /// As [`drain`](Aio::drain), but not longer than `timeout`.
    ///
    /// # Errors
    /// [`AioError::TimedOut`](crate::AioError::TimedOut) (kind [`TimedOut`](io::ErrorKind::TimedOut))
    /// when requests are still outstanding; else as `drain`.
    pub fn drain_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.drain_until(now().checked_add(timeout))
    }

    fn drain_until(&self, deadline: Option<Instant>) -> io::Result<()> {
        self.refuse_inside()?;
        // What one shard's callbacks submit to another may come after that one was idle: go round until
        // nothing was submitted.
        loop {
            let before = self.stats().accepted;
            for engine in self.0.shared() {
                engine.drain(deadline)?;
            }
            if self.0.shared().len() == 1 || self.stats().accepted == before {
                break;
            }
        }
        // A private context has nothing but waits, and their threads are outside of callbacks.
        let mut private = self.0.private().engines();
        Ok(private.try_for_each(|engine| engine.await_idle(deadline))?)
    }

    /// Refuses new requests from now on (on all clones), cancels waits for readiness (`ECANCELED`), completes
    /// what was accepted, ends the completion thread, if there is one, and destroys the context. Blocks for
    /// at most about `timeout`, plus the kernel's 30 ms for an idle context. Under
    /// [`Dispatch::Manual`](crate::Dispatch::Manual) it polls, and callbacks run inside it.
    ///
    /// # Errors
    /// - [`AioError::TimedOut`](crate::AioError::TimedOut): requests are still outstanding, on a hung device
    ///   for example. They go on in the background, keep their files, buffers and callbacks, and complete if
    ///   the kernel ever completes them. No later drop blocks.
    /// - [`AioError::WouldDeadlock`](crate::AioError::WouldDeadlock) inside user code of any context; new
    ///   requests are refused all the same.
    /// - [`AioError::ContextGone`](crate::AioError::ContextGone): something else in the process destroyed the
    ///   kernel's context, and a submission or a wait has noticed.
    /// - [`AioError::Forked`](crate::AioError::Forked) in a child.
    pub fn shutdown(&self, timeout: Duration) -> io::Result<()> {
        self.check_origin()?;
        let deadline = now().checked_add(timeout);
        self.0.close();
        self.refuse_inside()?;
        let drained = self.0.all().map(|engine| engine.drain(deadline));
        let drained = drained.fold(Ok(()), Result::and);
        for engine in self.0.all() {
            engine.stop();
        }
        let outcome = drained.and_then(|()| self.0.await_end(deadline));
        self.check_origin()?; // a callback may have forked
        if outcome.is_err() {
            self.0.private().end_in_background(); // if one was lost, the others have not ended
        }
        if outcome == Err(AioError::TimedOut) {
            self.0.all().for_each(|engine| engine.report_overdue());
        }
        Ok(outcome?)
    }

    /// Returns the counters, summed over all shards. Does not block.
    pub fn stats(&self) -> Stats {
        let shared = self.0.shared().iter().map(|engine| engine.stats());
        // What may be in flight on a private context is a slot of a shared one.
        let private = self.0.private().engines().map(|engine| Stats {
            depth: 0,
            ..engine.stats()
        });
        shared.chain(private).sum()
    }

    /// Runs the completions of a [`Dispatch::Manual`](crate::Dispatch::Manual) context on this thread: waits
    /// until at least `min` results have been delivered or nothing is outstanding, delivers at most `max`,
    /// and does not wait longer than `timeout` (`None`: as long as it takes). Returns how many it delivered:
    /// callbacks called, and results that a waiter or future can see now.
    ///
    /// `poll(0, usize::MAX, None)` never sleeps. One thread at a time polls; a second one waits for its turn,
    /// unless `min` is 0: then it returns 0 at once. With shards, the shard of this thread is polled.
    /// `timeout` bounds the sleep. With one, requests that had to queue, whose submission may block, are
    /// submitted by a helper thread. What a callback does is not bounded, nor the submission of what it
    /// submits: that blocks where [`submit`](crate::Iocb::submit) does.
    ///
    /// # Errors
    /// [`AioError::NotManual`](crate::AioError::NotManual),
    /// [`AioError::WouldDeadlock`](crate::AioError::WouldDeadlock) inside user code of any context (a
    /// callback, a waker, a destructor, a logger), [`AioError::Forked`](crate::AioError::Forked) in a child.
    pub fn poll(&self, min: usize, max: usize, timeout: Option<Duration>) -> io::Result<usize> {
        Ok(self.engine().poll(min, max, timeout)?)
    }

    /// One turn of a loop around a [`Dispatch::Manual`](crate::Dispatch::Manual) context: waits for at least
    /// one result, not longer than `timeout` (`None`: as long as it takes), and delivers all that have come.
    /// The same as [`poll(1, usize::MAX, timeout)`](Aio::poll). Returns how many results it delivered; 0 when
    /// nothing is outstanding or the time is over.
    ///
    /// ```
    /// use kiocb::op::Read;
    /// use kiocb::{Aio, Dispatch};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let aio = Aio::builder().dispatch(Dispatch::Manual).build()?;
    /// let zeroes = std::fs::File::open("/dev/zero")?;
    /// let read = aio.alloc().init_rw(zeroes, Read, vec![1; 512], 0);
    /// read.init_callback(|done| assert_eq!(done.result.unwrap(), 512)).submit()?;
    /// assert_eq!(aio.run_once(None)?, 1);
    /// assert_eq!(aio.run_once(None)?, 0); // nothing is outstanding
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`poll`](Aio::poll).
    pub fn run_once(&self, timeout: Option<Duration>) -> io::Result<usize> {
        self.poll(1, usize::MAX, timeout)
    }

    /// Logs what an operator wants to know of a new context.
    fn log(&self) {
        self.0.shared().iter().for_each(|engine| engine.log());
    }

    fn check_origin(&self) -> Result<(), AioError> {
        let mut engines = self.0.shared().iter();
        engines.try_for_each(|engine| engine.check_origin())
    }

    /// User code of one context must not wait for another context either: user code of that one may be
    /// waiting for this one.
    fn refuse_inside(&self) -> io::Result<()> {
        self.check_origin()?;
        if user_code::must_not_block() {
            Err(AioError::WouldDeadlock.into())
        } else {
            Ok(())
        }
    }

    /// What the last drop does, for a handle that has to do it although others are left.
    pub(crate) fn end(&self) {
        self.0.end();
    }

    /// The engine for what this thread submits: always the same, so that its requests keep their order.
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        match self.0.shared() {
            [only] => only,
            several => several
                .iter()
                .find(|engine| engine.is_dispatching_here())
                .unwrap_or_else(|| &several[place_of_thread(several.len())]),
        }
    }

    /// Submits a request and blocks until it is complete: on a private context of this thread, where it would
    /// share one with others.
    pub(crate) fn submit_and_wait<W: Work>(&self, work: W) -> Result<W::Output, (io::Error, W)> {
        let shared = self.engine();
        if self.0.private().may_serve(shared)
            && let Some(held) = self.private_context(&work.traits(), shared)
        {
            return held.submit_and_wait(work);
        }
        shared.submit_and_wait(work)
    }

    /// None inside user code, which may hold up what only the shared context can go on with; none for what waits
    /// for a long time, or is passed on to a thread.
    fn private_context(&self, traits: &Traits, shared: &Engine) -> Option<Held<'_>> {
        if traits.cancellable || traits.offload || user_code::must_not_block() {
            return None;
        }
        self.0.private().take(shared)
    }
}
