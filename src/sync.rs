//! Threads' tools in one place, so that a model checker or the simulation can take their place: everything else
//! in the crate imports from here.

#[cfg(any(loom, shuttle))]
mod atomic;
mod blocking;
#[cfg(not(shuttle))]
pub(crate) mod lock;
#[cfg(loom)]
mod modelled;
mod number;
mod parker;
#[cfg(shuttle)]
#[cfg_attr(not(test), allow(dead_code, reason = "the simulation is a test"))]
pub(crate) mod simulated;
mod turn;

#[cfg(not(any(loom, shuttle)))]
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
#[cfg(not(any(loom, shuttle)))]
pub(crate) use imp::*;
#[cfg(loom)]
pub(crate) use modelled::*;
pub(crate) use number::{place_of_thread, thread_number};
pub(crate) use parker::Parker;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::thread::{Builder, JoinHandle};
#[cfg(not(shuttle))]
pub(crate) use std::thread_local;
pub(crate) use turn::{Taken, Turn};
#[cfg(shuttle)]
pub(crate) use {simulated as lock, simulated::*};
