//! A fixed set of equal, aligned buffers in one mapping, taken and given back without a system call.

mod buf;
mod builder;
mod mapping;
mod queue;
mod take;

pub use buf::PoolBuf;
pub use builder::BufPoolBuilder;
pub use mapping::HugePages;
pub use take::TakeBuf;

use crate::sync::lock::{Condvar, MutexGuard};
use crate::sync::{about_to_block, now};
use crate::sys::process_mutex::ProcessMutex;
use mapping::Mapping;
use queue::Queue;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Equal, aligned buffers, made once and used again and again: no allocation and no page fault per request.
///
/// A cheap handle: clones share the buffers. Taking and giving back costs one short lock, and no system call
/// unless a thread waits. The memory lives until the pool's last handle and its last buffer are gone, so a
/// buffer may outlive the pool.
///
/// # Examples
///
/// ```
/// use kiocb::BufPool;
/// # fn main() -> std::io::Result<()> {
/// let pool = BufPool::builder(16, 8192).prefault(true).build()?;
/// let mut page = pool.take();
/// page[..5].copy_from_slice(b"hello"); // and into a request: it is an `IoBuf` and an `IoBufMut`
/// assert_eq!(pool.available(), 15);
/// drop(page); // from any thread, a callback or the engine
/// assert_eq!(pool.available(), 16);
/// # Ok(())
/// # }
/// ```
///
/// # Fork
///
/// A pool belongs to the process that made it. In a forked child none of its buffers is free:
/// [`try_take`](Self::try_take) and [`take_timeout`](Self::take_timeout) return `None` at once,
/// [`take`](Self::take) panics, and a buffer that is dropped does not come back. Whether another thread of
/// the parent was using the pool when it forked makes no difference. The bytes of a buffer that the child has
/// a copy of are the child's own, and can be read and written. The child makes a pool of its own.
#[derive(Clone)]
pub struct BufPool {
    shared: Arc<Shared>,
}

/// What the handles and the buffers hold in common.
struct Shared {
    mapping: Mapping,
    /// Bytes that a buffer shows.
    size: usize,
    /// Bytes from one buffer to the next: `size`, rounded up to the alignment. `count * stride` fits into the
    /// mapping.
    stride: usize,
    count: u32,
    alignment: usize,
    huge_pages: HugePages,
    /// In a forked child it can't be locked: of the copies of a buffer only the parent's counts.
    free: ProcessMutex<Free>,
    /// Notified for each buffer that comes back, in the process that made the pool.
    returned: Condvar,
}

/// What is there to be taken, and what waits for it.
struct Free {
    /// The buffers that are free, last in, first out: the one given back last is the one that caches still
    /// know. Every number below `count` is either in here, once, or in exactly one [`PoolBuf`]. Its capacity
    /// is `count`, so it never grows.
    buffers: Vec<u32>,
    /// Tasks that wait. Threads wait at `returned`.
    queue: Queue,
}

/// Why a child gets no buffer.
const IN_CHILD: &str =
    "a BufPool belongs to the process that made it: build one in the forked child";

impl BufPool {
    /// A pool of `count` buffers of `size` bytes each, aligned to 4096, on ordinary pages that are populated
    /// when they are first touched. For more say [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// As [`BufPoolBuilder::build`].
    pub fn new(count: usize, size: usize) -> io::Result<Self> {
        Self::builder(count, size).build()
    }

    /// A pool of `count` buffers of `size` bytes each, with alignment, page size and prefaulting to be said.
    pub const fn builder(count: usize, size: usize) -> BufPoolBuilder {
        BufPoolBuilder::new(count, size)
    }

    /// Returns a buffer if one is free. Does not wait for one to come back.
    ///
    /// Its bytes are zero if it is used for the first time; otherwise they are what its last user left there.
    pub fn try_take(&self) -> Option<PoolBuf> {
        PoolBuf::pop(&self.shared, &mut self.shared.free.lock()?.buffers)
    }

