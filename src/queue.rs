//! Completions as values: requests with tags go in, and come back complete.
#![allow(
    unsafe_code,
    reason = "knows that a queue has not left the thread of its tags"
)]

use crate::aio::Aio;
use crate::engine::{Completed, Completions, Engine, List};
use crate::error::SubmitError;
use crate::iocb::Iocb;
use crate::op::{Job, Request, Tagged};
use crate::sync::now;
use crate::thread_bound::Bound;
use crate::user_code;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// Requests whose completions come back as values, each with the tag that it was given: made by
/// [`Aio::queue`] and [`LocalAio::queue`](crate::LocalAio::queue). For a loop that asks what is done, instead
/// of closures that are called.
///
/// ```
/// use kiocb::op::{Read, Write};
/// use kiocb::{Aio, AlignedBuf};
/// use std::sync::Arc;
///
/// # fn main() -> std::io::Result<()> {
/// # let file = Arc::new(tempfile::tempfile()?);
/// let aio = Aio::builder().build()?;
/// let write = |page: u64| aio.alloc().init_rw(file.clone(), Write, AlignedBuf::zeroed(4096), page * 4096);
/// let read = |page: u64| aio.alloc().init_rw(file.clone(), Read, AlignedBuf::zeroed(4096), page * 4096);
///
/// let queue = aio.queue(); // its types are those of what is pushed
/// for page in 0..8 {
///     queue.push(write(page).mixed(), ("write", page))?;
/// }
/// let mut reads = 0;
/// while !queue.is_empty() {
///     for (tag, done) in queue.wait(1, None)? {
///         assert_eq!(done.result?, 4096, "{tag:?}");
///         match tag {
///             ("write", page) => queue.push(read(page).mixed(), ("read", page))?,
///             _ => reads += 1, // done.buf.one() and done.file can be used again
///         }
///     }
/// }
/// assert_eq!(reads, 8);
/// # Ok(())
/// # }
/// ```
///
/// All requests of a queue have one type: reads with one type of buffer, say. [`mixed`](Iocb::mixed) makes
/// one type of reads, writes, vectored ones, syncs and waits for readiness.
///
/// # Going in
/// [`push`](Queue::push) holds a request back until it can leave with others, in one system call: when as
/// many are held back as pay off (32; on a device an eighth of what is under way, and the first after each
/// round at once), when [`submit`](Queue::submit) is called, and before [`wait`](Queue::wait) and
/// [`drain`](Queue::drain) look for completions. Requests reach the kernel in the order in which they were
/// pushed, and queue in user space where its slots are taken, as ever. What is held back is not submitted
/// yet: it does not count in [`Aio::stats`], and [`Aio::drain`] does not wait for it.
///
/// # Coming back
/// Each request that was pushed comes back exactly once. A refusal comes as its result, with the errnos that
/// [`Iocb::submit`] lists; after a [`shutdown`](Aio::shutdown) it is ECANCELED. `wait` and `drain` take
/// events from the kernel on the calling thread, as [`Iocb::wait`] does, so no thread is switched for it.
/// Under [`Dispatch::Manual`](crate::Dispatch::Manual) that is all a loop needs, if it uses no callbacks:
/// callbacks run in [`poll`](Aio::poll) alone, which puts completions into their queues as well. Under
/// [`Dispatch::Thread`](crate::Dispatch::Thread) the completion thread takes events while no thread waits.
///
/// Nothing is allocated for a request in the steady state, if the tag has at most 32 bytes beside an
/// `Arc<File>` and a `Vec` (and it is not vectored or exact and [mixed](crate::op::Mixed)).
///
/// # Threads
/// A queue belongs to one thread at a time: it is `Send`, if its tags are, and not `Sync`. A queue of
/// [`LocalAio`](crate::LocalAio) takes any tag, an `Rc` too, and stays on its thread with it. With
/// [shards](crate::AioBuilder::shards) it uses the shard of the thread that made it.
///
/// # The end
/// Dropping a queue does not block and takes nothing back. What is held back is dropped. What is complete is
/// dropped with its tags. What is in flight completes, and the thread that reaps it drops file, buffer and
/// tag; a tag of a [`LocalAio`](crate::LocalAio)'s queue is dropped on the thread of that handle or else
/// leaks. A wait for readiness holds its slot until it fires or its context is shut down. To lose nothing,
/// `wait` until the queue [is empty](Queue::is_empty) before. Forgetting it (`mem::forget`) leaks what it
/// has, and what arrives later. A queue outlives the [`Aio`], whose end completes what is in flight: the
/// results are still there.
///
/// In a forked child, `push`, `submit` and `wait` return [`AioError::Forked`](crate::AioError::Forked),
/// `drain` yields nothing, and the drop leaks: the requests are the parent's.
#[must_use = "dropped, what was pushed and not submitted is dropped with it"]
pub struct Queue<T, S: Request> {
    engine: Arc<Engine>,
    completions: Completions<Carried<T, S>>,
    bind: fn(T) -> Bound<T>,
    /// Pushed and not submitted.
    held: RefCell<List>,
    /// Taken out of `completions`, and not handed out.
    ready: RefCell<Completed<Carried<T, S>>>,
    pushed: Cell<u64>,
    /// How many were taken out of `completions`.
    taken: Cell<u64>,
    /// Nothing was submitted since `completions` was looked at.
    is_new_round: Cell<bool>,
    /// What is held has neither a wait for readiness nor an eventfd in it, nor anything that goes on.
    are_plain: Cell<bool>,
    /// Tags that are not `Send` keep the queue on its thread.
    tags: PhantomData<T>,
}

