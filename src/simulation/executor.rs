//! A toy executor: one task, on the thread that asks.

use super::call_out::{Place, call_out, survive};
use crate::sync::{Condvar, Mutex};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

#[derive(Debug, Default)]
struct Task {
    woken: Mutex<bool>,
    came: Condvar,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        *self.woken.lock() = true;
        self.came.notify_all();
        call_out(Place::Waker);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        call_out(Place::Drop);
    }
}

impl Task {
    fn sleep(&self) {
        let mut woken = self.woken.lock();
        while !*woken {
            self.came.wait(&mut woken);
        }
        *woken = false;
    }
}

pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let task = Arc::new(Task::default());
    loop {
        let waker = Waker::from(Arc::clone(&task));
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            survive(|| drop((waker, task)));
            return output;
        }
        survive(|| drop(waker));
        task.sleep();
    }
}

/// Polls once, by a waker that nobody waits for.
pub(super) fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(Task::default()));
    let polled = Pin::new(future).poll(&mut Context::from_waker(&waker));
    survive(|| drop(waker));
    match polled {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
