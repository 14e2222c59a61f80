//! How often the simulated kernel does what.

/// How often the kernel does what: once in so many; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mood {
    /// Completes inside `io_submit`.
    pub(crate) at_once: u64,
    /// Refuses a request.
    pub(crate) refuses: u64,
    /// Ends `io_submit` before all of it is accepted.
    pub(crate) partly: u64,
    /// EAGAIN although there is room.
    pub(crate) hoards: u64,
    /// Blocks in `io_submit`.
    pub(crate) blocks: u64,
    /// Transfers fewer bytes.
    pub(crate) short: u64,
    /// Fails a transfer.
    pub(crate) fails: u64,
    /// Answers more than was asked for.
    pub(crate) exaggerates: u64,
    /// NOWAIT would have blocked.
    pub(crate) would_block: u64,
    /// A signal ends a sleep.
    pub(crate) interrupts: u64,
    /// A context dies with a submission.
    pub(crate) dies: u64,
    /// `io_setup` has no room for so many.
    pub(crate) scarce: u64,
    /// The longest time that a request takes.
    pub(crate) latency: u64,
}
