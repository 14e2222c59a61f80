//! One buffer of a pool.
#![allow(unsafe_code, reason = "its bytes are a piece of the pool's mapping")]

use super::Shared;
use super::take::wake;
use crate::buf::{IoBuf, IoBufMut};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

/// A buffer of a [`BufPool`](super::BufPool), which gets it back when this is dropped, on whatever thread
/// that happens.
///
/// It dereferences to its bytes, all of which are initialised: zero at first, and after that what the last
/// user of the same memory left there. [`buf_slice`](IoBuf::buf_slice) makes a shorter request of it.
///
/// As an `Arc<PoolBuf>` it can be written to a file while others read it: the frame of a page cache. When the
/// write is complete and the readers are gone, `Arc::try_unwrap` makes it a buffer again that can be changed.
///
/// ```
/// use kiocb::op::Write;
/// use kiocb::{BufPool, Iocb};
/// use std::sync::Arc;
///
/// # fn main() -> std::io::Result<()> {
/// # let file = tempfile::tempfile()?;
/// let mut page = BufPool::new(1, 4096)?.take();
/// page[0] = 7;
/// let page = Arc::new(page);
/// let write = Iocb::alloc().init_rw(file, Write, Arc::clone(&page), 0).start()?;
/// assert_eq!(page[0], 7); // while it is being written
/// let (count, written, _file) = write.wait().ok()?;
/// assert_eq!(count, 4096);
/// drop(written);
/// let mut page = Arc::try_unwrap(page).expect("no other reader");
/// page[0] = 8;
/// # Ok(())
/// # }
/// ```
///
/// One that is forgotten (`mem::forget`) never comes back, and the pool's memory stays for ever. In a forked
/// child of the process that made the pool none comes back.
pub struct PoolBuf {
    shared: Arc<Shared>,
    /// Below `shared.count`, not in `shared.free`, and in no other `PoolBuf`.
    index: u32,
}

impl PoolBuf {
    /// The one that was given back last. `free` is what `shared.free` guards.
    pub(super) fn pop(shared: &Arc<Shared>, free: &mut Vec<u32>) -> Option<Self> {
        let index = free.pop()?;
        debug_assert!(index < shared.count);
        let shared = Arc::clone(shared);
        Some(PoolBuf { shared, index })
    }

    /// The start of this buffer. The pointer is derived from the mapping, never from a reference to bytes.
    fn start(&self) -> NonNull<u8> {
        let offset = self.index as usize * self.shared.stride;
        debug_assert!(self.index < self.shared.count);
        debug_assert!(offset + self.shared.size <= self.shared.mapping.len());
        // SAFETY: `index < count`, and `count * stride` bytes are inside the mapping (`build`), which lives
        // as long as `shared`.
        unsafe { self.shared.mapping.start().add(offset) }
    }
}

impl Drop for PoolBuf {
    fn drop(&mut self) {
        let Some(mut free) = self.shared.free.lock() else {
            return; // a forked child: this is a copy, and the buffer comes back in the parent
        };
        free.buffers.push(self.index);
        let task = free.queue.wake_oldest();
        drop(free);
        self.shared.returned.notify_one();
        wake(task);
    }
}

impl Deref for PoolBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `size` bytes inside the mapping, which is readable and was zeroed by the kernel, so
        // initialised. No other buffer has them (`index` is in no other, and `size <= stride`), and `&self`
        // lends them for reading.
        unsafe { slice::from_raw_parts(self.start().as_ptr(), self.shared.size) }
    }
}

impl DerefMut for PoolBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; the mapping is writable, and `&mut self` is the only way to these bytes.
        unsafe { slice::from_raw_parts_mut(self.start().as_ptr(), self.shared.size) }
    }
}

// SAFETY: the bytes are at one address as long as the value lives, are initialised, and belong to this value
// alone.
unsafe impl IoBuf for PoolBuf {
    fn buf_ptr(&self) -> *const u8 {
        self.start().as_ptr()
    }

    fn buf_len(&self) -> usize {
        self.shared.size
    }
}

// SAFETY: as above; the mapping is writable.
unsafe impl IoBufMut for PoolBuf {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.start().as_ptr()
    }

    fn buf_capacity(&self) -> usize {
        self.shared.size
    }

    unsafe fn set_init(&mut self, n: usize) {
        debug_assert!(n <= self.shared.size);
    }
}

// SAFETY: as above. While it is shared no thread can write: `DerefMut` needs a `PoolBuf` of one's own.
unsafe impl IoBuf for Arc<PoolBuf> {
    fn buf_ptr(&self) -> *const u8 {
        self.start().as_ptr()
    }

    fn buf_len(&self) -> usize {
        self.shared.size
    }
}

impl AsRef<[u8]> for PoolBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for PoolBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// Length and number; not the bytes, of which there may be millions.
impl fmt::Debug for PoolBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuf")
            .field("len", &self.shared.size)
            .field("index", &self.index)
            .finish()
    }
}
