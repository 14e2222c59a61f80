//! Many requests, one `io_submit`.

mod errors;

pub use errors::BatchErrors;

use crate::aio::Aio;
use crate::engine::{Engine, List, OwnedCell, Receipt};
use crate::iocb::Iocb;
use crate::op::{Job, Request, Submit};
use crate::pending::Pending;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests that will be submitted together: made by [`Aio::batch`].
///
/// A request that shares a system call costs half to two thirds of one that has a call of its own, and the
/// kernel merges adjacent ones on their way to a disk. What finds no slot queues in user space, as ever.
/// Requests of any kind may be mixed: [`push`](Batch::push) adds one and returns its handle,
/// [`push_callback`](Batch::push_callback) adds one with a callback. Each one's failure is its own.
///
/// If the batch is dropped before [`submit`](Batch::submit), none of its requests is submitted: callbacks are
/// dropped uncalled, and the results of handles are ECANCELED.
///
/// ```
/// use kiocb::op::{Read, Write};
/// use kiocb::{Aio, Iocb};
/// use std::sync::Arc;
///
/// # fn main() -> std::io::Result<()> {
/// let file = Arc::new(std::fs::File::open("/dev/zero")?);
/// let aio = Aio::global()?;
/// let mut batch = aio.batch();
/// let read = |page: u64| Iocb::alloc().init_rw(Arc::clone(&file), Read, vec![1; 512], page * 512);
/// let reads: Vec<_> = (0..64).map(|page| batch.push(read(page))).collect();
/// let write = Iocb::alloc().init_rw(Arc::clone(&file), Write, vec![1; 512], 0);
/// let write = batch.push_callback(write.init_callback(|_| unreachable!()));
///
/// let mut errors = batch.submit();
/// let error = errors.take(write).expect("the file is not open for writing");
/// assert_eq!(error.errno(), Some(9)); // EBADF
/// for read in reads {
///     assert_eq!(read.wait().result?, 512);
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a batch does nothing before `submit`"]
pub struct Batch<'a> {
    aio: &'a Aio,
    engine: &'a Arc<Engine>,
    id: u64,
    list: List,
}

/// Stands for a request with a callback in a [`Batch`]. If the request is refused, [`BatchErrors::take`]
/// returns it for this ticket. It may be dropped, and owns nothing.
pub struct Ticket<S: Submit> {
    batch: u64,
    receipt: Receipt<Job<S>>,
}

/// Batches are numbered, so that a ticket is never taken for another's: the number of a request is used
/// again once the request is complete.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Aio {
    /// An empty batch for this context; with shards, for that of the calling thread. Does not block.
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            aio: self,
            engine: self.engine(),
            // Relaxed: only that numbers differ matters.
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            list: List::new(),
        }
    }
}

