//! Requests over borrowed files and memory, all complete before the scope is left.
//!
//! Sound as `std::thread::scope` is: the kernel has borrowed memory only while `Aio::scope` is on the stack,
//! and it is not left, by return or by panic, before every request is complete. Handles may be dropped or
//! forgotten: what is waited for is in the scope itself.
//!
//! | file | noun |
//! | --- | --- |
//! | `mod` | the scope, and the handles of its requests |
//! | `with` | the requests that can be made in it |
//! | `alone` | the same, one at a time, without a scope |
//! | `many` | many reads or writes of one file |
//! | `options` | how a request is to be done |
//! | `work` | what the engine carries, over `memory` that is borrowed; `requests`: those of one scope |

mod alone;
mod many;
mod memory;
mod options;
mod requests;
mod with;
mod work;

use crate::aio::Aio;
use crate::engine::{Engine, Watch};
use crate::op::Job;
use crate::user_code;
pub use alone::AioWith;
pub use options::IoOptions;
use requests::{Requests, State};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
pub use with::ScopeWith;
use work::BorrowedWork;

/// Where borrowed requests are made: what the closure of [`Aio::scope`] gets, where there is an example. Not
/// `Sync`: its requests are made, and waited for, on one thread.
pub struct Scope<'scope, 'env: 'scope> {
    engine: &'env Arc<Engine>,
    requests: RefCell<Requests>,
    /// Both lifetimes as they are, neither shortened nor lengthened: see `std::thread::Scope`.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// Stands for one request of a [`Scope`]. It may be dropped: the scope waits for the request all the same.
#[must_use = "the request may fail, and only `wait` returns its result"]
pub struct ScopedIo<'scope> {
    place: usize,
    wait: &'scope dyn WaitFor,
}

/// A scope, without its second lifetime.
trait WaitFor {
    fn wait_for(&self, place: usize) -> io::Result<usize>;
}

impl Aio {
    /// Runs `body`, which may make any number of requests over what it borrows, and returns when all of them
    /// are complete: also when `body` panics or returns early. The requests are submitted together, in one
    /// `io_submit` where there are slots: when the first is waited for, when `body` ends, or by
    /// [`Scope::submit`].
    ///
    /// The calling thread waits, and takes the completions itself. Works inside a callback.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let file = std::fs::File::open("/dev/zero")?;
    /// let mut frames = vec![1u8; 64 * 4096];
    /// kiocb::Aio::global()?.scope(|s| {
    ///     let pages = frames.chunks_mut(4096).zip(0..);
    ///     let reads: Vec<_> = pages.map(|(frame, page)| s.read_at(&file, frame, page * 4096)).collect();
    ///     reads.into_iter().try_for_each(|read| read.wait().map(|count| assert_eq!(count, 4096)))
    /// })?;
    /// assert!(frames.iter().all(|&byte| byte == 0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// If `body` does, afterwards.
    pub fn scope<'env, R>(
        &'env self,
        body: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R,
    ) -> R {
        let scope = Scope {
            engine: self.engine(),
            requests: RefCell::new(Requests::new()),
            scope: PhantomData,
            env: PhantomData,
        };
        let never_left_early = AbortOnUnwind;
        let outcome = user_code::try_run(|| body(&scope));
        scope.finish();
        std::mem::forget(never_left_early);
        outcome.unwrap_or_else(|panic| panic.resume())
    }
}

impl<'scope, 'env> Scope<'scope, 'env> {
    /// The file and the memory are borrowed for the scope's lifetime as well, by the callers: those of
    /// [`ScopeWith`].
    fn add(&'scope self, state: BorrowedWork, options: IoOptions) -> ScopedIo<'scope> {
        let options = options.into_options();
        let place = self.requests.borrow_mut().add(Job { state, options });
        ScopedIo { place, wait: self }
    }

    /// Submits what was made so far, so that it runs while the closure does something else. Blocks where
    /// [`Iocb::submit`](crate::Iocb::submit) does.
    pub fn submit(&self) {
        self.send(false);
    }

    /// `reaps_itself`: this thread will do nothing but wait.
    fn send(&self, reaps_itself: bool) {
        let unsent = self.requests.borrow_mut().take_unsent();
        let list = unsent.inspect(|cell| cell.set_reaps_itself(reaps_itself));
        if list.len() > 0 {
            let refused = self.engine.submit_list(list);
            debug_assert!(refused.is_empty(), "a scope has no callbacks");
        }
    }

    /// Makes all the requests, which belong to this scope, and puts their results into `results`.
    fn wait_for_all(
        &self,
        requests: impl Iterator<Item = ScopedIo<'scope>>,
        results: &mut Vec<io::Result<usize>>,
    ) {
        let first = self.requests.borrow().len();
        let end = first + requests.count(); // makes them
        self.send(true);
        results.clear();
        results.extend((first..end).map(|place| self.wait_for(place)));
    }

    /// Waits for everything. Nothing of the scope's is with the kernel afterwards.
    fn finish(&self) {
        self.send(true);
        let count = self.requests.borrow().len();
        for place in 0..count {
            self.complete(place);
        }
    }

    fn complete(&self, place: usize) {
        let state = self.replace(place, State::Taken);
        let state = match state {
            State::Waiting(watch) => State::Done(self.wait_until_done(watch)),
            done => done,
        };
        self.replace(place, state);
    }

    fn replace(&self, place: usize, state: State) -> State {
        self.requests.borrow_mut().replace(place, state)
    }

    /// In a forked child the request is the parent's: here nothing will ever write to the memory.
    fn wait_until_done(&self, mut watch: Watch<Job<BorrowedWork>>) -> io::Result<usize> {
        if self.engine.is_here() {
            let never_left_early = AbortOnUnwind;
            self.engine.wait(&mut watch, None);
            std::mem::forget(never_left_early);
        }
        if !self.engine.is_here() {
            return watch.take_in_child();
        }
        watch.take().expect("without a deadline there is a result")
    }
}

impl WaitFor for Scope<'_, '_> {
    fn wait_for(&self, place: usize) -> io::Result<usize> {
        self.send(false);
        self.complete(place);
        match self.replace(place, State::Taken) {
            State::Done(result) => result,
            State::Waiting(_) | State::Taken => {
                unreachable!("completed just now, and a handle waits once")
            }
        }
    }
}

impl ScopedIo<'_> {
    /// Blocks until the request is complete; submits it first, with all others of the scope, if that has not
    /// been done.
    ///
    /// # Errors
    /// As [`Iocb::submit`](crate::Iocb::submit) and [`Completion::result`](crate::Completion::result).
    pub fn wait(self) -> io::Result<usize> {
        self.wait.wait_for(self.place)
    }
}

/// The kernel may still have the memory: better no process than one whose memory changes under its feet.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

impl fmt::Debug for ScopedIo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedIo")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
