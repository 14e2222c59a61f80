//! Many requests, one `io_submit`.

use crate::aio::Aio;
use crate::engine::{Engine, List, Receipt, Request as Cell};
use crate::error::SubmitError;
use crate::iocb::Iocb;
use crate::op::{Job, Request, Submit};
use crate::pending::Pending;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests that will be submitted together: made by [`Aio::batch`].
///
/// One system call for many requests costs about half of many calls, and the kernel merges adjacent ones on
/// their way to a disk. What finds no slot queues in user space, as ever. Requests of any kind may be mixed,
/// with a callback ([`push`](Batch::push)) or a handle ([`start`](Batch::start)). Each one's failure is its
/// own.
///
/// Dropped without [`submit`](Batch::submit), nothing is submitted: callbacks are dropped uncalled, handles
/// answer ECANCELED.
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
/// let reads: Vec<_> = (0..64).map(|page| batch.start(read(page))).collect();
/// let write = Iocb::alloc().init_rw(Arc::clone(&file), Write, vec![1; 512], 0);
/// let write = batch.push(write.init_callback(|_| unreachable!()));
/// let mut refused = batch.submit();
/// let error = refused.take(write).expect("the file is not open for writing");
/// assert_eq!(error.error().raw_os_error(), Some(9)); // EBADF
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
    list: List,
    /// Of each request with a callback the tag, by which it is known among those of the batch, and the id.
    ids: Vec<(u64, u64)>,
}

/// Stands for a request with a callback in a [`Batch`], to ask for it should it be refused: see
/// [`Refused::take`]. It may be dropped, and owns nothing.
pub struct Ticket<S: Submit> {
    id: u64,
    receipt: Receipt<Job<S>>,
}

/// Tickets and their requests are numbered, so that one is never taken for another: a tag is, once its
/// request is complete.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Aio {
    /// An empty batch for this context. With shards, for that of the calling thread. Does not block.
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            aio: self,
            engine: self.engine(),
            list: List::new(),
            ids: Vec::new(),
        }
    }
}

impl Batch<'_> {
    /// Adds a request with a callback. It goes to the batch's context, whatever it was allocated for. Nothing
    /// is submitted yet.
    pub fn push<S: Submit>(&mut self, request: Iocb<S>) -> Ticket<S> {
        let (cell, receipt) = Cell::with_callback(request.into_job());
        // Relaxed: only that numbers differ matters.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        self.ids.push((cell.tag(), id));
        self.list.push(cell);
        Ticket { id, receipt }
    }

    /// Adds a request and returns a handle that stands for it. If it is refused, the handle says so: in the
    /// completion's `result`.
    ///
    /// Waiting for it before [`submit`](Batch::submit) waits for ever, unless with a deadline.
    pub fn start<S: Request>(&mut self, request: Iocb<S>) -> Pending<S> {
        let (cell, watch) = Cell::watched(request.into_job(), false);
        self.list.push(cell);
        Pending::new(Arc::clone(self.engine), watch)
    }

    /// How many requests are in it.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Submits all, in the order in which they were added, by as few calls of
    /// [`io_submit(2)`](https://man7.org/linux/man-pages/man2/io_submit.2.html) as there are slots for (64
    /// requests at most in each). Any thread may call it, inside a callback too. Blocks only where
    /// [`Iocb::submit`] does.
    ///
    /// What comes back are the requests with a callback that were refused, for the reasons that
    /// [`Iocb::submit`] lists; all others are on their way. One that is refused does not hold up the next. A
    /// handle whose request was refused has the errno as its result, or ECANCELED where there is none (the
    /// context was shut down, or is gone).
    pub fn submit(mut self) -> Refused {
        let mut refused = Refused {
            aio: self.aio.clone(),
            requests: BTreeMap::new(),
        };
        let unsent = self.engine.submit_list(std::mem::take(&mut self.list));
        if unsent.is_empty() {
            return refused;
        }
        let ids: HashMap<u64, u64> = self.ids.drain(..).collect();
        for (error, cell) in unsent {
            match ids.get(&cell.tag()) {
                Some(&id) => drop(refused.requests.insert(id, (error, cell))),
                None => self.engine.settle_refused(cell, &error),
            }
        }
        refused
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        std::mem::take(&mut self.list).for_each(|cell| {
            if cell.is_callback() {
                self.engine.discard_unsubmitted(cell);
            } else {
                self.engine.settle_unsubmitted(cell, libc::ECANCELED);
            }
        });
    }
}

/// The requests with a callback of a [`Batch`] that were not submitted. Dropping it drops them, with their
/// files, buffers and callbacks.
#[must_use = "the requests that were not submitted are in here"]
pub struct Refused {
    aio: Aio,
    /// By their ids, that is in the order in which they were added.
    requests: BTreeMap<u64, (io::Error, Cell)>,
}

impl Refused {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether all were submitted.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// The reasons, in the order of the requests.
    pub fn errors(&self) -> impl Iterator<Item = &io::Error> {
        self.requests.values().map(|(error, _)| error)
    }

    /// The request of this ticket with its reason, if it was refused; its callback will not be called.
    /// `None`: it is on its way, or the ticket is another batch's.
    pub fn take<S: Submit>(&mut self, ticket: Ticket<S>) -> Option<SubmitError<Iocb<S>>> {
        let (error, cell) = self.requests.remove(&ticket.id)?;
        let job = ticket.receipt.redeem(cell);
        Some(SubmitError::new(error, Iocb::from_job(&self.aio, job)))
    }
}

impl Drop for Refused {
    fn drop(&mut self) {
        for (_, cell) in std::mem::take(&mut self.requests).into_values() {
            self.aio.engine().discard_unsubmitted(cell);
        }
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
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.errors()).finish()
    }
}