impl Batch<'_> {
    /// Adds a request and returns the handle that stands for it. It goes to the batch's context, whatever it
    /// was allocated for. Nothing is submitted yet. If the request is refused, the handle says so: in the
    /// completion's `result`.
    ///
    /// As a future the handle may be polled at once. [`wait`](Pending::wait) before
    /// [`submit`](Batch::submit) takes the request out of the batch again, and returns an error.
    pub fn push<S: Request>(&mut self, request: Iocb<S>) -> Pending<S> {
        let (cell, watch) = OwnedCell::watched(request.into_job(), false);
        self.add(cell);
        Pending::new(Arc::clone(self.engine), watch)
    }

    /// Adds a request with a callback. Otherwise as [`push`](Batch::push).
    pub fn push_callback<S: Submit>(&mut self, request: Iocb<S>) -> Ticket<S> {
        let (cell, receipt) = OwnedCell::with_callback(request.into_job());
        self.add(cell);
        Ticket {
            batch: self.id,
            receipt,
        }
    }

    fn add(&mut self, mut cell: OwnedCell) {
        cell.set_new(self.list.len());
        self.list.push(cell);
    }

    /// How many requests are in it.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether so many requests are together that they had better leave now. That is 32 where the files of the
    /// context answer inside `io_submit`, as memory and the page cache do. Where they are devices it is an
    /// eighth of what is in flight, at least one: places in a device's queue stay empty while requests wait for
    /// more to leave with them. An empty batch is not due. Does not block.
    ///
    /// For an executor or an event loop that gathers what its tasks ask for: it submits when a batch is due,
    /// and at the end of a turn. What callbacks submit is gathered by the same rule. The context learns from
    /// callbacks of which kind its files are, and under [`Dispatch::Manual`](crate::Dispatch::Manual) from
    /// batches, too; before that they count as memory.
    ///
    /// ```
    /// use kiocb::{Aio, Dispatch, op::Read};
    /// use std::{fs::File, sync::Arc};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let aio = Aio::builder().dispatch(Dispatch::Manual).build()?;
    /// let file = Arc::new(File::open("/dev/zero")?);
    /// let (mut batch, mut reads) = (aio.batch(), Vec::new());
    /// for page in 0..100 {
    ///     reads.push(batch.push(aio.alloc().init_rw(Arc::clone(&file), Read, vec![1; 512], page * 512)));
    ///     if batch.is_due() {
    ///         let refused = std::mem::replace(&mut batch, aio.batch()).submit();
    ///         assert!(refused.is_empty()); // what stands for a handle says so itself
    ///     }
    /// }
    /// assert!(batch.submit().is_empty());
    /// for read in reads {
    ///     assert_eq!(read.wait().result?, 512);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_due(&self) -> bool {
        !self.is_empty() && self.len() >= self.engine.group_of_batch()
    }

    /// Submits all, in the order in which they were added. As many as there are free slots leave at once, by
    /// [`io_submit(2)`](https://man7.org/linux/man-pages/man2/io_submit.2.html) (1024 requests at most in
    /// each call); the others queue. Any thread may call it, inside a callback too. Blocks only where
    /// [`Iocb::submit`] does.
    ///
    /// What comes back are the requests with a callback that were refused, for the reasons that
    /// [`Iocb::submit`] lists; all others are on their way. One that is refused does not hold up the next. A
    /// handle whose request was refused has the errno as its result, or ECANCELED where there is none (the
    /// context was shut down, or is gone). Allocates nothing unless something is refused.
    pub fn submit(mut self) -> BatchErrors {
        let list = std::mem::take(&mut self.list);
        let refused = self.engine.submit_list(list);
        BatchErrors::new(self.aio, self.engine, self.id, refused)
    }

    /// As [`submit`](Batch::submit), but stops at the first request that is refused, as
    /// [`io_submit(2)`](https://man7.org/linux/man-pages/man2/io_submit.2.html) does. What stands before it is
    /// on its way. What stands behind it is not submitted: a request with a callback comes back with
    /// [`AioError::NotSubmitted`](crate::AioError::NotSubmitted), and that is the result of a handle.
    /// [`positions`](BatchErrors::positions) says where it stopped.
    ///
    /// A request that has to queue counts as accepted, and those behind it queue as well; if the kernel refuses
    /// it later, the others go on.
    ///
    /// ```
    /// use kiocb::op::Write;
    /// use kiocb::Aio;
    /// use std::{fs::File, sync::Arc};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// let log = Arc::new(File::create(dir.path().join("log"))?);
    /// let read_only = Arc::new(File::open(dir.path().join("log"))?);
    /// let aio = Aio::global()?;
    /// let mut batch = aio.batch();
    /// for (file, at) in [(&log, 0), (&read_only, 6), (&log, 12)] {
    ///     let write = aio.alloc().init_rw(Arc::clone(file), Write, "record", at);
    ///     let _ticket = batch.push_callback(write.init_callback(|done| drop(done.result)));
    /// }
    /// let errors = batch.submit_until_refused();
    /// let places: Vec<usize> = errors.positions().map(|(place, _)| place).collect();
    /// assert_eq!(places, [1, 2]); // refused; not submitted
    /// aio.drain()?;
    /// assert_eq!(log.metadata()?.len(), 6);
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_until_refused(mut self) -> BatchErrors {
        let list = std::mem::take(&mut self.list);
        let refused = self.engine.submit_list_until_refused(list);
        BatchErrors::new(self.aio, self.engine, self.id, refused)
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.engine.discard_batch(std::mem::take(&mut self.list));
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<S: Submit> fmt::Debug for Ticket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}
