//! What an operator sees of a context: how long requests stay where, and what is outstanding at this moment.
//!
//! [`Aio::observe`](crate::Aio::observe) turns it on, for all requests or for one of so many;
//! [`Aio::latencies`](crate::Aio::latencies) and [`Aio::dump`](crate::Aio::dump) return what was seen. The
//! counters of [`Stats`](crate::Stats) are always on.

mod dump;
mod histogram;
mod latencies;

pub use dump::{Dump, Place, RequestState};
pub use histogram::Histogram;
pub use latencies::Latencies;
