//! What a request can be: its operation, the states it goes through, and the traits that say what each state
//! allows.
//!
//! | state | made by | its outcome |
//! | --- | --- | --- |
//! | [`Blank`] | [`Iocb::alloc`](crate::Iocb::alloc) | none yet |
//! | [`Rw`] of [`Read`], [`Write`], [`ReadV`] or [`WriteV`] | [`init_rw`](crate::Iocb::init_rw) | [`Completion`](crate::Completion) |
//! | [`Exact`] | [`read_exact`](crate::Iocb::read_exact), [`write_all`](crate::Iocb::write_all) | [`Completion`](crate::Completion) |
//! | [`Fsync`] | [`init_fsync`](crate::Iocb::init_fsync), [`init_fdsync`](crate::Iocb::init_fdsync) | [`Completion`](crate::Completion), without a buffer |
//! | [`PollReady`] | [`init_poll`](crate::Iocb::init_poll) | [`Readiness`] |
//! | [`Mixed`] | [`mixed`](crate::Iocb::mixed), from any of these | [`Completion`](crate::Completion), with [`MixedBuf`] |
//! | [`Callback`] | [`init_callback`](crate::Iocb::init_callback) | goes to the callback |
//!
//! A [`Request`] has an operation and can be waited for or given a callback. What can be
//! [submitted](crate::Iocb::submit) is [`Submit`].

mod callback;
mod exact;
mod fsync;
mod job;
mod mixed;
mod poll_ready;
mod request;
mod rest;
mod rw;
mod tagged;
mod transfer;
mod work;

pub use callback::Callback;
pub use exact::{Exact, ReadOp, WriteOp};
pub use fsync::Fsync;
pub use mixed::{IntoMixed, Mixed, MixedBuf};
pub use poll_ready::{PollReady, Readiness};
pub use request::{Blank, Request, Submit};
pub use rw::Rw;
pub use transfer::{Operation, Read, ReadV, Write, WriteV};

pub(crate) use callback::Receive;
pub(crate) use job::{Job, Options};
pub(crate) use tagged::Tagged;
pub(crate) use work::{Progress, Traits, Work};
