//! The kernel's interface as it is: types, constants and one `unsafe fn` for each of the six system calls.
//!
//! For programs that need the raw layer; everything else in this crate is built on it. Nothing is interpreted
//! here: what the kernel takes and returns is passed on, and an error is always the `errno` it gave
//! ([`io::Error::raw_os_error`](std::io::Error::raw_os_error)).
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
//! // looked at again. `context` is destroyed once, and nothing else has it.
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
//!
//! # All of the ABI, and the call that reaches it
//!
//! Every opcode, flag and field of `<linux/aio_abi.h>`, and the `RWF_*` of `<linux/fs.h>`, with the test in
//! `tests` that shows it (`file::name`). `tests/abi_table.rs` compares the table with the header and the
//! bindings.
//!
//! | part | reached by | since Linux | shown by |
//! | --- | --- | --- | --- |
//! | `IOCB_CMD_PREAD` | [`init_rw`](crate::Iocb::init_rw) with [`Read`](crate::op::Read), [`Scope::read_at`](crate::Scope::read_at) | 2.6 | `read_write::what_was_written_is_read_back` |
//! | `IOCB_CMD_PWRITE` | [`init_rw`](crate::Iocb::init_rw) with [`Write`](crate::op::Write), [`Scope::write_at`](crate::Scope::write_at) | 2.6 | `read_write::what_was_written_is_read_back` |
//! | `IOCB_CMD_FSYNC` | [`init_fsync`](crate::Iocb::init_fsync) | 4.18 | `read_write::syncing_works_on_files_for_reading_and_on_directories` |
//! | `IOCB_CMD_FDSYNC` | [`init_fdsync`](crate::Iocb::init_fdsync) | 4.18 | `read_write::syncing_works_on_files_for_reading_and_on_directories` |
//! | `IOCB_CMD_POLL` | [`init_poll`](crate::Iocb::init_poll) | 4.19 | `poll::an_eventfd_is_ready_when_it_is_raised` |
//! | `IOCB_CMD_NOOP` | nothing: the kernel refuses it | 2.6 | `sys::a_malformed_request_is_einval` |
//! | `IOCB_CMD_PREADV` | [`init_rw`](crate::Iocb::init_rw) with [`ReadV`](crate::op::ReadV) | 2.6.19 | `read_write::several_buffers_are_filled_and_sent_in_order` |
//! | `IOCB_CMD_PWRITEV` | [`init_rw`](crate::Iocb::init_rw) with [`WriteV`](crate::op::WriteV) | 2.6.19 | `read_write::several_buffers_are_filled_and_sent_in_order` |
//! | `IOCB_FLAG_RESFD` | [`eventfd`](crate::Iocb::eventfd) | 2.6.22 | `read_write::an_eventfd_is_raised_by_each_completion` |
//! | `IOCB_FLAG_IOPRIO` | [`priority`](crate::Iocb::priority) | 4.18 | `flags::the_kernel_takes_good_priorities_and_refuses_bad_ones` |
//! | `RWF_HIPRI` | [`RwFlags::HIPRI`](crate::RwFlags::HIPRI) | 4.13 | `flags::every_flag_goes_where_a_sync_is_refused_for_it` |
//! | `RWF_DSYNC` | [`RwFlags::DSYNC`](crate::RwFlags::DSYNC) | 4.13 | `flags::dsync_and_sync_writes_have_their_blocks_when_they_complete` |
//! | `RWF_SYNC` | [`RwFlags::SYNC`](crate::RwFlags::SYNC) | 4.13 | `flags::dsync_and_sync_writes_have_their_blocks_when_they_complete` |
//! | `RWF_NOWAIT` | [`RwFlags::NOWAIT`](crate::RwFlags::NOWAIT), [`nowait_or_offload`](crate::Iocb::nowait_or_offload) | 4.13 | `flags::nowait_completes_with_eagain_where_it_would_block` |
//! | `RWF_APPEND` | [`RwFlags::APPEND`](crate::RwFlags::APPEND) | 4.16 | `flags::append_ignores_the_offset` |
//! | `RWF_NOAPPEND` | [`RwFlags::NOAPPEND`](crate::RwFlags::NOAPPEND) | 6.9 | `flags::noappend_honours_the_offset_of_a_file_open_for_appending` |
//! | `RWF_ATOMIC` | [`RwFlags::ATOMIC`](crate::RwFlags::ATOMIC) | 6.11 | `flags::atomic_is_refused_for_reads_and_for_files_that_cannot` |
//! | `RWF_DONTCACHE` | [`RwFlags::DONTCACHE`](crate::RwFlags::DONTCACHE) | 6.14 | `flags::dontcache_leaves_nothing_in_the_page_cache` |
//! | `RWF_NOSIGNAL` | [`RwFlags::NOSIGNAL`](crate::RwFlags::NOSIGNAL) | 6.18 | `flags::nosignal_keeps_a_broken_pipe_from_signalling` |
//! | `iocb.aio_data` | the engine: the request's address, which leads to its callback | 2.6 | `sys::an_event_carries_the_tag_and_the_address` |
//! | `iocb.aio_key` | nothing: the kernel writes it | 2.6 | `sys::the_kernel_clears_the_key` |
//! | `iocb.aio_rw_flags` | [`rw_flags`](crate::Iocb::rw_flags) | 4.13 | `flags::every_flag_goes_where_a_sync_is_refused_for_it` |
//! | `iocb.aio_lio_opcode` | the `init_…` of [`Iocb`](crate::Iocb) | 2.6 | `batch::all_kinds_of_requests_go_together` |
//! | `iocb.aio_reqprio` | [`priority`](crate::Iocb::priority) | 4.18 | `flags::the_kernel_takes_good_priorities_and_refuses_bad_ones` |
//! | `iocb.aio_fildes` | the `file` of an `init_…` | 2.6 | `read_write::every_owner_of_a_descriptor_will_do` |
//! | `iocb.aio_buf` | the `buf` of [`init_rw`](crate::Iocb::init_rw); the events of [`init_poll`](crate::Iocb::init_poll) | 2.6 | `read_write::every_kind_of_buffer_will_do` |
//! | `iocb.aio_nbytes` | the length of `buf` | 2.6 | `read_write::a_part_of_a_buffer_may_be_lent` |
//! | `iocb.aio_offset` | the `offset` of [`init_rw`](crate::Iocb::init_rw) | 2.6 | `read_write::offsets_beyond_four_gibibytes_reach_their_place` |
//! | `iocb.aio_reserved2` | nothing: it must be 0 | 2.6 | `sys::a_malformed_request_is_einval` |
//! | `iocb.aio_flags` | [`eventfd`](crate::Iocb::eventfd), [`priority`](crate::Iocb::priority) | 2.6.22 | `flags::an_eventfd_and_a_priority_go_together` |
//! | `iocb.aio_resfd` | [`eventfd`](crate::Iocb::eventfd) | 2.6.22 | `read_write::an_eventfd_is_raised_by_each_completion` |
//! | `io_event.data` | the engine: the request's address | 2.6 | `sys::an_event_carries_the_tag_and_the_address` |
//! | `io_event.obj` | nothing: `data` says it | 2.6 | `sys::an_event_carries_the_tag_and_the_address` |
//! | `io_event.res` | [`Completion::result`](crate::Completion::result), [`Readiness::result`](crate::Readiness::result) | 2.6 | `read_write::a_read_at_the_end_is_short_and_beyond_it_empty` |
//! | `io_event.res2` | nothing: it is 0 | 2.6 | `sys::an_event_carries_the_tag_and_the_address` |
//! | `aio_context_t` | [`Aio`](crate::Aio) | 2.6 | `sys::a_context_can_be_destroyed_once` |

