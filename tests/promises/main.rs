//! What the documentation promises about user code, about the end of things, and about time: one test for
//! each promise, and two matrices.
//!
//! Most tests here would hang, or end their process, if the promise were broken. So each runs in a process of
//! its own, once for each way of taking events ([`common::modes`]).

#![allow(
    unsafe_code,
    reason = "buffers and wakers of the tests' own, and signal masks"
)]

#[path = "../common/mod.rs"]
mod common;
mod hostile;
mod logger;
#[path = "../common/seccomp.rs"]
mod seccomp;

mod call_outs;
mod cancel;
mod cost;
mod deadlines;
mod end_matrix;
mod ends;
mod liveness;
mod observed;
mod other_ends;
mod own_thread;
mod panics;
mod poll_mask;
mod readiness;
mod refused;
mod reviewed;
mod stack;
mod start_hook;
mod threads;
mod tokens;
