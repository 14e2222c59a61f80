//! Making a kernel context: how large it may be, and why not.

use super::Config;
use crate::error::SetupError;
use crate::sys::{FailedCall, Kernel};

/// One slot beyond the depth is kept for the wake-up.
const WAKE_SLOT: u32 = 1;
/// The most that is asked of `io_setup`: beyond some millions it refuses, and no device needs even this many.
const MOST: u32 = 65_535;

/// Makes a context for as many requests in flight as asked for; for fewer where the machine's quota is nearly
/// used up, unless the number is to be exact. Returns also for how many.
pub(super) fn make(config: &Config) -> Result<(Kernel, u32), SetupError> {
    let depth = config.depth;
    if depth == 0 || depth > MOST {
        return Err(SetupError::InvalidDepth(depth));
    }
    let mut got = depth;
    let kernel = loop {
        match Kernel::setup(got + WAKE_SLOT, config.force_syscalls) {
            Ok(kernel) => break kernel,
            Err(failed) if is_out_of_quota(&failed) && got > 1 && !config.exact_depth => got /= 2,
            Err(failed) => return Err(explain(failed, depth)),
        }
    };
    Ok((kernel, got))
}

fn is_out_of_quota(failed: &FailedCall) -> bool {
    failed.call == "io_setup" && failed.error.raw_os_error() == Some(libc::EAGAIN)
}

fn explain(failed: FailedCall, asked: u32) -> SetupError {
    if is_out_of_quota(&failed) {
        return SetupError::QuotaExhausted {
            asked,
            in_use: sysctl("aio-nr"),
            max: sysctl("aio-max-nr"),
        };
    }
    let FailedCall { call, error } = failed;
    match (call, error.raw_os_error()) {
        ("io_setup", Some(libc::ENOMEM)) => SetupError::NoMemory,
        // No memfd is not the end of AIO: a descriptor of something else failed as well.
        ("memfd_create", _) => SetupError::Other { call, error },
        (_, Some(errno @ (libc::ENOSYS | libc::EOPNOTSUPP))) => {
            SetupError::Unsupported { call, errno }
        }
        (_, Some(errno @ (libc::EPERM | libc::EACCES))) => SetupError::Refused { call, errno },
        _ => SetupError::Other { call, error },
    }
}

fn sysctl(name: &str) -> Option<u64> {
    std::fs::read_to_string(format!("/proc/sys/fs/{name}"))
        .ok()?
        .trim()
        .parse()
        .ok()
}
