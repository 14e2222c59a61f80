//! Where the outcome of a barrier arrives that has a handle instead of a callback.

use crate::sync::lock::{Condvar, MutexGuard};
use crate::sys::process_mutex::ProcessMutex;
use crate::user_code;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

/// What a barrier and its handle share. With the buffer of a commit, which comes back when its write has
/// ended; a barrier alone has `()`, which is there from the beginning.
pub(super) struct Slot<B> {
    /// In a forked child it can't be locked: the outcome is the parent's.
    state: ProcessMutex<State<B>>,
    /// Notified once, when all is there.
    came: Condvar,
}

struct State<B> {
    result: Option<io::Result<()>>,
    buf: Option<B>,
    waker: Option<Waker>,
}

/// What has arrived.
pub(super) struct Outcome<B> {
    pub(super) result: io::Result<()>,
    pub(super) buf: B,
}

/// A slot, whatever its buffer is.
pub(super) trait Arrive: Send + Sync {
    /// The barrier has ended like this. Calls a waker, outside the lock.
    fn arrive(&self, result: io::Result<()>);
}

impl<B> State<B> {
    fn is_complete(&self) -> bool {
        self.result.is_some() && self.buf.is_some()
    }
}

impl<B: Send> Slot<B> {
    pub(super) fn new(buf: Option<B>) -> Arc<Slot<B>> {
        let state = State {
            result: None,
            buf,
            waker: None,
        };
        Arc::new(Slot {
            state: ProcessMutex::new(state),
            came: Condvar::new(),
        })
    }

    /// The write has ended.
    pub(super) fn give_back(&self, buf: B) {
        self.change(|state| state.buf = Some(buf));
    }

    fn change(&self, change: impl FnOnce(&mut State<B>)) {
        let Some(mut state) = self.state.lock() else {
            return; // a forked child
        };
        change(&mut state);
        if !state.is_complete() {
            return;
        }
        let waker = state.waker.take();
        drop(state);
        self.came.notify_all();
        if let Some(waker) = waker {
            user_code::wake(waker);
        }
    }

    /// Whether nothing more will arrive here: all is there, or this is a forked child.
    pub(super) fn is_settled(&self) -> bool {
        self.state.lock().is_none_or(|state| state.is_complete())
    }

    /// Whether this is a forked child: nothing will arrive here.
    pub(super) fn is_forked(&self) -> bool {
        !self.state.is_here()
    }

    /// Sleeps until it is settled, or until the deadline.
    pub(super) fn wait(&self, deadline: Option<Instant>) {
        let Some(mut state) = self.state.lock() else {
            return;
        };
        while !state.is_complete() {
            match deadline {
                None => self.came.wait(&mut state),
                Some(deadline) if self.came.wait_until(&mut state, deadline).timed_out() => return,
                Some(_) => {}
            }
        }
    }

    /// Registers `waker`, unless it is settled. Returns whether it is.
    pub(super) fn is_settled_or_wakes(&self, waker: &Waker) -> bool {
        let mut waker = Some(user_code::clone_waker(waker));
        let settled = self.state.lock().is_none_or(|mut state| {
            let complete = state.is_complete();
            if !complete {
                std::mem::swap(&mut state.waker, &mut waker);
            }
            complete
        });
        user_code::drop_value("dropping a waker", waker); // the one before, if there was one
        settled
    }

    /// Takes what has arrived. `None` before all is there, and in a forked child.
    pub(super) fn take(&self) -> Option<Outcome<B>> {
        let state = self.state.lock()?;
        take(state)
    }
}

fn take<B>(mut state: MutexGuard<'_, State<B>>) -> Option<Outcome<B>> {
    if !state.is_complete() {
        return None;
    }
    let (result, buf) = (state.result.take()?, state.buf.take()?);
    Some(Outcome { result, buf })
}

impl<B: Send> Arrive for Slot<B> {
    fn arrive(&self, result: io::Result<()>) {
        self.change(|state| state.result = Some(result));
    }
}
