//! The handle users hold: one context, or several behind one face.

use crate::dispatch::Dispatch;
use crate::engine::{Config, Engine};
use crate::error::{AioError, SetupError};
use crate::stats::Stats;
use parking_lot::Mutex;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A handle on a kernel AIO context and what drives it. Cloning it is cheap, and all clones are the same
/// context.
///
/// [`Aio::global`] is the one that [`Iocb::alloc`](crate::Iocb::alloc) uses; [`Aio::builder`] makes others.
///
/// # Dropping
/// When the last clone is dropped, whatever was submitted is completed first, queued requests included, and
/// every callback is called; then the thread ends and the context is destroyed (about 30 ms in the kernel).
/// So **the last drop blocks while requests are outstanding**. To bound that, call
/// [`shutdown`](Aio::shutdown) before. Dropped by one of its own callbacks, it goes on in the background
/// instead. A request does not keep its `Aio` alive; a callback that owns a clone does. The global one is
/// never dropped: call [`drain`](Aio::drain) before the program ends.
///
/// # Fork
/// In a forked child every call answers with [`AioError::Forked`](crate::AioError::Forked), and
/// dropping does nothing: the requests are the parent's.
#[derive(Clone, Debug)]
pub struct Aio(Arc<Shards>);

/// The engines of one `Aio`. Dropping them ends them.
#[derive(Debug)]
struct Shards(Box<[Arc<Engine>]>);

/// More than any machine has room for: each takes two of `fs.aio-max-nr`, by default 65536.
const MOST_SHARDS: usize = 65_535;

static GLOBAL: OnceLock<Aio> = OnceLock::new();

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
        aio.0.0[0].check_origin()?;
        Ok(aio)
    }

    #[cold]
    fn make_global() -> io::Result<&'static Aio> {
        static MAKING: Mutex<()> = Mutex::new(());
        let one_at_a_time = MAKING.lock();
        if let Some(made) = GLOBAL.get() {
            return Ok(made);
        }
        let made = GLOBAL.get_or_init({
            let made = Aio::builder().make()?;
            || made
        });
        drop(one_at_a_time);
        made.log(); // without the lock: a logger may use us
        Ok(made)
    }

    /// For a context of your own.
    pub fn builder() -> AioBuilder {
        AioBuilder {
            depth: 128,
            thread_name: "kiocb".to_owned(),
            dispatch: Dispatch::Thread,
            shards: 1,
            force_syscalls: false,
        }
    }

    /// Waits until nothing is outstanding: every request accepted before this call is complete, and its
    /// callback has returned. Requests that others submit meanwhile are waited for as well. Blocks; under
    /// [`Dispatch::Manual`] it polls, and callbacks run inside it.
    ///
    /// # Errors
    /// [`AioError::WouldDeadlock`](crate::AioError::WouldDeadlock) inside a callback,
    /// [`AioError::Forked`](crate::AioError::Forked) in a child.
    pub fn drain(&self) -> io::Result<()> {
        self.drain_until(None)
    }

    /// As [`drain`](Aio::drain), but not longer than `timeout`.
    ///
    /// # Errors
    /// [`AioError::TimedOut`](crate::AioError::TimedOut) (kind [`TimedOut`](io::ErrorKind::TimedOut))
    /// when requests are still outstanding; else as `drain`.
    pub fn drain_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.drain_until(Instant::now().checked_add(timeout))
    }

    fn drain_until(&self, deadline: Option<Instant>) -> io::Result<()> {
        self.refuse_inside()?;
        // What one shard's callbacks submit to another may come after that one was silent: go round until
        // nobody was woken.
        loop {
            let before = self.stats().accepted;
            for engine in self.engines() {
                engine.drain(deadline)?;
            }
            if self.engines().len() == 1 || self.stats().accepted == before {
                return Ok(());
            }
        }
    }

    /// Refuses new requests from now on (on all clones), completes what was accepted, ends the thread and
    /// destroys the context. Blocks for at most about `timeout`, plus the kernel's 30 ms for an idle context.
    ///
    /// # Errors
    /// - [`AioError::TimedOut`](crate::AioError::TimedOut): requests are still outstanding, on a hung
    ///   device for example. Nothing of theirs is freed: they go on in the background, keep their files,
    ///   buffers and callbacks, and are completed if the kernel ever does. No later drop blocks.
    /// - [`AioError::WouldDeadlock`](crate::AioError::WouldDeadlock) inside a callback; new requests
    ///   are refused all the same.
    /// - [`AioError::Forked`](crate::AioError::Forked) in a child.
    pub fn shutdown(&self, timeout: Duration) -> io::Result<()> {
        let deadline = Instant::now().checked_add(timeout);
        for engine in self.engines() {
            engine.close();
        }
        self.refuse_inside()?;
        let mut outcome = Ok(());
        for engine in self.engines() {
            outcome = outcome.and(engine.shut_down(deadline));
        }
        outcome.map_err(io::Error::from)
    }

    /// What it has done and has to do, over all shards. Does not block.
    pub fn stats(&self) -> Stats {
        self.engines().iter().map(|engine| engine.stats()).sum()
    }

    /// Runs the completions of a [`Dispatch::Manual`] context on this thread: waits until at least `min`
    /// results have been delivered or nothing is outstanding, delivers at most `max`, and does not wait
    /// longer than `timeout` (`None`: as long as it takes). Says how many it delivered: callbacks called, and
    /// results that a waiter or future can see now.
    ///
    /// `poll(0, usize::MAX, None)` never sleeps. One thread at a time polls; a second one waits for its turn.
    /// With shards, the shard of this thread is polled.
    ///
    /// # Errors
    /// [`AioError::NotManual`](crate::AioError::NotManual),
    /// [`AioError::WouldDeadlock`](crate::AioError::WouldDeadlock) inside a callback,
    /// [`AioError::Forked`](crate::AioError::Forked) in a child.
    pub fn poll(&self, min: usize, max: usize, timeout: Option<Duration>) -> io::Result<usize> {
        Ok(self.engine().poll(min, max, timeout)?)
    }

    /// One turn of a loop around a [`Dispatch::Manual`] context: waits for at least one result, not longer
    /// than `timeout` (`None`: as long as it takes), and delivers all that have come. The same as
    /// [`poll(1, usize::MAX, timeout)`](Aio::poll). Returns how many results it delivered; 0 when nothing is
    /// outstanding or the time is over.
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

    /// What an operator wants to know of a new context.
    fn log(&self) {
        self.engines().iter().for_each(|engine| engine.log());
    }

    /// Inside user code that one shard waits for, another one's must not be waited for either: its own may be
    /// waiting for us.
    fn refuse_inside(&self) -> io::Result<()> {
        for engine in self.engines() {
            engine.check_origin()?;
        }
        let inside = self
            .engines()
            .iter()
            .any(|engine| engine.is_waited_for_here());
        if inside {
            Err(AioError::WouldDeadlock.into())
        } else {
            Ok(())
        }
    }

    fn engines(&self) -> &[Arc<Engine>] {
        &self.0.0
    }

    /// The engine for what this thread submits: always the same, so that its requests keep their order.
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        match self.engines() {
            [only] => only,
            several => several
                .iter()
                .find(|engine| engine.is_dispatching_here())
                .unwrap_or_else(|| &several[thread_number() % several.len()]),
        }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        if self.0.iter().any(|engine| engine.check_origin().is_err()) {
            return; // a forked child: threads and contexts are the parent's
        }
        // On one of its own callbacks' threads it can't wait for any shard: another one's callback may be
        // waiting for this one.
        let outside = !self.0.iter().any(|engine| engine.is_waited_for_here());
        for engine in &self.0 {
            engine.close();
        }
        for engine in &self.0 {
            engine.stop(outside);
        }
    }
}

