//! Buffers and wakers that count themselves and do mischief.

use super::pages::Lease;
use super::world::{DEED, Shared, mischief};
use kiocb::AlignedBuf;
use kiocb::buf::{IoBuf, IoBufMut};
use kiocb_faults::raw::BLOCK;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;
use std::thread;

/// A page's memory, which counts itself and does mischief when it is dropped.
pub(super) struct Memory {
    /// The deed that it was made for.
    pub(super) deed: usize,
    pub(super) bytes: AlignedBuf,
    pub(super) lease: Option<Lease>,
    pub(super) world: Shared,
}

impl Memory {
    pub(super) fn new(world: &Shared, lease: Lease, write: bool) -> Memory {
        let deed = DEED.get();
        world.buffers.fetch_add(1, Ordering::SeqCst);
        world.alive[deed].fetch_add(1, Ordering::SeqCst);
        let bytes = if write {
            AlignedBuf::from(&lease.bytes()[..])
        } else {
            AlignedBuf::zeroed(BLOCK)
        };
        Memory {
            deed,
            bytes,
            lease: Some(lease),
            world: Arc::clone(world),
        }
    }

    pub(super) fn offset(&self) -> u64 {
        self.lease.as_ref().map_or(0, Lease::offset)
    }

    pub(super) fn check(&self, result: &io::Result<usize>, what: &str) {
        let lease = self.lease.as_ref().expect("not dropped yet");
        self.world.hear(|| lease.check(result, &self.bytes, what));
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        drop(self.lease.take());
        self.world.dropped.fetch_add(1, Ordering::SeqCst);
        self.world.alive[self.deed].fetch_sub(1, Ordering::SeqCst);
        mischief(&self.world);
    }
}

// SAFETY: the memory's own promise.
unsafe impl IoBuf for Memory {
    fn buf_ptr(&self) -> *const u8 {
        IoBuf::buf_ptr(&self.bytes)
    }

    fn buf_len(&self) -> usize {
        IoBuf::buf_len(&self.bytes)
    }
}

// SAFETY: the memory's own promise.
unsafe impl IoBufMut for Memory {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        IoBufMut::buf_mut_ptr(&mut self.bytes)
    }

    fn buf_capacity(&self) -> usize {
        IoBufMut::buf_capacity(&self.bytes)
    }

    unsafe fn set_init(&mut self, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.bytes.set_init(n) }
    }
}

/// Wakes its thread, and does mischief when it wakes and when it is dropped.
pub(super) struct NastyWaker {
    pub(super) thread: thread::Thread,
    pub(super) woken: AtomicBool,
    pub(super) world: Shared,
}

impl Wake for NastyWaker {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
        mischief(&self.world);
    }
}

impl Drop for NastyWaker {
    fn drop(&mut self) {
        mischief(&self.world);
    }
}
