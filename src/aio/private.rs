//! Private contexts: for threads that block until their own request is complete.
//!
//! Such threads, when they share a context, write the same counters for each request, wake each other, and wait
//! for the kernel's lock on the ring. So a wait that finds others on its context takes a small context that one
//! thread at a time holds. The first one makes it; it stays until the `Aio` ends.
//!
//! What is promised of the whole holds: a private context takes over one slot of the shared one, so no more
//! requests are in flight than the depth allows. A thread with requests of its own in the queue goes behind
//! them. Ends and statistics look at all contexts.

use crate::dispatch::Dispatch;
use crate::engine::{Config, Engine};
use crate::error::AioError;
use crate::op::Work;
use crate::sync::{AtomicBool, AtomicU32, CachePadded, Mutex, Ordering, place_of_thread};
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

/// A context has private ones beside it from this depth on: smaller ones have no slot to spare.
const LEAST_DEPTH: u64 = 32;
/// One slot of so many may become a private context.
const SHARE: u64 = 4;
const MOST: u64 = 64;
/// How often a thread finds others on its context before it gets its own: to make and to destroy one costs as
/// much as tens of thousands of requests.
const MEETINGS: u32 = 64;

/// Room for the private contexts of an `Aio`, by the number of the thread.
pub(super) struct PrivateContexts {
    places: Box<[Place]>,
    /// Whether one was made.
    is_used: AtomicBool,
    config: Config,
    /// Whether no more may be made.
    is_closed: Mutex<bool>,
}

#[derive(Default)]
struct Place {
    meetings: AtomicU32,
    context: OnceLock<Context>,
}

struct Context {
    engine: Arc<Engine>,
    is_held: CachePadded<AtomicBool>,
}

/// A private context, which is this thread's while this lives.
pub(super) struct Held<'a>(&'a Context);

impl PrivateContexts {
    /// None under `Dispatch::Manual`, where waits of other threads belong to what `poll` delivers, nor under
    /// `Dispatch::Anywhere`, where a waiting thread runs the callbacks of others. `depth` is that of the smallest
    /// shared context, which may be less than was asked for.
    pub(super) fn beside(config: &Config, depth: u64) -> PrivateContexts {
        let count = match config.dispatch {
            Dispatch::Thread if depth >= LEAST_DEPTH => (depth / SHARE).min(MOST),
            _ => 0,
        };
        PrivateContexts {
            places: (0..count).map(|_| Place::default()).collect(),
            is_used: AtomicBool::new(false),
            config: Config {
                depth: 1,
                dispatch: Dispatch::Manual,
                ..config.clone()
            },
            is_closed: Mutex::new(false),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The private context in this place, if it was made.
    pub(super) fn get(&self, place: usize) -> Option<&Arc<Engine>> {
        Some(&self.places.get(place)?.context.get()?.engine)
    }

    /// Those that were made.
    pub(super) fn engines(&self) -> impl Iterator<Item = &Arc<Engine>> {
        (0..self.len()).filter_map(|place| self.get(place))
    }

    /// No more are made from now on.
    pub(super) fn close(&self) {
        if self.len() > 0 {
            *self.is_closed.lock() = true;
        }
    }

    /// From now on one of so many new requests is observed, also on those that will be made.
    pub(super) fn observe(&self, every: u32) {
        if self.len() > 0 {
            let _making = self.is_closed.lock(); // see `make`
            self.engines().for_each(|engine| engine.observe(every));
        }
    }

    /// They have no completion thread that would end them.
    pub(super) fn end_in_background(&self) {
        self.engines().for_each(|engine| engine.end_in_background());
    }

    /// Whether a wait on the shared context may be better off on a private one: a quick look.
    #[inline]
    pub(super) fn may_serve(&self, shared: &Engine) -> bool {
        // Relaxed: a guess; a thread sees what it made itself.
        self.is_used.load(Ordering::Relaxed) || (self.len() > 0 && shared.is_in_use())
    }

    /// A private context for a wait of this thread, unless the shared one must serve it, or others are there too
    /// seldom.
    pub(super) fn take(&self, shared: &Engine) -> Option<Held<'_>> {
        if self.places.is_empty() || shared.has_queued() {
            return None; // what this thread has queued comes first
        }
        let place = &self.places[place_of_thread(self.places.len())];
        match place.context.get() {
            Some(context) => context.take(),
            None if shared.is_in_use() && place.is_worth_one() => self.make(place, shared)?.take(),
            None => None,
        }
    }

    /// The first failure is the last try: the machine's quota or the process's descriptors are used up, and the
    /// shared context will do.
    #[cold]
    fn make<'a>(&'a self, place: &'a Place, shared: &Engine) -> Option<&'a Context> {
        let mut is_closed = self.is_closed.try_lock()?;
        // Another thread of the same place may have been here first.
        let is_made = place.context.get().is_some();
        if *is_closed || is_made || !shared.is_here() || !shared.reserve_slot() {
            return None;
        }
        let made = Engine::launch(self.config.clone()).ok();
        // Under the lock: it is observed as the shared one, now and later.
        let made = made.inspect(|engine| engine.observe(shared.observes_every()));
        *is_closed = made.is_none();
        let made = made.map(|engine| place.context.get_or_init(|| Context::of(engine)));
        if made.is_some() {
            self.is_used.store(true, Ordering::Relaxed); // see `may_serve`
        }
        drop(is_closed);
        shared.end_reservation(made.is_some());
        made
    }
}

impl Place {
    /// Counts a meeting.
    #[inline]
    fn is_worth_one(&self) -> bool {
        // Relaxed, and no exchange: a guess.
        let meetings = self.meetings.load(Ordering::Relaxed);
        self.meetings
            .store(meetings.saturating_add(1), Ordering::Relaxed);
        meetings >= MEETINGS
    }
}

impl Context {
    fn of(engine: Arc<Engine>) -> Context {
        Context {
            engine,
            is_held: CachePadded(AtomicBool::new(false)),
        }
    }

