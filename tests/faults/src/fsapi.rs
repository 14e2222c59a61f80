//! Mounting without a mount point: fsopen(2), fsconfig(2), fsmount(2), Linux 5.2.
//!
//! The mount exists as a descriptor and nowhere else. No path of the machine changes, nobody else can walk
//! into it, and it goes when the last descriptor into it closes, also when the process is killed.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

// enum fsconfig_command in linux/mount.h.
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const CLOEXEC: libc::c_uint = 1;

/// A file system being configured.
#[derive(Debug)]
pub(crate) struct Configuring {
    context: OwnedFd,
    kind: CString,
}

impl Configuring {
    /// fsopen(2).
    pub(crate) fn open(kind: &str) -> io::Result<Configuring> {
        let kind = CString::new(kind)?;
        // SAFETY: a C string that lives across the call.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), CLOEXEC) };
        let context = owned(fd).map_err(|error| named("fsopen", &kind, error))?;
        Ok(Configuring { context, kind })
    }

    /// Sets `key=value`.
    pub(crate) fn set(&self, key: &str, value: &str) -> io::Result<()> {
        let (key, value) = (CString::new(key)?, CString::new(value)?);
        self.configure(FSCONFIG_SET_STRING, Some(&key), Some(&value))
    }

    /// Sets an option without value.
    pub(crate) fn flag(&self, key: &str) -> io::Result<()> {
        self.configure(FSCONFIG_SET_FLAG, Some(&CString::new(key)?), None)
    }

    /// Makes the file system and a mount of it that is attached nowhere. The descriptor is an `O_PATH` one
    /// of its root directory.
    pub(crate) fn mount(&self) -> io::Result<OwnedFd> {
        self.configure(FSCONFIG_CMD_CREATE, None, None)?;
        // SAFETY: integers only.
        let fd = unsafe { libc::syscall(libc::SYS_fsmount, self.context.as_raw_fd(), CLOEXEC, 0) };
        owned(fd).map_err(|error| named("fsmount", &self.kind, error))
    }

    fn configure(
        &self,
        command: libc::c_uint,
        key: Option<&CStr>,
        value: Option<&CStr>,
    ) -> io::Result<()> {
        let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
        let context = self.context.as_raw_fd();
        // SAFETY: each pointer is null or a C string that lives across the call.
        let done = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                context,
                command,
                pointer(key),
                pointer(value),
                0,
            )
        };
        if done == 0 {
            return Ok(());
        }
        Err(named("fsconfig", &self.kind, io::Error::last_os_error()))
    }
}

/// A descriptor that a system call has just returned.
fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us, so nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn named(call: &str, kind: &CStr, error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("{call} ({}): {error}", kind.to_string_lossy()),
    )
}