/// What a request of a queue carries.
type Carried<T, S> = Job<Tagged<S, T>>;

impl Aio {
    /// An empty queue for this context; with shards, for that of the calling thread. Does not block.
    pub fn queue<T, S: Request>(&self) -> Queue<T, S>
    where
        T: Send + 'static, // not `Send`? the queues of `LocalAio` take it as it is
    {
        Queue::new(Arc::clone(self.engine()), Bound::anywhere)
    }
}

impl<T, S: Request> Queue<T, S> {
    pub(crate) fn new(engine: Arc<Engine>, bind: fn(T) -> Bound<T>) -> Queue<T, S> {
        Queue {
            engine,
            completions: Completions::new(),
            bind,
            held: RefCell::default(),
            ready: RefCell::default(),
            pushed: Cell::new(0),
            taken: Cell::new(0),
            is_new_round: Cell::new(true),
            are_plain: Cell::new(true),
            tags: PhantomData,
        }
    }

    /// Puts a request into the queue. It goes to the queue's context, whatever context it was made for.
    /// Blocks where [`submit`](Queue::submit) does, and only if the request leaves now.
    ///
    /// # Errors
    /// The request and the tag are inside the error, and will not come back by the queue:
    /// [`AioError::ShutDown`](crate::AioError::ShutDown),
    /// [`AioError::Forked`](crate::AioError::Forked). All other refusals come as the result.
    #[inline]
    pub fn push(&self, request: Iocb<S>, tag: T) -> Result<(), SubmitError<(Iocb<S>, T)>> {
        if let Err(error) = self.engine.check() {
            return Err(SubmitError::new(error.into(), (request, tag)));
        }
        let tag = (self.bind)(tag);
        let job = request.into_job_of(|state| Tagged::new(state, tag));
        let request = self.completions.request(job);
        self.pushed.set(self.pushed.get() + 1);
        if !request.is_plain() {
            self.are_plain.set(false);
        }
        let held = {
            let mut held = self.held.borrow_mut();
            held.push(request);
            held.len()
        };
        if held >= self.group() {
            self.submit_held();
        }
        Ok(())
    }

    /// How many leave together.
    #[inline]
    fn group(&self) -> usize {
        let under_way = self.pushed.get() - self.completions.arrived();
        let under_way = usize::try_from(under_way).unwrap_or(usize::MAX);
        self.engine.group(self.is_new_round.get(), under_way)
    }

    /// Submits what is held back. Blocks only where [`Iocb::submit`] does; under
    /// [`Dispatch::Anywhere`](crate::Dispatch::Anywhere) callbacks may run inside.
    ///
    /// # Errors
    /// [`AioError::Forked`](crate::AioError::Forked) in a child. What the kernel refuses comes back by the
    /// queue, with the errno as its result.
    pub fn submit(&self) -> io::Result<()> {
        self.engine.check_origin()?;
        self.submit_held();
        Ok(self.engine.check_origin()?)
    }

    #[inline]
    fn submit_held(&self) {
        let held = self.held.take(); // user code that runs meanwhile may push
        if held.len() > 0 && self.engine.is_here() {
            self.is_new_round.set(false);
            let are_plain = self.are_plain.replace(true);
            self.engine
                .submit_queued(held, are_plain, &self.completions);
        }
    }

