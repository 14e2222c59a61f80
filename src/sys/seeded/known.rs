//! What the simulated kernel remembers of requests and syncs.

/// What the kernel answered about a request, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Refused(i32),
    Event(i64),
}

/// What the kernel knows of the requests of one name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Where it first arrived: context, and place in the order of all arrivals.
    pub(crate) arrival: Option<(usize, u64)>,
    pub(crate) answers: Vec<Answer>,
    /// When the last event came, in the order of all events and syncs.
    pub(crate) ended: u64,
}

/// A sync that ended well: when it was accepted, in the same order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Synced {
    pub(crate) file: u32,
    pub(crate) began: u64,
}