    /// Returns a buffer, as [`try_take`](Self::try_take); blocks the thread while none is free.
    ///
    /// If it has to wait inside a callback, it first sends what that callback has submitted. It must not wait
    /// on the thread on which the callbacks run that give buffers back: none of them is called meanwhile. Use
    /// [`try_take`](Self::try_take) there, or go on with the buffer that has just come back.
    ///
    /// # Panics
    ///
    /// In a forked child of the process that made the pool: no buffer could ever come back.
    pub fn take(&self) -> PoolBuf {
        self.take_until(|| None).expect(IN_CHILD)
    }

    /// Returns a buffer, as [`take`](Self::take), or `None` if none is free until `timeout` has passed. In a
    /// forked child it returns `None` at once.
    pub fn take_timeout(&self, timeout: Duration) -> Option<PoolBuf> {
        self.take_until(|| now().checked_add(timeout))
    }

    /// `None` after the deadline, and in a forked child.
    fn take_until(&self, deadline: impl FnOnce() -> Option<Instant>) -> Option<PoolBuf> {
        let free_now = self.try_take();
        if free_now.is_some() || !self.shared.free.is_here() {
            return free_now;
        }
        let deadline = deadline(); // not before: the clock need not be read while buffers are free
        // The buffer may be coming back by what this thread has submitted and not sent. Without the lock:
        // sending may block.
        about_to_block(deadline.is_some());
        self.wait_for_one(self.shared.free.lock()?, deadline)
    }

    fn wait_for_one(
        &self,
        mut free: MutexGuard<'_, Free>,
        deadline: Option<Instant>,
    ) -> Option<PoolBuf> {
        loop {
            let taken = PoolBuf::pop(&self.shared, &mut free.buffers);
            if taken.is_some() {
                return taken;
            }
            let returned = &self.shared.returned;
            match deadline {
                None => returned.wait(&mut free),
                Some(deadline) if returned.wait_until(&mut free, deadline).timed_out() => {
                    // Looked at once more: a buffer may have come back between the deadline and getting the
                    // lock again.
                    return PoolBuf::pop(&self.shared, &mut free.buffers);
                }
                Some(_) => {}
            }
        }
    }

    /// Bytes in each buffer.
    pub fn buffer_size(&self) -> usize {
        self.shared.size
    }

    /// How many buffers there are in all.
    pub fn count(&self) -> usize {
        self.shared.count as usize
    }

    /// How many buffers are free right now; another thread may take them before this one looks again. In a
    /// forked child 0.
    pub fn available(&self) -> usize {
        self.shared.free.lock().map_or(0, |free| free.buffers.len())
    }

    /// What the address of each buffer is a multiple of.
    pub fn alignment(&self) -> usize {
        self.shared.alignment
    }

    /// The kind of pages that the pool got, which may be less than it was asked for.
    pub fn huge_pages(&self) -> HugePages {
        self.shared.huge_pages
    }
}

impl fmt::Debug for BufPool {
    /// Does not wait for the lock, and does not hold it while it writes: what it writes to may use the pool.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let available = self.shared.free.try_lock().map(|free| free.buffers.len());
        let mut fields = f.debug_struct("BufPool");
        fields.field("count", &self.count());
        match available {
            Some(available) => fields.field("available", &available),
            None if self.shared.free.is_here() => fields.field("available", &format_args!("busy")),
            None => fields.field("available", &format_args!("forked")),
        };
        fields
            .field("buffer_size", &self.buffer_size())
            .field("alignment", &self.alignment())
            .field("huge_pages", &self.huge_pages())
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_is_in_use_is_shown_without_waiting() {
        let pool = BufPool::new(1, 64).unwrap();
        let guard = pool.shared.free.lock();
        assert!(format!("{pool:?}").contains("available: busy"));
        drop(guard);
        assert!(format!("{pool:?}").contains("available: 1"));
    }
}