    /// Submits what is held back, waits until `min` requests are complete, and hands out all that are.
    /// Returns sooner when the time is over (`None`: without a limit), or when nothing is under way. The
    /// waiting thread takes events from the kernel itself. Works on any thread, inside a callback too.
    /// Signals do not interrupt it.
    ///
    /// `timeout` bounds the sleep. The submission of what is held back comes before, and blocks where
    /// [`Iocb::submit`] does; call [`submit`](Queue::submit) elsewhere to have that out of the way. Requests
    /// that had to queue are submitted by a helper thread meanwhile, if there is a timeout.
    ///
    /// What the iterator has not handed out when it is dropped stays in the queue.
    ///
    /// # Errors
    /// - [`AioError::ContextGone`](crate::AioError::ContextGone): fewer than `min` are complete, and no more
    ///   can come, because something in this process destroyed the kernel's context. What is complete is
    ///   handed out by [`drain`](Queue::drain).
    /// - [`AioError::Forked`](crate::AioError::Forked) in a child.
    #[inline]
    pub fn wait(&self, min: usize, timeout: Option<Duration>) -> io::Result<QueueDrain<'_, T, S>> {
        self.submit_held();
        self.engine.check_origin()?;
        self.take_arrivals();
        let ready = self.ready.borrow().len();
        if ready < min {
            self.wait_for(min - ready, timeout)?;
            self.take_arrivals();
        }
        Ok(self.hand_out())
    }

    fn wait_for(&self, more: usize, timeout: Option<Duration>) -> io::Result<()> {
        // A timeout beyond what the clock can hold is none.
        let deadline = timeout.and_then(|timeout| now().checked_add(timeout));
        let target = self.taken.get().saturating_add(more as u64);
        let target = target.min(self.pushed.get());
        let waited = self
            .engine
            .wait_for_arrivals(&self.completions, target, deadline);
        Ok(waited?)
    }

    /// Submits what is held back, and hands out what is complete. Takes events from the kernel, and does not
    /// sleep; blocks only where [`submit`](Queue::submit) does. Nothing is handed out that completes after
    /// the call, so a loop over it ends.
    ///
    /// What the iterator has not handed out when it is dropped stays in the queue.
    pub fn drain(&self) -> QueueDrain<'_, T, S> {
        self.submit_held();
        self.engine.help();
        if self.engine.is_here() {
            self.take_arrivals();
        }
        self.hand_out()
    }

    #[inline]
    fn take_arrivals(&self) {
        let arrived = self.completions.take();
        self.taken.set(self.taken.get() + arrived.len() as u64);
        self.ready.borrow_mut().append(arrived);
    }

    #[inline]
    fn hand_out(&self) -> QueueDrain<'_, T, S> {
        self.is_new_round.set(true);
        QueueDrain {
            queue: self,
            left: self.ready.borrow().len(),
        }
    }

    /// The oldest that is complete. In a forked child they are the parent's.
    #[inline]
    fn pop(&self) -> Option<(T, S::Output)> {
        if !self.engine.is_here() {
            return None;
        }
        let arrived = self.ready.borrow_mut().pop();
        let (tag, output) = arrived?.finish(); // user code, which may use the queue
        // SAFETY: `push` of this queue bound the tag. If it is not `Send`, the field `tags` has kept the
        // queue on its thread since, and so this is that thread.
        Some((unsafe { tag.take_unchecked() }, output))
    }

    /// How many requests were pushed and have not been handed out.
    pub fn len(&self) -> usize {
        let handed_out = self.taken.get() - self.ready.borrow().len() as u64;
        usize::try_from(self.pushed.get() - handed_out).unwrap_or(usize::MAX)
    }

    /// Whether everything that was pushed has been handed out.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T, S: Request> Drop for Queue<T, S> {
    fn drop(&mut self) {
        if !self.engine.is_here() {
            return; // the parent's; what is held back leaks with it
        }
        self.engine.discard_batch(self.held.take());
        if !self.engine.is_here() {
            return;
        }
        self.ready.borrow_mut().append(self.completions.close());
        let drop_one = || user_code::call("dropping a completion", || self.pop().is_some());
        while drop_one() != Some(false) {}
        if self.engine.is_here() {
            self.engine.collect_panics();
        }
    }
}

impl<T, S: Request> fmt::Debug for Queue<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .field("ready", &self.ready.borrow().len())
            .finish_non_exhaustive()
    }
}

/// What is complete, with its tags, in the order in which it completed: from [`Queue::wait`] and
/// [`Queue::drain`]. Dropped early, it leaves the rest in the queue.
pub struct QueueDrain<'a, T, S: Request> {
    queue: &'a Queue<T, S>,
    left: usize,
}

impl<T, S: Request> Iterator for QueueDrain<'_, T, S> {
    type Item = (T, S::Output);

    #[inline]
    fn next(&mut self) -> Option<(T, S::Output)> {
        self.left = self.left.checked_sub(1)?;
        let next = self.queue.pop();
        if next.is_none() {
            self.left = 0; // code that ran meanwhile has taken the rest
        }
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

impl<T, S: Request> FusedIterator for QueueDrain<'_, T, S> {}

impl<T, S: Request> fmt::Debug for QueueDrain<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueDrain")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