mod abi;
mod bindings;
pub(crate) mod clock;
#[cfg(all(test, not(loom)))]
mod conformance;
#[cfg_attr(
    test,
    allow(dead_code, reason = "the simulated one stands in its place")
)]
mod kernel;
pub(crate) mod process_mutex;
pub(crate) mod process_once;
mod ring;
#[cfg(all(test, shuttle))]
pub(crate) mod seeded;
#[cfg(test)]
#[cfg_attr(shuttle, allow(dead_code, reason = "of the models and the schedules"))]
pub(crate) mod simulated;
pub(crate) mod statx;
mod syscall;

#[cfg(not(test))]
pub(crate) use kernel::Kernel;
pub(crate) use kernel::{FailedCall, Mode, OVERWRITTEN, WAKE};
pub(crate) use ring::Take;
#[cfg(all(test, shuttle))]
pub(crate) use seeded::Kernel;
#[cfg(all(test, not(shuttle)))]
pub(crate) use simulated::Kernel;

pub use abi::{
    IOCB_CMD_FDSYNC, IOCB_CMD_FSYNC, IOCB_CMD_NOOP, IOCB_CMD_POLL, IOCB_CMD_PREAD, IOCB_CMD_PREADV,
    IOCB_CMD_PWRITE, IOCB_CMD_PWRITEV, IOCB_FLAG_IOPRIO, IOCB_FLAG_RESFD, RWF_APPEND, RWF_ATOMIC,
    RWF_DONTCACHE, RWF_DSYNC, RWF_HIPRI, RWF_NOAPPEND, RWF_NOSIGNAL, RWF_NOWAIT, RWF_SYNC,
    aio_context_t, io_event, iocb,
};
pub use syscall::{io_cancel, io_destroy, io_getevents, io_pgetevents, io_setup, io_submit};
