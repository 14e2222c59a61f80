//! What may be asked of one request beside what it does: [`RwFlags`], [`IoPriority`]; and what a poll waits
//! for: [`PollFlags`].
//!
//! Each is a number that goes into one field of the kernel's [`iocb`](crate::sys::iocb) unchanged, with its
//! bits named.

/// What every set of flags has; the constants, with what they mean, are written out beside it.
macro_rules! flag_set {
    ($name:ident: $bits:ty, $names:expr) => {
        impl $name {
            /// No flag.
            pub const fn empty() -> Self {
                Self(0)
            }

            /// Every flag that has a name here.
            pub const fn all() -> Self {
                let (mut all, mut at) = (Self(0), 0);
                while at < $names.len() {
                    all.0 |= $names[at].0.0;
                    at += 1;
                }
                all
            }

            /// The number that the kernel gets.
            pub const fn bits(self) -> $bits {
                self.0
            }

            /// The flags of this number; `None` where it has a bit without a name here.
            pub const fn from_bits(bits: $bits) -> Option<Self> {
                if bits & !Self::all().0 == 0 {
                    Some(Self(bits))
                } else {
                    None
                }
            }

            /// The flags of this number, without the bits that have no name here.
            pub const fn from_bits_truncate(bits: $bits) -> Self {
                Self(bits & Self::all().0)
            }

            /// The flags of this number, with the bits that have no name here: for flags of a kernel newer
            /// than this crate.
            pub const fn from_bits_retain(bits: $bits) -> Self {
                Self(bits)
            }

            /// Whether no flag is set.
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// Whether every flag that has a name here is set.
            pub const fn is_all(self) -> bool {
                self.contains(Self::all())
            }

            /// Whether all of `other`'s flags are set; always true of an empty `other`.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any of `other`'s flags is set.
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// Sets `other`'s flags.
            pub const fn insert(&mut self, other: Self) {
                self.0 |= other.0;
            }

            /// Clears `other`'s flags.
            pub const fn remove(&mut self, other: Self) {
                self.0 &= !other.0;
            }

            /// Sets the flags of `other` that are not set, and clears those that are.
            pub const fn toggle(&mut self, other: Self) {
                self.0 ^= other.0;
            }

            /// Sets `other`'s flags if `value`, and clears them otherwise.
            pub const fn set(&mut self, other: Self, value: bool) {
                if value {
                    self.insert(other);
                } else {
                    self.remove(other);
                }
            }

            /// The flags of either: `|` for constants.
            #[must_use]
            pub const fn union(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// The flags of both: `&` for constants.
            #[must_use]
            pub const fn intersection(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }

            /// These flags without `other`'s: `-` for constants.
            #[must_use]
            pub const fn difference(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// The flags of one of the two, but not of both: `^` for constants.
            #[must_use]
            pub const fn symmetric_difference(self, other: Self) -> Self {
                Self(self.0 ^ other.0)
            }

            /// The flags with a name here that are not set: `!` for constants.
            #[must_use]
            pub const fn complement(self) -> Self {
                Self::from_bits_truncate(!self.0)
            }
        }

        flag_operator!($name: BitOr::bitor, BitOrAssign::bitor_assign, union);
        flag_operator!($name: BitAnd::bitand, BitAndAssign::bitand_assign, intersection);
        flag_operator!($name: BitXor::bitxor, BitXorAssign::bitxor_assign, symmetric_difference);
        flag_operator!($name: Sub::sub, SubAssign::sub_assign, difference);

        impl std::ops::Not for $name {
            type Output = Self;

            fn not(self) -> Self {
                self.complement()
            }
        }

        impl Extend<$name> for $name {
            fn extend<I: IntoIterator<Item = Self>>(&mut self, flags: I) {
                flags.into_iter().for_each(|flag| self.insert(flag));
            }
        }

        impl FromIterator<$name> for $name {
            fn from_iter<I: IntoIterator<Item = Self>>(flags: I) -> Self {
                flags.into_iter().fold(Self::empty(), Self::union)
            }
        }

        /// The names of the C header, and the rest as a number.
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut parts: Vec<String> = Vec::new();
                let mut rest = self.0;
                for &(flag, name) in &$names {
                    if self.contains(flag) {
                        parts.push(name.to_string());
                        rest &= !flag.0;
                    }
                }
                if rest != 0 || parts.is_empty() {
                    parts.push(format!("{rest:#x}"));
                }
                write!(f, "{}({})", stringify!($name), parts.join(" | "))
            }
        }

        flag_format!($name: Binary, Octal, LowerHex, UpperHex);
    };
}

/// An operator and its assigning form, both by the method that constants use.
macro_rules! flag_operator {
    ($name:ident: $op:ident::$call:ident, $assign:ident::$assign_call:ident, $method:ident) => {
        impl std::ops::$op for $name {
            type Output = Self;

            fn $call(self, other: Self) -> Self {
                self.$method(other)
            }
        }

        impl std::ops::$assign for $name {
            fn $assign_call(&mut self, other: Self) {
                *self = self.$method(other);
            }
        }
    };
}

/// The number itself in other bases.
macro_rules! flag_format {
    ($name:ident: $($base:ident),*) => {
        $(
            impl std::fmt::$base for $name {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    std::fmt::$base::fmt(&self.0, f)
                }
            }
        )*
    };
}

mod poll;
mod priority;
mod rw;
mod signals;

pub use poll::PollFlags;
pub use priority::{IoPriority, IoPriorityClass};
pub use rw::RwFlags;
pub use signals::SignalMask;
