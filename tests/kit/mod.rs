//! What every crate of tests uses, those of the fault lab and those inside `src` included: it needs nothing
//! but the standard library. Each takes it in by its path.
#![allow(
    dead_code,
    unused_imports,
    reason = "no crate of tests needs all of it"
)]

mod counter;
mod latch;
mod patience;
mod random;
mod task;

pub(crate) use counter::Counter;
pub(crate) use latch::Latch;
pub(crate) use patience::patience;
pub(crate) use random::Random;
pub(crate) use task::{block_on, poll_once, poll_with, waker_that};
