//! A fixed set of equal, aligned buffers in one mapping, taken and given back without a system call.

mod buf;
mod builder;
mod mapping;

pub use buf::PoolBuf;
pub use builder::BufPoolBuilder;
pub use mapping::HugePages;

use mapping::Mapping;
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Equal, aligned buffers, made once and used again and again: no allocation and no page fault per request.
///
/// A cheap handle: clones share the buffers. Taking and giving back costs one short lock and no system call
/// unless somebody waits. The memory lives until the pool's last handle and its last buffer are gone, so a
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
    /// The buffers that nobody has, last in, first out: the one given back last is the one that caches still
    /// know. Every number below `count` is either in here, once, or in exactly one [`PoolBuf`]. Its capacity
    /// is `count`, so it never grows.
    free: Mutex<Vec<u32>>,
    /// Notified for each buffer that comes back.
    returned: Condvar,
}

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

    /// A buffer, if one is free. Never waits for one.
    ///
    /// Its bytes are zero if it is used for the first time; otherwise they are what its last user left there.
    pub fn try_take(&self) -> Option<PoolBuf> {
        PoolBuf::pop(&self.shared, &mut self.shared.free.lock())
    }

    /// A buffer, as [`try_take`](Self::try_take); blocks the thread while none is free.
    ///
    /// Not inside a callback on the completion thread: while it waits there, no request completes that could
    /// give one back. Use [`try_take`](Self::try_take) there, or go on with the buffer that has just come
    /// back.
    pub fn take(&self) -> PoolBuf {
        let mut free = self.shared.free.lock();
        loop {
            if let Some(buf) = PoolBuf::pop(&self.shared, &mut free) {
                return buf;
            }
            self.shared.returned.wait(&mut free);
        }
    }

    /// A buffer, as [`take`](Self::take); `None` if none is free until `timeout` has passed.
    pub fn take_timeout(&self, timeout: Duration) -> Option<PoolBuf> {
        let Some(deadline) = Instant::now().checked_add(timeout) else {
            return Some(self.take());
        };
        let mut free = self.shared.free.lock();
        loop {
            if let Some(buf) = PoolBuf::pop(&self.shared, &mut free) {
                return Some(buf);
            }
            // Looked at once more: a buffer may have come back between the deadline and getting the lock
            // again.
            if self
                .shared
                .returned
                .wait_until(&mut free, deadline)
                .timed_out()
            {
                return PoolBuf::pop(&self.shared, &mut free);
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

    /// How many buffers are free right now; another thread may take them before this one looks again.
    pub fn available(&self) -> usize {
        self.shared.free.lock().len()
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
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufPool")
            .field("count", &self.count())
            .field("available", &self.available())
            .field("buffer_size", &self.buffer_size())
            .field("alignment", &self.alignment())
            .field("huge_pages", &self.huge_pages())
            .finish()
    }
}
