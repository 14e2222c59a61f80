//! The memory of a request, from its submission until its result has been delivered.
//!
//! | file | noun |
//! | --- | --- |
//! | `cell` | what `aio_data` points to, with its states; `pool`: where its memory comes from; `vtable`: what depends on the body's type; `marks`: what the engine has to know of it |
//! | `owned` | the right to a cell, which passes from thread to thread, and through the kernel |
//! | `outgoing` | the same right, in the form in which `io_submit` takes it |
//! | `watch` | the other end of a request: where a waiter or a future finds its result |
//! | `arrivals` | the other end of the requests of a queue: where its user finds them |
//! | `list` | many requests, linked through their cells |

mod arrivals;
mod cell;
mod list;
mod marks;
mod outgoing;
mod owned;
mod pool;
mod vtable;
mod watch;

pub(super) use arrivals::{Arrivals, Put};
pub(crate) use arrivals::{Completed, Completions, Quorum};
pub(super) use cell::Cell;
pub(crate) use list::List;
pub(super) use outgoing::Outgoing;
pub(crate) use owned::{Admitted, Ended, OwnedCell, Receipt, Settled, TakenBack};
pub(crate) use watch::Watch;
