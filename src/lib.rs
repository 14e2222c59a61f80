//! The Linux kernel's native AIO (`io_setup`, `io_submit`, `io_getevents`), made safe, complete and as fast as the raw system calls.

pub mod sys;

mod aio;
mod aligned;
mod buf_pool;
mod buffer;
mod completion;
mod direct;
mod dispatch;
mod engine;
mod error;
mod flags;
mod future;
mod iocb;
mod operation;
mod stats;
mod submission;
mod sync;

pub use aio::{Aio, Builder};
pub use aligned::AlignedBuf;
pub use buf_pool::{BufPool, BufPoolBuilder, HugePages, PoolBuf};
pub use buffer::{IoBuf, IoBufMut, IoBufs, IoBufsMut, IoVec, IoVecArray, Slice};
pub use completion::Completion;
pub use direct::{AtomicWrite, DirectFile, DirectOptions};
pub use dispatch::Dispatch;
pub use error::{SetupError, SubmitError, Unavailable};
pub use flags::{IoPriority, IoPriorityClass, PollFlags, RwFlags};
pub use future::Pending;
pub use iocb::{Blank, Iocb, Request, Submit};
pub use operation::{Callback, Fsync, Operation, Read, ReadV, Rw, Write, WriteV};
pub use stats::Stats;
pub use submission::Submission;
