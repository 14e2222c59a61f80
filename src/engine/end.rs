//! The end of the kernel context: the engine destroys it, or another part of the process does.
#![allow(
    unsafe_code,
    reason = "destroys the context whose ring other threads read"
)]

use super::Engine;
use super::roles::NO_LEADER;
use crate::sync::{AtomicBool, JoinHandle, Mutex, Ordering, sleep};
use crate::sys::{Mode, OVERWRITTEN};
use crate::user_code;
use std::fmt;
use std::time::Duration;

/// How often an end looks, a millisecond apart, whether the leader has gone.
const PATIENCE: u32 = 1000;

/// How far the end has come.
#[derive(Debug)]
pub(super) struct End {
    thread: Mutex<Option<JoinHandle<()>>>,
    /// A thread was started to end the context.
    in_background: AtomicBool,
    /// No user code of the context runs any more, and a thread is destroying it.
    destroying: AtomicBool,
    over: AtomicBool,
    /// The context is destroyed, or about to be.
    gone: Mutex<bool>,
}

impl End {
    pub(super) fn new() -> End {
        End {
            thread: Mutex::new(None),
            in_background: AtomicBool::new(false),
            destroying: AtomicBool::new(false),
            over: AtomicBool::new(false),
            gone: Mutex::new(false),
        }
    }

    /// Submits something that no request stands for, unless the context is gone: its number may be that of a
    /// new one by then, another part of the process's. Requests need not ask, because the end waits for them.
    pub(super) fn unless_gone<R>(&self, submit: impl FnOnce() -> R) -> Option<R> {
        let gone = self.gone.lock();
        (!*gone).then(submit)
    }

    /// The completion thread, to be joined at the end.
    pub(super) fn keep(&self, thread: JoinHandle<()>) {
        *self.thread.lock() = Some(thread);
    }

    /// Waits until the completion thread has ended. It has nothing left to do. A panic of it was logged.
    pub(super) fn join(&self) {
        let thread = self.thread.lock().take();
        drop(thread.map(JoinHandle::join));
    }

    /// Returns whether another thread was to end it already.
    pub(super) fn begin_in_background(&self) -> bool {
        // SeqCst as all of the end's flags.
        self.in_background.swap(true, Ordering::SeqCst)
    }

    /// No thread could be started for it: a thread that waits for the end brings it about itself.
    pub(super) fn give_up_background(&self) {
        // SeqCst as all of the end's flags.
        self.in_background.store(false, Ordering::SeqCst);
    }

    pub(super) fn is_in_background(&self) -> bool {
        // SeqCst as all of the end's flags.
        self.in_background.load(Ordering::SeqCst)
    }

    pub(super) fn is_destroying(&self) -> bool {
        // SeqCst: as for `is_over`.
        self.destroying.load(Ordering::SeqCst)
    }

    pub(super) fn is_over(&self) -> bool {
        // SeqCst: stored, and then the waiting threads are notified; see `IdleSignal::wait`.
        self.over.load(Ordering::SeqCst)
    }
}

impl Engine {
    /// Deals with an errno of a wait other than EINTR, up to what is to be logged. EINVAL means that another part
    /// of this process destroyed the context, and OVERWRITTEN that it wrote to the ring. Requests in flight never
    /// complete, and their memory leaks, because the kernel may still write there. Any other errno means that a
    /// filter which was installed later refuses the call.
    pub(super) fn note_failed_wait(&self, errno: i32) -> Option<FailedWait> {
        let is_lost = matches!(errno, libc::EINVAL | OVERWRITTEN);
        if !is_lost && self.kernel.mode() == Mode::Ring {
            let is_news = self.counters.is_first_refused_wait();
            return is_news.then_some(FailedWait::Refused(errno)); // events still come by the ring
        }
        let mut consumer = self.consumer.lock();
        // From now on no thread reads the ring: it may be unmapped.
        if consumer.close() {
            return None;
        }
        drop(consumer);
        *self.end.gone.lock() = errno == libc::EINVAL;
        // SeqCst: see `is_lost`.
        self.lost.store(true, Ordering::SeqCst);
        self.counters.close(); // after that: a request is refused because the context is lost
        self.notify_idle();
        self.wake_dispatcher();
        Some(FailedWait::Lost(errno))
    }

    /// Logs it, which is user code.
    pub(super) fn tell_failed_wait(&self, failed: &FailedWait) {
        user_code::error(format_args!("{}: {failed}", self.config.thread_name));
    }

    /// Forbids reads of the ring and destroys the context (I9). Nothing is outstanding, so no thread sleeps
    /// in the kernel.
    pub(super) fn tear_down(&self) {
        // A thread that waits for a request that was never submitted may sleep in the kernel; without a ring
        // it holds the consumer's lock. It announced itself before it looked whether the end has begun.
        let leader = self.roles.leader();
        if leader != NO_LEADER {
            self.interrupt_leader(leader);
        }
        let mut consumer = self.consumer.lock();
        if consumer.close() {
            return;
        }
        drop(consumer);
        self.let_the_leader_go();
        *self.end.gone.lock() = true;
        // SAFETY: `closed` keeps all threads from the ring from now on.
        if let Err(errno) = unsafe { self.kernel.destroy() } {
            user_code::error(format_args!(
                "{}: io_destroy failed with errno {errno}: the context stays until the process ends",
                self.config.thread_name
            ));
        }
    }

    /// A leader that looked before the end began may be about to sleep, and would do so on a number that another
    /// context may have by then. It goes for a second at most: its wake-up may have been impossible to send.
    fn let_the_leader_go(&self) {
        for _ in 0..PATIENCE {
            let leader = self.roles.leader();
            if leader == NO_LEADER {
                return;
            }
            self.interrupt_leader(leader);
            sleep(Duration::from_millis(1));
        }
    }

    /// Destroys the context and wakes what waits for the end. Nothing is outstanding, or no more events can
    /// come. The caller runs what was deferred afterwards: no dispatcher comes after it.
    pub(super) fn finish(&self) {
        // SeqCst: see `End::is_destroying`.
        self.end.destroying.store(true, Ordering::SeqCst);
        self.idle.notify();
        self.tear_down();
        // SeqCst: see `End::is_over`.
        self.end.over.store(true, Ordering::SeqCst);
        self.notify_idle();
    }
}

/// A wait that failed, with its errno, as it is logged.
pub(super) enum FailedWait {
    /// Events still come by the ring.
    Refused(i32),
    /// No event comes.
    Lost(i32),
}

impl fmt::Display for FailedWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (errno, why) = match *self {
            FailedWait::Refused(errno) => {
                return write!(
                    f,
                    "io_getevents is refused (errno {errno}) since the context was made, by a seccomp filter: \
                     threads that wait look at the ring every millisecond instead of sleeping"
                );
            }
            FailedWait::Lost(OVERWRITTEN) => (
                None,
                "other code of the process has written to the ring of events",
            ),
            FailedWait::Lost(libc::EINVAL) => (
                Some(libc::EINVAL),
                "the kernel AIO context was destroyed behind our back",
            ),
            FailedWait::Lost(errno) => (
                Some(errno),
                "the call is refused since the context was made, by a seccomp filter",
            ),
        };
        if let Some(errno) = errno {
            write!(f, "io_getevents failed with errno {errno}: ")?;
        }
        write!(
            f,
            "{why}; what is in flight never completes, and its memory and files are never freed"
        )
    }
}
