//! Where the time of requests goes.

use super::Histogram;

/// How long observed requests have stayed at each place, from
/// [`Aio::latencies`](crate::Aio::latencies).
///
/// A stay is counted when it is over: a request that the device does not answer is in
/// [`Aio::dump`](crate::Aio::dump), and not in here. With [`observe(n)`](crate::Aio::observe) each count
/// stands for about `n` requests.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
#[must_use = "the figures are all that this does"]
pub struct Latencies {
    /// From the acceptance until the request was first passed to `io_submit`: held back by a callback, or
    /// queued because all slots were taken.
    pub queued: Histogram,
    /// From there until its last event was taken off the ring. The time inside `io_submit` is part of it, and
    /// so is the time until a thread looked at the ring. What ends without an event, because it was refused or
    /// cancelled while it was queued, is not counted.
    pub kernel: Histogram,
    /// From there until its callback was called: how far the completion thread is behind. Requests with a
    /// callback only.
    pub delivery: Histogram,
    /// How long its callback took.
    pub callback: Histogram,
}

impl Latencies {
    pub(crate) fn merge(&mut self, other: &Latencies) {
        self.queued.merge(&other.queued);
        self.kernel.merge(&other.kernel);
        self.delivery.merge(&other.delivery);
        self.callback.merge(&other.callback);
    }
}
