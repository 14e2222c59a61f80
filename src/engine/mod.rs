//! The machine behind the handle: requests go in, completions come out, on one kernel context.
//!
//! The methods of [`Engine`] stand in strata: each file calls only files above it in this table
//! (`tests/strata.rs` checks it).
//!
//! | file | what the engine does there |
//! | --- | --- |
//! | `mod` | what it is made of, and what can be read off it |
//! | `wake` | wakes the thread that sleeps for something |
//! | `account` | knows what is outstanding, and tells the threads that wait until nothing is |
//! | `deliver` | calls user code: wakers, destructors |
//! | `submission` | passes one array to the kernel, and sorts what it takes from what it refuses |
//! | `submit` | passes requests to the kernel: the way in. Also the loop of the helper thread |
//! | `unplug` | holds back what callbacks submit, and sends it |
//! | `reap` | takes events off the ring, and runs callbacks: the way out |
//! | `end` | destroys the context, or notices that it is lost |
//! | `wait` | sleeps until there is an event to take |
//! | `cancel` | cancels what waits for readiness, or has not left yet |
//! | `verbs` | what the crate's handles ask for: submit, start, wait |
//! | `run` | rounds of the dispatcher: the completion thread, and `poll` |
//! | `lifecycle` | beginning and end |
//!
//! Beside them stand the parts, which know nothing of the engine: `request` (the memory of a request),
//! `slots` and `backlog`, `iocb_array`, `plug` and `medium` (on the way in), `harvest`, `wakers` and `inbox` (on the
//! way out), `roles` and `dispatcher` (which thread sleeps where), `polls` (the requests that can be
//! cancelled), `helper` (the queue of the helper thread, which may block), `counters`, `clock`, `context`,
//! `threads`, `observer` (what operators ask for).

mod account;
mod backlog;
mod cancel;
mod clock;
mod context;
mod counters;
mod deliver;
mod dispatcher;
mod end;
mod harvest;
mod helper;
mod inbox;
mod iocb_array;
mod lifecycle;
mod medium;
#[cfg(all(test, loom))]
mod model;
mod observer;
mod plug;
mod polls;
mod reap;
mod refusal;
mod request;
mod roles;
mod run;
#[cfg(all(test, not(any(loom, shuttle))))]
mod schedules;
mod slots;
mod submission;
mod submit;
#[cfg(all(test, not(shuttle)))]
mod testing;
mod threads;
mod unplug;
mod verbs;
mod wait;
mod wake;
mod wakers;

use crate::completion;
use crate::dispatch::Dispatch;
use crate::error::AioError;
use crate::observe::{Latencies, RequestState};
use crate::origin::Origin;
use crate::stats::Stats;
use crate::sync::{AtomicBool, Mutex, Turn};
use crate::sys::Kernel;
use crate::user_code;
pub(crate) use account::IdleTask;
pub(crate) use cancel::RequestId;
pub(crate) use request::{Completed, Completions, List, OwnedCell, Receipt, Watch};
use std::fmt;
use std::sync::Weak;
pub(crate) use threads::StartHook;

/// What an engine is made of.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) depth: u32,
    pub(crate) exact_depth: bool,
    pub(crate) dispatch: Dispatch,
    pub(crate) thread_name: String,
    pub(crate) on_thread_start: Option<StartHook>,
    pub(crate) force_syscalls: bool,
}

/// One kernel context and everything that drives it.
pub(crate) struct Engine {
    /// For the threads that the engine starts.
    me: Weak<Engine>,
    kernel: Kernel,
    dispatch: Dispatch,
    origin: Origin,
    config: Config,
    slots: slots::Slots,
    backlog: backlog::Backlog,
    polls: polls::Polls,
    consumer: Mutex<reap::Consumer>,
    roles: roles::Roles,
    dispatcher: dispatcher::Dispatcher,
    inbox: inbox::Inbox,
    helper: helper::Helper,
    counters: counters::Counters,
    medium: medium::Medium,
    observer: observer::Observer,
    idle: account::IdleSignal,
    /// Another part of the process destroyed the context, or `io_getevents` is refused.
    lost: AtomicBool,
    end: end::End,
    /// One thread at a time is in `poll`.
    poller: Turn,
}

impl Engine {
    fn on(kernel: Kernel, depth: u32, config: Config, me: Weak<Engine>) -> Engine {
        Engine {
            me,
            kernel,
            dispatch: config.dispatch,
            origin: Origin::here(),
            config,
            slots: slots::Slots::new(depth),
            backlog: backlog::Backlog::new(),
            polls: polls::Polls::new(),
            consumer: Mutex::new(reap::Consumer::default()),
            roles: roles::Roles::new(),
            dispatcher: dispatcher::Dispatcher::new(),
            inbox: inbox::Inbox::new(),
            helper: helper::Helper::new(),
            counters: counters::Counters::new(),
            medium: medium::Medium::new(),
            observer: observer::Observer::new(),
            idle: account::IdleSignal::new(),
            lost: AtomicBool::new(false),
            end: end::End::new(),
            poller: Turn::new(),
        }
    }

