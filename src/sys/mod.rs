//! The kernel's interface as it is: types, constants and one `unsafe fn` for each of the six system calls.
//!
//! For whoever wants the raw layer; everything else in this crate is built on it. Nothing is
//! interpreted here: what the kernel takes and returns is passed on, and an error is always the
//! `errno` it gave ([`io::Error::raw_os_error`](std::io::Error::raw_os_error)).
//!
//! ```
//! # #![allow(unsafe_code)]
//! use kiocb::sys;
//! use std::{io, os::fd::AsRawFd};
//!
//! # fn main() -> io::Result<()> {
//! let file = std::fs::File::open("/dev/zero")?;
//! let mut buf = [1u8; 16];
//! let mut request = sys::iocb {
//!     aio_data: 7,
//!     aio_lio_opcode: sys::IOCB_CMD_PREAD,
//!     aio_fildes: file.as_raw_fd() as u32,
//!     aio_buf: buf.as_mut_ptr() as u64,
//!     aio_nbytes: buf.len() as u64,
//!     ..Default::default()
//! };
//! let mut event = sys::io_event::default();
//! // SAFETY: `file`, `buf` and `request` outlive the request: its event is taken before they are
//! // looked at again. `context` is destroyed once, and nobody else has it.
//! unsafe {
//!     let context = sys::io_setup(1)?;
//!     assert_eq!(sys::io_submit(context, [&raw mut request].as_ptr(), 1)?, 1);
//!     assert_eq!(sys::io_getevents(context, 1, 1, &mut event, None)?, 1);
//!     sys::io_destroy(context)?;
//! }
//! assert_eq!((event.data, event.res, buf), (7, 16, [0; 16]));
//! # Ok(())
//! # }
//! ```

mod abi;
mod bindings;
pub(crate) mod clock;
pub(crate) mod fork;
#[cfg_attr(
    test,
    allow(dead_code, reason = "the simulated one stands in its place")
)]
mod kernel;
mod ring;
#[cfg(test)]
pub(crate) mod simulated;
pub(crate) mod statx;
mod syscall;

#[cfg(not(test))]
pub(crate) use kernel::Kernel;
pub(crate) use kernel::{Mode, WAKE};
pub(crate) use ring::Take;
#[cfg(test)]
pub(crate) use simulated::Kernel;

pub use abi::{
    IOCB_CMD_FDSYNC, IOCB_CMD_FSYNC, IOCB_CMD_NOOP, IOCB_CMD_POLL, IOCB_CMD_PREAD, IOCB_CMD_PREADV,
    IOCB_CMD_PWRITE, IOCB_CMD_PWRITEV, IOCB_FLAG_IOPRIO, IOCB_FLAG_RESFD, RWF_APPEND, RWF_ATOMIC,
    RWF_DONTCACHE, RWF_DSYNC, RWF_HIPRI, RWF_NOAPPEND, RWF_NOSIGNAL, RWF_NOWAIT, RWF_SYNC,
    aio_context_t, io_event, iocb,
};
pub use syscall::{io_cancel, io_destroy, io_getevents, io_pgetevents, io_setup, io_submit};
