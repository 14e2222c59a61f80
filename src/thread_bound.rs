//! A value that stays on its thread, inside of what other threads pass on.
//!
//! A request travels: the thread that reaps it, the helper thread or a thread on which a context ends may
//! have its cell. What is bound lies in the cell and is neither looked at nor dropped there. On any thread
//! but its own it leaks rather.
#![allow(
    unsafe_code,
    reason = "passes a value through threads that do not touch it"
)]

use crate::sync::thread_number;
use crate::user_code;
use std::fmt;
use std::mem::ManuallyDrop;
use std::num::NonZeroU64;

/// A value that is used and dropped on the thread that made this, and nowhere else. Sending it is harmless.
pub(crate) struct Bound<T> {
    value: ManuallyDrop<T>,
    /// The number of its thread; `None` where any may have it.
    owner: Option<NonZeroU64>,
}

// SAFETY: the value is reached by `take` and by `drop` alone. Both look first whether this is the thread that
// the value belongs to, unless it is `Send` (`Bound::anywhere`; the caller's promise in `take_unchecked`).
unsafe impl<T> Send for Bound<T> {}

impl<T> Bound<T> {
    /// Binds the value to this thread.
    #[inline]
    pub(crate) fn here(value: T) -> Bound<T> {
        Bound {
            value: ManuallyDrop::new(value),
            owner: Some(thread_number()),
        }
    }

    /// For a value that any thread may have.
    #[inline]
    pub(crate) fn anywhere(value: T) -> Bound<T>
    where
        T: Send,
    {
        Bound {
            value: ManuallyDrop::new(value),
            owner: None,
        }
    }

    /// Whether this thread may use the value.
    #[inline]
    fn is_here(&self) -> bool {
        self.owner.is_none_or(|owner| owner == thread_number())
    }

    /// The value; `None` on another thread than its own, where it leaks.
    #[inline]
    pub(crate) fn take(self) -> Option<T> {
        if !self.is_here() {
            return None; // its destructor reports it
        }
        // SAFETY: this is the value's thread, or the value is `Send` (`anywhere`).
        Some(unsafe { self.take_unchecked() })
    }

    /// The value, for a caller that knows more of its type than a `Bound` does.
    ///
    /// # Safety
    /// The value is `Send`, or this is its thread.
    #[inline]
    pub(crate) unsafe fn take_unchecked(self) -> T {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: the caller's promise, and `this`, which is not dropped, is not used again.
        unsafe { ManuallyDrop::take(&mut this.value) }
    }
}

impl<T> Drop for Bound<T> {
    fn drop(&mut self) {
        if self.is_here() {
            // SAFETY: this is the value's thread, and the value is dropped once: `take` forgets the `Bound`.
            unsafe { ManuallyDrop::drop(&mut self.value) }
        } else if std::mem::needs_drop::<T>() {
            report_leak();
        }
    }
}

#[cold]
fn report_leak() {
    user_code::error(format_args!(
        "a callback or a tag that is bound to the thread of its LocalAio came to its end on another thread: it \
         was not used there, and leaks"
    ));
}

impl<T> fmt::Debug for Bound<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::rc::Rc;
    use std::thread;

    #[test]
    fn a_bound_value_is_dropped_on_its_thread() {
        let rc = Rc::new(());
        drop(Bound::here(Rc::clone(&rc)));
        assert_eq!(Rc::strong_count(&rc), 1);
        assert!(Bound::here(Rc::clone(&rc)).take().is_some());
        assert_eq!(Rc::strong_count(&rc), 1);
    }

    #[test]
    fn another_thread_neither_takes_nor_drops_a_bound_value() {
        let rc = Rc::new(());
        let (first, second) = (Bound::here(Rc::clone(&rc)), Bound::here(Rc::clone(&rc)));
        let there = thread::spawn(move || {
            drop(first);
            second.take().is_none()
        });
        assert!(there.join().unwrap());
        assert_eq!(Rc::strong_count(&rc), 3, "both leak");
    }

    #[test]
    fn a_value_bound_to_a_thread_that_ended_is_no_other_ones() {
        let bound = thread::spawn(|| Bound::here(vec![1])).join().unwrap();
        let others = (0..8).map(|_| thread::spawn(thread_number));
        let numbers: Vec<_> = others.map(|thread| thread.join().unwrap()).collect();
        assert!(!numbers.iter().any(|number| bound.owner == Some(*number)));
        assert!(bound.take().is_none());
    }

    #[test]
    fn what_is_bound_to_no_thread_is_taken_on_any() {
        let bound = thread::spawn(|| Bound::anywhere(7)).join().unwrap();
        assert_eq!(bound.take(), Some(7));
    }
}
