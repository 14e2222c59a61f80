//! A value that is made once, in a process that may fork meanwhile.
#![allow(unsafe_code, reason = "publishes a leaked box by its address")]

use crate::origin::Origin;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// Made by the first thread that asks, for ever. Others that come meanwhile wait for that thread.
///
/// A fork copies it as it is, also while another thread of the parent is making the value. That thread does
/// not exist in the child, which therefore does not wait for it, and makes a value of its own.
pub(crate) struct ProcessOnce<T> {
    value: AtomicPtr<T>,
    /// The mark of the process in which a thread is making it; 0: none is.
    maker: AtomicU32,
}

impl<T: Sync> ProcessOnce<T> {
    pub(crate) const fn new() -> Self {
        ProcessOnce {
            value: AtomicPtr::new(ptr::null_mut()),
            maker: AtomicU32::new(0),
        }
    }

    /// The value, if it was made.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        // Acquire: meets the Release of `make`, so that the value is seen as it was made.
        let value = self.value.load(Ordering::Acquire);
        // SAFETY: null, or a box that `make` has leaked, which nothing changes or frees; `T: Sync`.
        unsafe { value.as_ref() }
    }

    /// The value, which `make` makes if there is none, and whether it was made just now.
    pub(crate) fn get_or_try_make<E>(
        &self,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<(&T, bool), E> {
        let _only_maker = Making::begin(&self.maker);
        if let Some(made) = self.get() {
            return Ok((made, false));
        }
        let made = Box::leak(Box::new(make()?));
        // Release: meets the Acquire of `get`.
        self.value.store(made, Ordering::Release);
        Ok((made, true))
    }
}

/// While it lives, no other thread of this process makes the value.
struct Making<'a>(&'a AtomicU32);

impl Making<'_> {
    fn begin(maker: &AtomicU32) -> Making<'_> {
        let here = Origin::here().mark();
        // Acquire and Release, here and in `drop`: a thread that comes later sees the value of one that came
        // before. Relaxed: what a failed try sees is looked at again.
        while let Err(other) = maker
            .compare_exchange_weak(0, here, Ordering::Acquire, Ordering::Relaxed)
            .or_else(|other| take_over(maker, other, here))
        {
            debug_assert!(other == here || other == 0);
            std::thread::yield_now();
        }
        Making(maker)
    }
}

/// A maker of another process exists in a fork's copy only.
fn take_over(maker: &AtomicU32, other: u32, here: u32) -> Result<u32, u32> {
    if other == here || other == 0 {
        return Err(other);
    }
    // Relaxed: nothing that the parent's thread did is used.
    let taken = maker.compare_exchange(other, here, Ordering::Acquire, Ordering::Relaxed);
    taken.map_err(|_| 0)
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        // Release: see `begin`.
        self.0.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_made_once_and_after_a_failure_again() {
        let once = ProcessOnce::new();
        assert_eq!(once.get_or_try_make(|| Err(7)), Err(7));
        assert_eq!(once.get_or_try_make(|| Ok::<_, i32>(1)), Ok((&1, true)));
        assert_eq!(once.get_or_try_make(|| Ok::<_, i32>(2)), Ok((&1, false)));
        assert_eq!(once.get(), Some(&1));
    }

    #[test]
    fn a_maker_that_a_fork_left_behind_is_not_waited_for() {
        let once = ProcessOnce::new();
        let of_another_process = Origin::here().mark().wrapping_add(1).max(1);
        once.maker.store(of_another_process, Ordering::Relaxed);
        assert_eq!(once.get_or_try_make(|| Ok::<_, i32>(1)), Ok((&1, true)));
    }

    #[test]
    fn of_many_threads_one_makes_it() {
        let once = ProcessOnce::new();
        let made = AtomicU32::new(0);
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| {
                    let make = || Ok::<_, i32>(made.fetch_add(1, Ordering::Relaxed));
                    assert_eq!(once.get_or_try_make(make).map(|(value, _)| *value), Ok(0));
                });
            }
        });
    }
}
