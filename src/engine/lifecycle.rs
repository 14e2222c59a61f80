//! Beginning and end: make the context, refuse new requests, drain, stop the thread, destroy the context
//! (I9).
//!
//! A context ends on its completion thread, or under `Dispatch::Manual` on the thread that drops or shuts it
//! down. If that thread must not block, because it runs user code or its time is over, the end goes on in the
//! background: on the completion thread, or on a thread `kiocb-end` that is started for it.

use super::account::IdleTask;
use super::request::Watch;
use super::{Config, Engine, context, threads};
use crate::dispatch::Dispatch;
use crate::error::{AioError, SetupError};
use crate::op::Work;
use crate::sync::{JoinHandle, Parker, now};
use crate::user_code;
use std::cell::Cell;
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How long an idle completion thread may take to notice that it is to end.
const GRACE: Duration = Duration::from_millis(100);

impl Engine {
    /// Makes a context, and a completion thread where there is one.
    pub(crate) fn launch(config: Config) -> Result<Arc<Engine>, SetupError> {
        let (kernel, depth) = context::make(&config)?;
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
        threads::start(self.name(), self.name(), hook, move || engine.live())
    }

    pub(super) fn live(&self) {
        self.collect_panics(); // of the hook
        self.dispatcher.adopt(&Parker::current());
        self.run();
        if self.is_here() {
            self.finish();
            self.run_deferred();
        }
    }

    /// Waits until nothing is outstanding, or the time is over. A thread that must not block does not call
    /// it.
    pub(crate) fn drain(&self, deadline: Option<Instant>) -> Result<(), AioError> {
        self.check_origin()?;
        let idle = match self.dispatch {
            Dispatch::Manual => self.poll_until_idle(deadline),
            Dispatch::Thread | Dispatch::Anywhere => self.listen_until_idle(deadline),
        };
        self.conclude_drain(idle)
    }

    /// As `drain`, where other threads take all events.
    pub(crate) fn await_idle(&self, deadline: Option<Instant>) -> Result<(), AioError> {
        self.check_origin()?;
        let idle = self.listen_until_idle(deadline);
        self.conclude_drain(idle)
    }

    fn conclude_drain(&self, idle: bool) -> Result<(), AioError> {
        self.check_origin()?;
        match idle {
            true => Ok(()),
            false if self.is_lost() => Err(AioError::ContextGone),
            false => Err(AioError::TimedOut),
        }
    }

    fn listen_until_idle(&self, deadline: Option<Instant>) -> bool {
        let _listening = self.counters.listen();
        let idle = self
            .idle
            .wait(deadline, || self.outstanding() == 0 || self.is_lost());
        idle && !self.is_lost()
    }

    /// Refuses new requests from now on, and cancels all polls.
    pub(crate) fn close(&self) {
        if self.is_here() {
            self.counters.close();
            self.cancel_all();
        }
    }

    /// Begins the end: once nothing is outstanding, the dispatcher destroys the context. New requests are
    /// refused already, or impossible. Returns whether the end had begun before.
    pub(crate) fn stop(&self) -> bool {
        if !self.is_here() {
            return true; // user code has forked: the end is the parent's
        }
        let before = self.counters.stop();
        self.wake_dispatcher();
        before
    }

    /// Waits for the end, which has begun; under `Dispatch::Manual` carries it out. Returns `false` if the
    /// time is over: then the end goes on in the background.
    ///
    /// The deadline covers requests and user code. The time in which the kernel destroys an idle context
    /// comes on top.
    pub(crate) fn await_end(&self, deadline: Option<Instant>) -> bool {
        if !self.is_here() {
            return false; // as in `stop`
        }
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
        let Some(after_the_last_poll) = self.poller.take_until(deadline) else {
            return false;
        };
        self.finish();
        drop(after_the_last_poll);
        self.run_deferred();
        true
    }

