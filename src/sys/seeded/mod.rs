//! A kernel whose every answer comes from a seed, for the simulation: the same methods as
//! [`super::kernel::Kernel`].
//!
//! It accepts in part, refuses, answers late, in any order, short, or with an error; inside the call of
//! `io_submit` or after it. It uses the memory that a request names as a kernel does: at the end of the
//! request, and only if it is still there. What no kernel may be asked for it writes down as a
//! [violation](Machine::violate).
//!
//! Bytes are what [`pattern`] says of their offset, and an offset is a request's *name* and what lies behind it:
//! `name << NAME`. So whoever looks at memory, kernel or user, knows what it must hold.
//!
//! | file | |
//! | --- | --- |
//! | `mood` | how often it does what |
//! | `asked` | what an iocb asks for |
//! | `memory` | the memory that it may use, and the bytes there |
//! | `known` | what it remembers of requests and syncs |
//! | `context` | one context |
//! | `machine` | all of it, which every thread uses |
//! | `outcome` | how a request ends |
//! | `admission` | how a request is taken in |
//! | `world` | what happens while the program waits |
//! | `kernel` | a context as the engine sees it |

mod admission;
mod asked;
mod context;
mod kernel;
mod known;
mod machine;
mod memory;
mod mood;
mod outcome;
mod world;

pub(crate) use asked::NAME;
pub(crate) use kernel::Kernel;
pub(crate) use known::{Answer, Known};
pub(crate) use machine::{Machine, machine, violated};
pub(crate) use memory::pattern;
pub(crate) use mood::Mood;
pub(crate) use world::go_on;

/// Whether the fault of this name is to be there: see tests/simulation.
#[allow(dead_code, reason = "of a copy of the sources with faults")]
pub(crate) fn is_planted(name: &str) -> bool {
    static FAULT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let fault = FAULT.get_or_init(|| std::env::var("KIOCB_FAULT").unwrap_or_default());
    fault == name
}
