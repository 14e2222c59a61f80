//! A set of signals.

use std::fmt;

/// The signals that a thread does not take while it sleeps: for
/// [`Aio::poll_with_mask`](crate::Aio::poll_with_mask).
///
/// Signals are the numbers of the kernel, 1 to 64: `libc::SIGTERM`, `nix`'s `Signal as i32`. SIGKILL and
/// SIGSTOP can't be blocked, and the kernel ignores them here.
///
/// ```
/// use kiocb::SignalMask;
///
/// let all_but_sigterm = SignalMask::all().without(15);
/// assert!(!all_but_sigterm.blocks(15) && all_but_sigterm.blocks(2));
/// assert_eq!(SignalMask::none().with(15).bits(), 1 << 14);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SignalMask(u64);

impl SignalMask {
    /// Blocks no signal.
    pub const fn none() -> SignalMask {
        SignalMask(0)
    }

    /// Blocks every signal but those that the C library keeps for itself, as its `sigfillset` does: 32 and 33,
    /// with musl 34 too. By them `setuid(2)` and its like change all threads, and wait for each: a thread
    /// that sleeps with them blocked would hold up the one that calls.
    pub const fn all() -> SignalMask {
        SignalMask(!OF_THE_C_LIBRARY)
    }

    /// The same, and blocks this signal.
    ///
    /// # Panics
    /// If there is no signal of this number.
    pub const fn with(self, signal: i32) -> SignalMask {
        SignalMask(self.0 | bit(signal))
    }

    /// The same, and does not block this signal.
    ///
    /// # Panics
    /// If there is no signal of this number.
    pub const fn without(self, signal: i32) -> SignalMask {
        SignalMask(self.0 & !bit(signal))
    }

    /// Whether it blocks this signal.
    ///
    /// # Panics
    /// If there is no signal of this number.
    pub const fn blocks(self, signal: i32) -> bool {
        self.0 & bit(signal) != 0
    }

    /// As the kernel has it: bit `n - 1` is signal `n`.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set of these bits. See [`all`](SignalMask::all) for what is better not blocked.
    pub const fn from_bits(bits: u64) -> SignalMask {
        SignalMask(bits)
    }
}

const OF_THE_C_LIBRARY: u64 = {
    let glibc = bit(32) | bit(33);
    if cfg!(target_env = "musl") {
        glibc | bit(34)
    } else {
        glibc
    }
};

const fn bit(signal: i32) -> u64 {
    assert!(
        signal >= 1 && signal <= 64,
        "signals have the numbers 1 to 64"
    );
    1 << (signal - 1)
}

impl fmt::Debug for SignalMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignalMask({:#x})", self.0)
    }
}