    /// As `drain`, for a task: registers its waker, unless nothing is outstanding. Under `Dispatch::Manual`
    /// other code polls.
    pub(crate) fn poll_idle(
        &self,
        task: &mut IdleTask,
        waker: &Waker,
    ) -> Poll<Result<(), AioError>> {
        let waker = self.clone_waker(waker)?;
        let idle = Cell::new(false);
        let is_so = || {
            idle.set(self.outstanding() == 0);
            idle.get() || self.is_lost()
        };
        if !task.is_waiting() {
            self.counters.add_listener();
        }
        let is_over = self.idle.register(task, waker, is_so);
        if let Err(forked) = self.check_origin() {
            return Poll::Ready(Err(forked)); // the destructor of the waker before forked
        }
        if !is_over {
            return Poll::Pending;
        }
        self.remove_listener(task);
        Poll::Ready(if idle.get() {
            Ok(())
        } else {
            Err(AioError::ContextGone)
        })
    }

    /// Cloning a waker is user code, which may panic or fork: before anything is counted or locked for it.
    fn clone_waker(&self, waker: &Waker) -> Result<Waker, AioError> {
        self.check_origin()?;
        let waker = user_code::clone_waker(waker);
        match self.check_origin() {
            Ok(()) => Ok(waker),
            Err(forked) => {
                user_code::call_of(self.name(), "dropping a waker", || drop(waker));
                Err(forked)
            }
        }
    }

    /// The task of `poll_idle` waits no longer.
    pub(crate) fn forget_idle(&self, task: &mut IdleTask) {
        if self.is_here() && task.is_waiting() {
            self.remove_listener(task);
        }
    }

    fn remove_listener(&self, task: &mut IdleTask) {
        self.idle.forget(task);
        self.counters.remove_listener();
    }

    /// Lets a task wait for the end, which has begun: registers its waker, unless the context has ended.
    pub(crate) fn poll_end(
        &self,
        task: &mut IdleTask,
        waker: &Waker,
    ) -> Poll<Result<(), AioError>> {
        let waker = self.clone_waker(waker)?;
        let is_over = self.idle.register(task, waker, || self.end.is_over());
        if let Err(forked) = self.check_origin() {
            return Poll::Ready(Err(forked)); // as in `poll_idle`
        }
        if !is_over {
            return Poll::Pending;
        }
        self.idle.forget(task);
        Poll::Ready(if self.is_lost() {
            Err(AioError::ContextGone)
        } else {
            Ok(())
        })
    }

    /// The task of `poll_end` waits no longer.
    pub(crate) fn forget_end(&self, task: &mut IdleTask) {
        if self.is_here() {
            self.idle.forget(task);
        }
    }

    /// Lets the end, which has begun, go on in the background.
    pub(crate) fn end_in_background(&self) {
        if !self.is_here() || self.dispatch != Dispatch::Manual || self.end.is_over() {
            return;
        }
        if self.end.begin_in_background() {
            return;
        }
        let Some(engine) = self.me.upgrade() else {
            return;
        };
        let hook = self.config.on_thread_start.clone();
        let started = threads::start(self.name(), "kiocb-end", hook, move || {
            engine.collect_panics(); // of the hook
            engine.finish_here(None);
        });
        if let Err(error) = started {
            self.end.give_up_background();
            if !user_code::must_not_block()
                && self.outstanding() == 0
                && self.finish_here(Some(now()))
            {
                return; // the kernel's 30 ms: better than an end that somebody awaits for ever
            }
            user_code::error(format_args!(
                "{}: no thread to end the context on ({error}): it stays until the process ends",
                self.config.thread_name
            ));
        }
    }

    /// Logs that requests are outstanding past the deadline, if any are: of several contexts only some may have
    /// them.
    pub(crate) fn report_overdue(&self) {
        let left = self.outstanding();
        if left == 0 {
            return;
        }
        let oldest = self.states(0).into_iter().max_by_key(|request| request.age);
        let oldest = oldest.map_or_else(String::new, |oldest| format!("; the oldest: {oldest}"));
        user_code::warn(format_args!(
            "{}: shutdown past its deadline: {left} requests are outstanding and keep their files and buffers{oldest}",
            self.config.thread_name
        ));
    }

    /// Drops a watch: the reaping thread drops the request. In a forked child it drops nothing.
    pub(crate) fn abandon<W: Work>(&self, watch: Watch<W>) {
        if !self.is_here() {
            return watch.forget();
        }
        if watch.is_observed() {
            self.observer.abandon(watch.tag()); // before user code, which may fork
        }
        if watch.is_cancellable() && !watch.cancel_unsubmitted() {
            // No thread will ask for its result, and it might hold its slot for ever.
            self.cancel_soon(&watch);
        }
        drop(watch);
    }
}