    /// Logs the depth that was asked for and the depth of the context.
    pub(crate) fn log(&self) {
        self.kernel.log(self.name());
        let (asked, got) = (self.config.depth, self.slots.depth());
        let (name, mode) = (&self.config.thread_name, self.kernel.mode());
        user_code::info(format_args!(
            "{name}: kernel AIO context: asked for {asked} requests in flight, got {got}, completions by {mode:?}"
        ));
        if got < asked.into() {
            user_code::warn(format_args!(
                "{name}: fs.aio-max-nr is nearly used up: {got} requests in flight instead of {asked}"
            ));
        }
    }

    /// The number by which a thread knows that it is running a callback of this engine.
    #[inline]
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    #[inline]
    fn runs_callbacks_anywhere(&self) -> bool {
        self.dispatch == Dispatch::Anywhere
    }

    /// From now on one of so many new requests is observed.
    pub(crate) fn observe(&self, every: u32) {
        self.observer.set_every(every);
    }

    pub(crate) fn observes_every(&self) -> u32 {
        self.observer.every()
    }

    pub(crate) fn latencies(&self) -> Latencies {
        self.observer.latencies()
    }

    /// The observed requests that are outstanding. Not in a forked child: it takes locks.
    pub(crate) fn states(&self, shard: usize) -> Vec<RequestState> {
        if !self.observer.has_records() {
            return Vec::new(); // the backlog may be long
        }
        self.observer.states(&self.backlog.tags(), shard)
    }

    /// What stands before each line that it logs.
    pub(crate) fn name(&self) -> &str {
        &self.config.thread_name
    }

    /// Whether it has no completion thread: callbacks run in `poll`.
    pub(crate) fn is_manual(&self) -> bool {
        self.dispatch == Dispatch::Manual
    }

    /// How many requests may be in flight: what was asked for, or less.
    pub(crate) fn depth(&self) -> u64 {
        self.slots.depth()
    }

    /// Whether this thread is running callbacks of this engine.
    pub(crate) fn is_dispatching_here(&self) -> bool {
        plug::is_plugged(self.id())
    }

    /// Whether this is the process that made the context, and not a forked child (I10).
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.origin.is_here()
    }

    #[inline]
    pub(crate) fn check_origin(&self) -> Result<(), AioError> {
        if self.is_here() {
            Ok(())
        } else {
            Err(AioError::Forked)
        }
    }

    /// Why it takes no requests.
    #[cold]
    fn why_closed(&self) -> AioError {
        match self.is_lost() {
            true => AioError::ContextGone,
            false => AioError::ShutDown,
        }
    }

    /// Returns an error if the engine takes no requests.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), AioError> {
        self.check_origin()?;
        if self.counters.is_closing() {
            Err(self.why_closed())
        } else {
            Ok(())
        }
    }

    /// Counts the panics of user code that this thread has met outside callbacks and wakers: of loggers, of
    /// destructors of wakers.
    #[inline]
    pub(crate) fn collect_panics(&self) {
        let panics = user_code::take_panics();
        if panics > 0 {
            self.counters.panics.add(panics);
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.collect_panics();
        let counters = &self.counters;
        let (queued, taken, completing, returned) = (
            self.backlog.waiting() as u64,
            self.slots.taken(),
            counters.completing(),
            self.slots.returned(),
        );
        let in_flight = (taken + completing).saturating_sub(returned + counters.resuming.get());
        // Requests that came back, by an event or without one, less those that were submitted again, less
        // those that are completing.
        let completed = (returned + counters.eventless.get())
            .saturating_sub(counters.resumed.get() + completing);
        Stats {
            accepted: completed + in_flight + queued,
            completed,
            in_flight,
            queued,
            depth: self.slots.depth(),
            refused_late: counters.refused_late.get(),
            panics: counters.panics.get(),
            submits: (taken + counters.empty.get()).saturating_sub(counters.along.get()),
            blocked: counters.blocked.get(),
            blocked_millis: counters.blocked_millis.get(),
            longest_backlog: self.backlog.longest() as u64,
            waits: counters.waits.get(),
            excesses: completion::excesses(),
        }
    }
}

/// Writes a snapshot, so that no lock is held while the user's formatter runs.
impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats();
        f.debug_struct("Engine")
            .field("name", &self.config.thread_name)
            .field("dispatch", &self.dispatch)
            .field("mode", &self.kernel.mode())
            .field("stats", &stats)
            .finish_non_exhaustive()
    }
}
