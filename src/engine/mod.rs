//! The machine behind the handle: requests in, completions out, on one kernel context.
//!
//! | file | noun |
//! | --- | --- |
//! | `request` | the right to a `cell`, which is what `aio_data` points to (`pool` has the memory); `watch`: where its result arrives; `list`, `batch`: many of them |
//! | `submit` | the way in: `slots` of the kernel, the `backlog` behind them, what a callback has `gather`ed |
//! | `reap` | the way out: events taken, results stored, callbacks run; `inbox`: on their way to the thread that may |
//! | `sleep` | who sleeps where meanwhile; `thread`: the completion thread; `close`: silence and the end |
//! | `context` | making the kernel context; `tally`: counters; `clock`: noticing that `io_submit` blocked |

mod backlog;
mod batch;
mod cancel;
mod cell;
mod clock;
mod close;
mod context;
mod gather;
mod inbox;
mod list;
#[cfg(all(test, loom))]
mod model;
mod offload;
mod pool;
#[cfg(test)]
mod probe;
mod reap;
mod request;
#[cfg(all(test, not(loom)))]
mod schedules;
mod sleep;
mod slots;
mod submit;
mod tally;
mod thread;
mod wakers;
mod watch;

use crate::dispatch::Dispatch;
use crate::error::{AioError, SetupError};
use crate::stats::Stats;
use crate::sync::{Mutex, MutexGuard};
use crate::sys::Kernel;
use crate::sys::fork::Origin;
pub(crate) use list::List;
pub(crate) use request::{Receipt, Request};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;
pub(crate) use watch::Watch;

/// What an engine is made of.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) depth: u32,
    pub(crate) dispatch: Dispatch,
    pub(crate) thread_name: String,
    pub(crate) force_syscalls: bool,
}

/// One kernel context and everything that drives it.
#[derive(Debug)]
pub(crate) struct Engine {
    /// For threads that it starts.
    me: Weak<Engine>,
    kernel: Kernel,
    dispatch: Dispatch,
    origin: Origin,
    /// The depth that was asked for.
    asked: u32,
    slots: slots::Slots,
    backlog: backlog::Backlog,
    consumer: Mutex<reap::Consumer>,
    roles: sleep::Roles,
    dispatcher: sleep::Dispatcher,
    inbox: inbox::Inbox,
    offload: offload::Offload,
    tally: tally::Tally,
    silence: close::Silence,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// One thread at a time is in `poll`.
    poller: Mutex<()>,
}

impl Engine {
    /// Makes a context, and a completion thread where there is one.
    pub(crate) fn launch(config: Config) -> Result<Arc<Engine>, SetupError> {
        let (kernel, depth) = context::make(config.depth, config.force_syscalls)?;
        let engine = Arc::new_cyclic(|me| {
            Engine::on(
                kernel,
                (config.depth, depth),
                config.dispatch,
                Weak::clone(me),
            )
        });
        if config.dispatch != Dispatch::Manual {
            let thread = thread::spawn(Arc::clone(&engine), config.thread_name)
                .inspect_err(|_| engine.tear_down())?;
            *engine.thread.lock() = Some(thread);
        }
        Ok(engine)
    }

    fn on(
        kernel: Kernel,
        (asked, depth): (u32, u32),
        dispatch: Dispatch,
        me: Weak<Engine>,
    ) -> Engine {
        Engine {
            me,
            kernel,
            dispatch,
            origin: Origin::here(),
            asked,
            slots: slots::Slots::new(depth),
            backlog: backlog::Backlog::new(),
            consumer: Mutex::new(reap::Consumer::default()),
            roles: sleep::Roles::new(),
            dispatcher: sleep::Dispatcher::new(),
            inbox: inbox::Inbox::new(),
            offload: offload::Offload::new(),
            tally: tally::Tally::new(),
            silence: close::Silence::new(),
            thread: Mutex::new(None),
            poller: Mutex::new(()),
        }
    }

    /// Says what was asked for and what was got.
    pub(crate) fn log(&self) {
        let (asked, got, mode) = (self.asked, self.slots.depth(), self.kernel.mode());
        log::info!(
            "kernel AIO context: asked for {asked} requests in flight, got {got}, completions by {mode:?}"
        );
        if got < asked.into() {
            log::warn!(
                "fs.aio-max-nr is nearly used up: {got} requests in flight instead of {asked}"
            );
        }
    }

    /// The number by which threads know that they are running one of its callbacks.
    #[inline]
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    #[inline]
    fn runs_callbacks_anywhere(&self) -> bool {
        self.dispatch == Dispatch::Anywhere
    }

    /// Whether this thread is running a callback of this engine.
    pub(crate) fn is_dispatching_here(&self) -> bool {
        gather::is_running_here(self.id())
    }

    #[inline]
    pub(crate) fn check_origin(&self) -> Result<(), AioError> {
        if self.origin.is_here() {
            Ok(())
        } else {
            Err(AioError::Forked)
        }
    }

    /// Whether it takes requests at all.
    #[inline]
    fn check(&self) -> Result<(), AioError> {
        self.check_origin()?;
        if self.tally.is_closing() {
            Err(AioError::ShutDown)
        } else {
            Ok(())
        }
    }

    fn become_poller(&self, deadline: Option<Instant>) -> Option<MutexGuard<'_, ()>> {
        match deadline {
            None => Some(self.poller.lock()),
            Some(deadline) => self.poller.try_lock_until(deadline),
        }
    }

    fn count_wait(&self) {
        self.tally.waits.add(1);
    }

    pub(crate) fn stats(&self) -> Stats {
        let tally = &self.tally;
        let (queued, taken, in_hand, returned) = (
            self.backlog.waiting() as u64,
            self.slots.taken(),
            tally.in_hand(),
            self.slots.returned(),
        );
        let in_flight = (taken + in_hand).saturating_sub(returned + tally.resuming.get());
        // Came back by event or without one, less what was submitted again, less what is not at its end.
        let completed =
            (returned + tally.eventless.get()).saturating_sub(tally.resumed.get() + in_hand);
        Stats {
            accepted: completed + in_flight + queued,
            completed,
            in_flight,
            queued,
            depth: self.slots.depth(),
            refused_late: tally.refused_late.get(),
            panics: tally.panics.get(),
            submits: (taken + tally.empty.get()).saturating_sub(tally.along.get()),
            waits: tally.waits.get(),
        }
    }
}
