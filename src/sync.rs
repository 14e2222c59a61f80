//! Threads' tools in one place, so that a model checker can take their place: everything else in the crate
//! imports from here.

mod blocking;
#[cfg(loom)]
mod modelled;
mod parker;

#[cfg(not(loom))]
mod imp {
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::cell::UnsafeCell;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
    pub(crate) use std::thread::{sleep, yield_now};
    use std::time::Instant;

    /// The time, by which deadlines are kept.
    pub(crate) fn now() -> Instant {
        Instant::now()
    }
}

pub(crate) use blocking::{about_to_block, before_blocking};
#[cfg(not(loom))]
pub(crate) use imp::*;
#[cfg(loom)]
pub(crate) use modelled::*;
pub(crate) use parker::Parker;

/// A value on a cache line of its own: two threads that write different fields must not share one (128 bytes:
/// x86-64 fetches lines in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CachePadded<T>(pub(crate) T);

impl<T> std::ops::Deref for CachePadded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
