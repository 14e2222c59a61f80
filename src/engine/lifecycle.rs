//! Beginning and end: make the context, refuse new requests, drain, stop the thread, destroy the context (I9).
//!
//! A context ends on its completion thread, or under `Dispatch::Manual` on the thread that drops or shuts it
//! down. Where that may not block, because it runs user code or its time is over, the end goes on in the
//! background: on the completion thread, or on one that is started for it.

use super::request::Watch;
use super::{Config, Engine, context, threads};
use crate::dispatch::Dispatch;
use crate::error::{AioError, SetupError};
use crate::op::Work;
use crate::sync::{Parker, now};
use crate::user_code;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What an idle thread may take until it has noticed that it shall end.
const GRACE: Duration = Duration::from_millis(100);

impl Engine {
    /// Makes a context, and a completion thread where there is one.
    pub(crate) fn launch(config: Config) -> Result<Arc<Engine>, SetupError> {
        let (kernel, depth) = context::make(config.depth, config.force_syscalls)?;
        let engine = Arc::new_cyclic(|me| Engine::on(kernel, depth, config, Weak::clone(me)));
        if engine.dispatch != Dispatch::Manual {
            let thread = engine
                .start_completion_thread()
                .inspect_err(|_| engine.tear_down())
                .map_err(SetupError::Thread)?;
            engine.end.keep(thread);
        }
        Ok(engine)
    }

    /// Starts the thread that runs the engine's callbacks. It keeps the engine alive, and ends when the
    /// engine is finished.
    fn start_completion_thread(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let engine = Arc::clone(self);
        let hook = self.config.on_thread_start.clone();
        threads::start(&self.config.thread_name, hook, move || engine.live())
    }

    pub(super) fn live(&self) {
        self.dispatcher.adopt(&Parker::current());
        self.run();
        if self.is_here() {
            self.finish();
        }
    }

    /// Waits until nothing is outstanding, or the time is over. Not for a thread that must not block.
    pub(crate) fn drain(&self, deadline: Option<Instant>) -> Result<(), AioError> {
        self.check_origin()?;
        let idle = match self.dispatch {
            Dispatch::Manual => self.poll_until_idle(deadline),
            Dispatch::Thread | Dispatch::Anywhere => self.await_idle(deadline),
        };
        self.check_origin()?;
        match idle {
            true => Ok(()),
            false if self.is_lost() => Err(AioError::ContextGone),
            false => Err(AioError::TimedOut),
        }
    }

    fn await_idle(&self, deadline: Option<Instant>) -> bool {
        let _listening = self.counters.listen();
        self.idle
            .wait(deadline, || self.outstanding() == 0 || self.is_lost());
        self.outstanding() == 0
    }

    /// Refuses new requests from now on, and cancels what can be cancelled.
    pub(crate) fn close(&self) {
        if self.is_here() {
            self.counters.close();
            self.cancel_all();
        }
    }

    /// Begins the end: once nothing is outstanding, the context is destroyed. New requests are refused
    /// already, or impossible. Returns whether it had begun before.
    pub(crate) fn stop(&self) -> bool {
        let before = self.counters.stop();
        self.wake_dispatcher();
        before
    }

    /// Waits for the end, which has begun; under `Dispatch::Manual` brings it about. Returns `false` when the
    /// time is over: then it goes on in the background.
    ///
    /// The time is for requests and user code. What the kernel takes to destroy an idle context comes on top.
    pub(crate) fn await_end(&self, deadline: Option<Instant>) -> bool {
        let deadline = deadline.map(|deadline| deadline.max(now() + GRACE));
        if self.dispatch == Dispatch::Manual && !self.end.is_in_background() {
            return self.finish_here(deadline);
        }
        let has_begun = || self.end.is_destroying() || self.end.is_over();
        if !self.idle.wait(deadline, has_begun) {
            return false;
        }
        self.idle.wait(None, || self.end.is_over());
        self.end.join();
        true
    }

    fn finish_here(&self, deadline: Option<Instant>) -> bool {
        if !self.poll_until_idle(deadline) && !self.is_lost() {
            return false;
        }
        let after_the_last_poll = match deadline {
            None => Some(self.poller.lock()),
            Some(deadline) => self.poller.try_lock_until(deadline),
        };
        if after_the_last_poll.is_some() {
            self.finish();
        }
        after_the_last_poll.is_some()
    }

    /// The end, which has begun, goes on in the background.
    pub(crate) fn end_in_background(&self) {
        if self.dispatch != Dispatch::Manual || self.end.is_over() {
            return;
        }
        if self.end.begin_in_background() {
            return;
        }
        let Some(engine) = self.me.upgrade() else {
            return;
        };
        let hook = self.config.on_thread_start.clone();
        let started = threads::start("kiocb-end", hook, move || {
            engine.finish_here(None);
        });
        if let Err(error) = started {
            user_code::error(format_args!(
                "{}: no thread to end the context on ({error}): it stays until the process ends",
                self.config.thread_name
            ));
        }
    }

    /// Logs that requests were left behind.
    pub(crate) fn report_overdue(&self) {
        let left = self.outstanding();
        user_code::warn(format_args!(
            "{}: shutdown past its deadline: {left} requests are outstanding and keep their files and buffers",
            self.config.thread_name
        ));
    }

    /// Lets a watcher go in the process that it is in: the reaper drops what it leaves.
    pub(crate) fn abandon<W: Work>(&self, watch: Watch<W>) {
        if !self.is_here() {
            return watch.forget();
        }
        if watch.is_cancellable() {
            // Its result would never be asked for, and it might hold its slot for ever.
            self.cancel_soon(&watch);
        }
        drop(watch);
    }
}