    /// A context that was lost stays held: nobody can use it.
    #[inline]
    fn take(&self) -> Option<Held<'_>> {
        // Acquire and, in `drop`, Release: what the thread before did with the context comes first. Relaxed: where
        // another thread has it, nothing is read.
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        let taken = self.is_held.compare_exchange(false, true, acquire, relaxed);
        (taken.is_ok() && !self.engine.is_lost()).then(|| Held(self))
    }
}

impl Held<'_> {
    /// A submission that finds the context gone is the last: nobody takes it any more.
    #[inline]
    pub(super) fn submit_and_wait<W: Work>(self, work: W) -> Result<W::Output, (io::Error, W)> {
        let done = self.0.engine.submit_and_wait(work);
        if let Err((error, _)) = &done
            && is_gone(error)
        {
            std::mem::forget(self);
        }
        done
    }
}

#[cold]
fn is_gone(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner == Some(&AioError::ContextGone)
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release: see `take`.
        self.0.is_held.store(false, Ordering::Release);
    }
}

/// A snapshot of those that were made, so that no lock is held while the user's formatter runs.
impl fmt::Debug for PrivateContexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.engines()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_more_slots_may_be_lent_than_a_quarter_of_those_there_are() {
        let config = |dispatch| Config {
            depth: 4096,
            dispatch,
            exact_depth: false,
            thread_name: "test".to_owned(),
            on_thread_start: None,
            force_syscalls: false,
        };
        let asked = config(Dispatch::Thread);
        // What the kernel gave, where the quota is nearly used up.
        let got = [1, 31, 32, 64, 128, 4096];
        let places = got.map(|depth| PrivateContexts::beside(&asked, depth).len());
        assert_eq!(places, [0, 0, 8, 16, 32, 64]);
        for dispatch in [Dispatch::Anywhere, Dispatch::Manual] {
            assert_eq!(PrivateContexts::beside(&config(dispatch), 4096).len(), 0);
        }
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    fn explore(model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(3));
        builder.max_branches = 20_000;
        builder.check(model);
    }

    fn config(depth: u32) -> Config {
        Config {
            depth,
            dispatch: Dispatch::Manual,
            thread_name: "model".to_owned(),
            exact_depth: false,
            on_thread_start: None,
            force_syscalls: false,
        }
    }

    /// Room for one, beside a shared context that is in use.
    fn beside_a_busy_one() -> (Arc<PrivateContexts>, Arc<Engine>) {
        let contexts = PrivateContexts {
            places: Box::new([Place {
                meetings: AtomicU32::new(MEETINGS),
                context: OnceLock::new(),
            }]),
            is_used: AtomicBool::new(false),
            config: config(1),
            is_closed: Mutex::new(false),
        };
        let shared = Engine::launch(config(4)).expect("simulated");
        assert!(shared.reserve_slot());
        (Arc::new(contexts), shared)
    }

    #[test]
    fn a_private_context_is_held_by_one_thread_at_a_time() {
        explore(|| {
            let (contexts, shared) = beside_a_busy_one();
            let inside = Arc::new(AtomicUsize::new(0));
            let hold = move |contexts: &PrivateContexts, shared: &Engine, inside: &AtomicUsize| {
                if let Some(held) = contexts.take(shared) {
                    assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                    inside.fetch_sub(1, Ordering::Relaxed);
                    drop(held);
                }
            };
            let (theirs, engine, count) = (contexts.clone(), shared.clone(), inside.clone());
            let other = thread::spawn(move || hold(&theirs, &engine, &count));
            hold(&contexts, &shared, &inside);
            other.join().expect("no thread panics");
            assert_eq!(contexts.engines().count(), 1, "one of them made it");
            assert!(contexts.take(&shared).is_some(), "and nobody has it now");
        });
    }

    #[test]
    fn no_private_context_is_made_that_the_end_does_not_see() {
        explore(|| {
            let (contexts, shared) = beside_a_busy_one();
            let (theirs, engine) = (contexts.clone(), shared.clone());
            let other = thread::spawn(move || drop(theirs.take(&engine)));
            contexts.close();
            let seen = contexts.engines().count();
            other.join().expect("no thread panics");
            assert!(contexts.take(&shared).is_none() || seen == 1);
            assert_eq!(contexts.engines().count(), seen);
        });
    }
}
