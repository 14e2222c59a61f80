//! The builder of an `Aio`.

use super::Aio;
use super::shards::Shards;
use crate::dispatch::Dispatch;
use crate::engine::{Config, StartHook};
use std::io;
use std::sync::Arc;

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
    config: Config,
    shards: usize,
}

impl AioBuilder {
    pub(super) fn new() -> AioBuilder {
        AioBuilder {
            config: Config {
                depth: 128,
                exact_depth: false,
                thread_name: "kiocb".to_owned(),
                dispatch: Dispatch::Thread,
                on_thread_start: None,
                force_syscalls: false,
            },
            shards: 1,
        }
    }

    /// How many requests may be in flight in the kernel at once, per shard; 1 to 65535, default 128. It does
    /// not limit what may be submitted: the rest queues in user space. A context charges the depth plus one
    /// to `fs.aio-max-nr`, a quota of the whole machine. If less is left, it is created with a smaller depth,
    /// and a warning is logged; see [`exact_depth`](Self::exact_depth).
    ///
    /// From a depth of 32 on, and under [`Dispatch::Thread`], threads that block until their own request is
    /// complete ([`Aio::read_at`](crate::Aio::read_at), [`Iocb::wait`](crate::Iocb::wait) and the like) do not
    /// slow each other down: one that finds others on its context again and again gets a small context of its
    /// own, and uses it from then on. Each of these takes over one slot, up to a quarter of the depth and to 64
    /// in all, so that no more requests are in flight than the depth allows. Each opens one descriptor, charges 2
    /// to the quota, and goes with the [`Aio`]. Where one can't be made, the shared context serves.
    pub fn depth(mut self, depth: u32) -> Self {
        self.config.depth = depth;
        self
    }

    /// Whether [`build`](Self::build) fails where the machine's quota (`fs.aio-max-nr`) does not allow the
    /// [`depth`](Self::depth), with [`SetupError::QuotaExhausted`](crate::SetupError::QuotaExhausted), instead
    /// of making a smaller context; default `false`. With shards, each gets the depth or none is made.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let aio = kiocb::Aio::builder().depth(32).exact_depth(true).build()?;
    /// assert_eq!(aio.stats().depth, 32);
    /// # Ok(())
    /// # }
    /// ```
    pub fn exact_depth(mut self, exact: bool) -> Self {
        self.config.exact_depth = exact;
        self
    }

    /// The completion thread's name, as `top -H` shows it (15 bytes of it), and the name of the
    /// context: what is logged of it begins with it. Default `kiocb`. A NUL byte ends it.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        let name: String = name.into();
        self.config.thread_name = name.split('\0').next().unwrap_or_default().to_owned();
        self
    }

    /// Where callbacks run; default [`Dispatch::Thread`].
    pub fn dispatch(mut self, dispatch: Dispatch) -> Self {
        self.config.dispatch = dispatch;
        self
    }

    /// How many kernel contexts stand behind the handle, each with a completion thread of its own; default 1,
    /// and 0 counts as 1. Threads that submit to one context slow each other down (two are slower in total
    /// than one). With as many shards as threads each thread has its own. A thread always uses the same
    /// shard.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards.max(1);
        self
    }

    /// A hook that each thread of this context calls when it starts, before anything else: the completion
    /// thread (with [`shards`](Self::shards), each of them), the helper thread for I/O that may block
    /// (`kiocb-helper`), and the thread on which a context ends in the background (`kiocb-end`). For
    /// affinity, priority, the registration with a profiler, the signal mask.
    ///
    /// A thread inherits what every new thread does from the one that starts it: affinity, scheduling policy,
    /// priority. Its signal mask blocks all signals but SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS,
    /// SIGABRT and SIGPROF, so that handlers of the program's signals run on the program's own threads.
    /// Threads and children that a callback starts inherit that mask: set another here, if callbacks start
    /// some. If the hook panics, that is logged, and the thread goes on. The hook must not wait for requests
    /// of this context: what the thread is there for is not done before the hook has returned.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use kiocb::Aio;
    ///
    /// let aio = Aio::builder().on_thread_start(|| println!("a thread of ours")).build()?;
    /// # aio.drain()
    /// # }
    /// ```
    pub fn on_thread_start(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.config.on_thread_start = Some(StartHook::new(hook));
        self
    }

    /// Reads events by system call only, as where the ring can't be read. For tests; `KIOCB_FORCE_SYSCALLS=1`
    /// does it for every context.
    #[doc(hidden)]
    pub fn force_syscalls(mut self, force: bool) -> Self {
        self.config.force_syscalls = force;
        self
    }

    /// Makes the context. Opens one descriptor per shard ([`depth`](Self::depth) says when there will be more);
    /// does not block.
    ///
    /// # Errors
    /// A [`SetupError`](crate::SetupError) inside: no AIO in this kernel, a seccomp filter, the machine's
    /// quota used up (a smaller depth is tried first, down to 1, unless it is to be
    /// [exact](Self::exact_depth)), no memory, a depth or a number of shards
    /// out of range, no thread.
    pub fn build(self) -> io::Result<Aio> {
        let aio = self.make()?;
        aio.log();
        Ok(aio)
    }

    pub(super) fn make(self) -> io::Result<Aio> {
        let mut config = self.config;
        config.force_syscalls |=
            std::env::var_os("KIOCB_FORCE_SYSCALLS").is_some_and(|value| value == "1");
        Ok(Aio(Arc::new(Shards::launch(self.shards, &config)?)))
    }
}
