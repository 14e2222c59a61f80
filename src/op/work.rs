//! The contract between the engine and what it carries to the kernel and back.
#![allow(
    unsafe_code,
    reason = "the contract between a request and the memory that its iocb names"
)]

use crate::sys::iocb;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

/// Something that the engine can carry to the kernel and back.
///
/// # Safety
/// - After [`describe`](Work::describe), what the iocb points to, and the descriptor it names, are valid as
///   long as the value is not moved, not touched and not dropped: the kernel may use them until the event
///   arrives.
/// - `describe` leaves `aio_data` alone.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `kiocb::op::Request`: this needs a request with an operation and without a callback",
    label = "call it after `init_rw` (or `init_fsync`, …) and before `init_callback`",
    note = "the result of a request goes to one place: to a callback (`init_callback`, then `submit`), or to what waits for it \
            (`.wait()`, `.start()`, `.await`)",
    note = "file and buffer must be `Send`, as `Arc<File>` and `Vec<u8>` are, and the buffer must suit the operation"
)]
pub unsafe trait Work: Send {
    /// What comes back.
    type Output;

    /// What the engine has to know of it beforehand.
    fn traits(&self) -> Traits {
        Traits::default()
    }

    /// Fills in the iocb. Called once, when the value has reached the address at which it will stay until it
    /// is complete. What was asked for besides (flags, priority, eventfd) is in it already.
    fn describe(&mut self, iocb: &mut iocb);

    /// Whether the kernel's answer is the end, or the operation goes on with what it changed in the iocb; the
    /// answer may be changed too. Asked only of what [`Traits::may_go_on`].
    fn proceed(&mut self, iocb: &mut iocb, result: &mut i64) -> Progress {
        let _ = (iocb, result);
        Progress::Done
    }

    /// The eventfd that is to be raised when it is complete.
    fn eventfd(&self) -> Option<&Arc<OwnedFd>> {
        None
    }

    /// Makes the kernel's answer into what the user gets.
    ///
    /// # Safety
    /// `result` is the kernel's answer to the iocb that this value described, or a negative number.
    unsafe fn finish(self, result: i64) -> Self::Output;
}

/// What the engine has to know of an operation beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Its first answer may not be its last: ask [`Work::proceed`].
    pub may_go_on: bool,
    /// The kernel can cancel it.
    pub cancellable: bool,
    /// It has NOWAIT set, and should go on without, on a thread that may block, where it would have.
    pub offload: bool,
    /// It has an eventfd: ask [`Work::eventfd`].
    pub has_eventfd: bool,
}

/// What to do with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Deliver it.
    Done,
    /// Submit the iocb again.
    Again,
}

/// What an iocb names a file by.
pub(super) fn descriptor(file: &impl AsFd) -> u32 {
    // Never negative: that is what a BorrowedFd is.
    file.as_fd().as_raw_fd().cast_unsigned()
}
