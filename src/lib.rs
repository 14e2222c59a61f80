//! The Linux kernel's native AIO (`io_setup`, `io_submit`, `io_getevents`), made safe, complete and as fast as the raw system calls.

pub mod sys;

mod aligned;
mod buffer;
mod flags;

pub use aligned::AlignedBuf;
pub use buffer::{IoBuf, IoBufMut, IoBufs, IoBufsMut, IoVec, IoVecArray, Slice};
pub use flags::{IoPriority, IoPriorityClass, PollFlags, RwFlags};
