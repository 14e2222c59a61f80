//! Calling what the user gave, which may panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What panics carry: its destructor is user code as well.
type Payload = Box<dyn Any + Send>;

/// Runs several pieces of user code, all of them whatever the others do, and remembers the first panic.
#[derive(Default)]
pub(super) struct Panics(Option<Payload>);

impl Panics {
    /// Runs `code`; returns `None` if it panicked.
    pub(super) fn catch<R>(&mut self, code: impl FnOnce() -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(code)) {
            Ok(value) => Some(value),
            Err(payload) => {
                self.keep(payload);
                None
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn keep(&mut self, payload: Payload) {
        match self.0 {
            None => self.0 = Some(payload),
            Some(_) => discard(payload),
        }
    }

    /// Lets the first panic go on, unless this thread is panicking already.
    pub(super) fn go_on(mut self) {
        if let Some(payload) = self.0.take() {
            if !std::thread::panicking() {
                resume_unwind(payload);
            }
            discard(payload);
        }
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        if let Some(payload) = self.0.take() {
            discard(payload);
        }
    }
}

/// Drops what a panic carried. If that panics too, what the second panic carried leaks.
fn discard(payload: Payload) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::panic_any;

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
