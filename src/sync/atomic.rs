//! The faces of atomics where loom or the simulation stands behind them.

/// `atomic!(NAME: VALUE = INNER)`: an atomic with the methods that the crate uses. The module around it has an
/// `operate(order, weaker, operation)`, which does the operation in one of the two orders. With `, const` the
/// atomic may be made where a static is.
macro_rules! atomic {
    ($name:ident: $value:ty = $inner:ty $(, $const:tt)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name($inner);

        #[allow(dead_code, reason = "each type has what some other needs")]
        impl $name {
            #[track_caller]
            pub(crate) $($const)? fn new(value: $value) -> Self {
                Self(<$inner>::new(value))
            }

            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $value {
                operate(order, Ordering::Acquire, |order| self.0.load(order))
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                operate(order, Ordering::Release, |order| self.0.store(value, order))
            }

            #[track_caller]
            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                operate(order, Ordering::AcqRel, |order| self.0.swap(value, order))
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let failure = match failure {
                    Ordering::SeqCst => Ordering::Acquire,
                    weaker => weaker,
                };
                operate(success, Ordering::AcqRel, |success| {
                    self.0.compare_exchange(current, new, success, failure)
                })
            }

            #[track_caller]
            pub(crate) fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }
        }
    };
}

/// The same for one that counts.
macro_rules! counter {
    ($name:ident: $value:ty = $inner:ty $(, $const:tt)?) => {
        atomic!($name: $value = $inner $(, $const)?);

        #[allow(dead_code, reason = "each type has what some other needs")]
        impl $name {
            #[track_caller]
            pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                operate(order, Ordering::AcqRel, |order| self.0.fetch_add(value, order))
            }

            #[track_caller]
            pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                operate(order, Ordering::AcqRel, |order| self.0.fetch_sub(value, order))
            }
        }
    };
}

pub(crate) use {atomic, counter};
