//! Loop devices: a block device over a file, so that a fault of the file becomes a fault of a disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

// linux/loop.h.
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_info64`; only the flags are ours to set.
#[repr(C)]
struct LoopInfo {
    numbers: [u64; 5],
    number: u32,
    encrypt: [u32; 2],
    flags: u32,
    names: [u8; 160],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304);

/// A loop device of our own. The kernel detaches it when the last descriptor of it closes, so it cannot
/// outlive the process.
#[derive(Debug)]
pub struct LoopDevice {
    device: File,
    path: PathBuf,
}

impl LoopDevice {
    /// A loop device over `backing` that reads and writes it with `O_DIRECT` where the file can: an I/O on
    /// the device is then in flight as long as the file's is. `backing` must be open for writing.
    ///
    /// # Errors
    /// No right to make one, no device node, or what LOOP_CONFIGURE says of the file.
    pub fn new(backing: impl AsFd) -> io::Result<LoopDevice> {
        LoopDevice::with_block_size(backing, 0)
    }

    /// The same with logical blocks of so many bytes: offsets and lengths of direct I/O are multiples of it,
    /// while memory need be aligned to 512 bytes only. 0: as the file wants it.
    ///
    /// # Errors
    /// As [`LoopDevice::new`].
    pub fn with_block_size(backing: impl AsFd, block_size: u32) -> io::Result<LoopDevice> {
        let backing = backing.as_fd().as_raw_fd();
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/loop-control")?;
        loop {
            // SAFETY: LOOP_CTL_GET_FREE takes no argument.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            if number < 0 {
                return Err(io::Error::last_os_error());
            }
            match attach(number, backing, block_size) {
                // Somebody else was faster.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                done => return done,
            }
        }
    }

    /// `/dev/loopN`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the device for reading and writing with further open(2) flags, such as `O_DIRECT`.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(&self, flags: i32) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(&self.path)
    }

    /// The block device's size in bytes.
    ///
    /// # Errors
    /// Those of lseek(2).
    pub fn size(&self) -> io::Result<u64> {
        use std::io::{Seek as _, SeekFrom};
        (&self.device).seek(SeekFrom::End(0))
    }
}

fn attach(number: i32, backing: i32, block_size: u32) -> io::Result<LoopDevice> {
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let device = OpenOptions::new().read(true).write(true).open(&path)?;
    let flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
    let info = LoopInfo {
        numbers: [0; 5],
        number: 0,
        encrypt: [0; 2],
        flags,
        names: [0; 160],
        init: [0; 2],
    };
    let config = LoopConfig {
        fd: backing.cast_unsigned(),
        block_size,
        info,
        reserved: [0; 8],
    };
    // SAFETY: the argument is a `struct loop_config` that lives across the call.
    if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(LoopDevice { device, path })
}
