//! Making a kernel context: how large it may be, and why not.

use crate::error::SetupError;
use crate::sys::Kernel;
use std::io;

/// One slot beyond the depth is kept for the wake-up.
const WAKE_SLOT: u32 = 1;
/// The most that is asked of `io_setup`: beyond some millions it refuses, and nobody needs even this.
const MOST: u32 = 65_535;

/// A context for `depth` requests in flight, or for fewer where the machine's quota is nearly used up; and
/// for how many.
pub(super) fn make(depth: u32, force_syscalls: bool) -> Result<(Kernel, u32), SetupError> {
    if depth == 0 || depth > MOST {
        return Err(SetupError::InvalidDepth(depth));
    }
    let mut got = depth;
    let kernel = loop {
        match Kernel::setup(got + WAKE_SLOT, force_syscalls) {
            Ok(kernel) => break kernel,
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && got > 1 => got /= 2,
            Err(error) => return Err(explain(error, depth)),
        }
    };
    Ok((kernel, got))
}

fn explain(error: io::Error, asked: u32) -> SetupError {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => SetupError::Unsupported,
        Some(libc::EPERM) => SetupError::Refused,
        Some(libc::ENOMEM) => SetupError::NoMemory,
        Some(libc::EAGAIN) => SetupError::QuotaExhausted {
            asked,
            in_use: sysctl("aio-nr"),
            max: sysctl("aio-max-nr"),
        },
        _ => SetupError::Other(error),
    }
}

fn sysctl(name: &str) -> Option<u64> {
    std::fs::read_to_string(format!("/proc/sys/fs/{name}"))
        .ok()?
        .trim()
        .parse()
        .ok()
}
