//! Threads' tools in one place, so that a model checker can take their place: everything else in the crate
//! imports from here.

mod blocking;
pub(crate) mod lock;
#[cfg(loom)]
mod modelled;
mod parker;
mod turn;

#[cfg(not(loom))]
mod imp {
    pub(crate) use super::lock::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::cell::UnsafeCell;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
    pub(crate) use std::thread::{sleep, yield_now};
    use std::time::Instant;

    /// The time, by which deadlines are kept.
    pub(crate) fn now() -> Instant {
        Instant::now()
    }
}

pub(crate) use crate::cache_padded::CachePadded;
pub(crate) use blocking::{about_to_block, before_blocking};
#[cfg(not(loom))]
pub(crate) use imp::*;
#[cfg(loom)]
pub(crate) use modelled::*;
pub(crate) use parker::Parker;
pub(crate) use turn::{Taken, Turn};