/// Threads are numbered as they come.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        // Relaxed: only that numbers differ matters.
        static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    MINE.try_with(|mine| *mine).unwrap_or(0)
}

/// Makes an [`Aio`] other than the default. From [`Aio::builder`].
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let aio = kiocb::Aio::builder().depth(32).thread_name("pages").build()?;
/// assert!(aio.stats().depth <= 32);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder makes nothing before `build`"]
pub struct AioBuilder {
    depth: u32,
    thread_name: String,
    dispatch: Dispatch,
    shards: usize,
    force_syscalls: bool,
}

impl AioBuilder {
    /// How many requests may be in flight in the kernel at once, per shard; 1 to 65535, default 128. It is no
    /// limit on what may be submitted: the rest queues in user space. It counts, plus one, against
    /// `fs.aio-max-nr`, a quota of the whole machine.
    pub fn depth(mut self, depth: u32) -> Self {
        self.depth = depth;
        self
    }

    /// The completion thread's name, as `top -H` shows it (15 bytes of it); default `kiocb`. A NUL byte ends
    /// it.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        let name: String = name.into();
        self.thread_name = name.split('\0').next().unwrap_or_default().to_owned();
        self
    }

    /// Where callbacks run; default [`Dispatch::Thread`].
    pub fn dispatch(mut self, dispatch: Dispatch) -> Self {
        self.dispatch = dispatch;
        self
    }

    /// How many kernel contexts stand behind the handle, each with a completion thread of its own; default 1,
    /// at most 65535, and 0 is 1. Several submitting threads share one context at a cost (two are slower in
    /// total than one); with as many shards as threads each has its own. A thread always uses the same shard.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards.max(1);
        self
    }

    /// Reads events by system call only, as where the ring can't be read. For tests; `KIOCB_FORCE_SYSCALLS=1`
    /// does it for every context.
    #[doc(hidden)]
    pub fn force_syscalls(mut self, force: bool) -> Self {
        self.force_syscalls = force;
        self
    }

    /// Makes it. Opens one descriptor per shard; does not block.
    ///
    /// # Errors
    /// A [`SetupError`](crate::SetupError) inside: no AIO in this kernel, a seccomp filter, the machine's
    /// quota used up (a smaller depth is tried first, down to 1), no memory, a depth or a number of shards out
    /// of range, no thread.
    pub fn build(self) -> io::Result<Aio> {
        let aio = self.make()?;
        aio.log();
        Ok(aio)
    }

    fn make(self) -> io::Result<Aio> {
        if self.shards > MOST_SHARDS {
            return Err(SetupError::InvalidShards(self.shards).into());
        }
        let config = Config {
            depth: self.depth,
            dispatch: self.dispatch,
            thread_name: self.thread_name,
            force_syscalls: self.force_syscalls
                || std::env::var_os("KIOCB_FORCE_SYSCALLS").is_some_and(|value| value == "1"),
        };
        let mut shards = Shards(Box::default());
        let mut engines = Vec::with_capacity(self.shards);
        for _ in 0..self.shards {
            match Engine::launch(config.clone()) {
                Ok(engine) => engines.push(engine),
                Err(error) => {
                    shards.0 = engines.into(); // ended by their drop
                    return Err(error.into());
                }
            }
        }
        shards.0 = engines.into();
        Ok(Aio(Arc::new(shards)))
    }
}
