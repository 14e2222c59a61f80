//! Calling what the user gave, which may panic.

use crate::user_code::{Panic, try_run};

/// Runs several pieces of user code, all of them whatever the others do, and remembers the first panic.
#[derive(Default)]
pub(super) struct Panics(Option<Panic>);

impl Panics {
    /// Runs `code`; returns `None` if it panicked.
    pub(super) fn catch<R>(&mut self, code: impl FnOnce() -> R) -> Option<R> {
        match try_run(code) {
            Ok(value) => Some(value),
            Err(panic) => {
                self.keep(panic);
                None
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn keep(&mut self, panic: Panic) {
        match self.0 {
            None => self.0 = Some(panic),
            Some(_) => panic.discard(),
        }
    }

    /// Lets the first panic go on, unless this thread is panicking already.
    pub(super) fn go_on(mut self) {
        if let Some(panic) = self.0.take() {
            if !std::thread::panicking() {
                panic.resume();
            }
            panic.discard();
        }
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        if let Some(panic) = self.0.take() {
            panic.discard();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};

    struct PanicsInDrop;

    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("told to");
        }
    }

    #[test]
    fn the_first_panic_goes_on_when_the_others_payloads_panic() {
        let mut panics = Panics::default();
        assert_eq!(panics.catch(|| 1), Some(1));
        assert_eq!(panics.catch(|| panic_any(7)), None::<()>);
        assert_eq!(panics.catch(|| panic_any(PanicsInDrop)), None::<()>);
        let first = catch_unwind(AssertUnwindSafe(|| panics.go_on())).unwrap_err();
        assert_eq!(first.downcast_ref(), Some(&7));
    }

    #[test]
    fn what_is_not_let_go_on_is_dropped_without_a_panic() {
        let mut panics = Panics::default();
        assert_eq!(panics.catch(|| panic_any(PanicsInDrop)), None::<()>);
        drop(panics);
    }
}
