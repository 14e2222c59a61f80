//! File systems of our own: a tmpfs, or ext4, XFS or btrfs in an unnamed image behind a loop device.
//!
//! None is attached to the machine's tree (see `fsapi`): a path into one leads through `/proc/PID/fd`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::freeze::Frozen;
use crate::fsapi::Configuring;
use crate::loopdev::LoopDevice;

/// A private file system; gone when this and the last file open in it are dropped.
#[derive(Debug)]
pub struct Mount {
    root: OwnedFd,
    // After `root`: the device is busy while it is mounted.
    device: Option<LoopDevice>,
}

impl Mount {
    /// A tmpfs of at most `bytes`, rounded up to whole pages.
    ///
    /// # Errors
    /// No right to mount, or Linux before 5.2.
    pub fn tmpfs(bytes: u64) -> io::Result<Mount> {
        let fs = Configuring::open("tmpfs")?;
        fs.set("size", &bytes.to_string())?;
        Ok(Mount {
            root: fs.mount()?,
            device: None,
        })
    }

    /// An ext4 of `bytes` (some 10 MiB and more).
    ///
    /// # Errors
    /// No right to mount or make a loop device, no `mkfs.ext4`, no such file system in the kernel.
    pub fn ext4(bytes: u64) -> io::Result<Mount> {
        Mount::image("ext4", &["-q", "-F"], bytes)
    }

    /// An XFS of `bytes` (300 MiB and more; the image is sparse).
    ///
    /// # Errors
    /// As [`Mount::ext4`].
    pub fn xfs(bytes: u64) -> io::Result<Mount> {
        Mount::image("xfs", &["-q", "-f"], bytes)
    }

    /// A btrfs of `bytes` (some 110 MiB and more; the image is sparse).
    ///
    /// # Errors
    /// As [`Mount::ext4`].
    pub fn btrfs(bytes: u64) -> io::Result<Mount> {
        Mount::image("btrfs", &["-q", "-f"], bytes)
    }

    /// Mounts what is on a loop device already.
    ///
    /// # Errors
    /// Those of fsconfig(2) and fsmount(2).
    pub fn device(kind: &str, device: LoopDevice) -> io::Result<Mount> {
        let fs = Configuring::open(kind)?;
        fs.set("source", &device.path().to_string_lossy())?;
        Ok(Mount {
            root: fs.mount()?,
            device: Some(device),
        })
    }

    fn image(kind: &str, options: &[&str], bytes: u64) -> io::Result<Mount> {
        let image = tempfile::tempfile()?;
        image.set_len(bytes)?;
        let device = LoopDevice::new(&image)?;
        make(kind, options, device.path())?;
        Mount::device(kind, device)
    }

    /// The path of its root directory, good in this process and its children while `self` lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.root.as_raw_fd()
        ))
    }

    /// The loop device below, if there is one.
    pub fn loop_device(&self) -> Option<&LoopDevice> {
        self.device.as_ref()
    }

    /// Opens `name` for reading and writing, made if need be, with further open(2) flags.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(&self, name: &str, flags: i32) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(flags);
        options.open(self.path().join(name))
    }

    /// A file of `bytes` whose blocks are all written, so that O_DIRECT writes into it need no allocation.
    ///
    /// # Errors
    /// Those of open(2), write(2) and fsync(2).
    pub fn file(&self, name: &str, bytes: usize, flags: i32) -> io::Result<File> {
        let mut plain = self.open(name, 0)?;
        plain.write_all(&vec![0; bytes])?;
        plain.sync_all()?;
        self.open(name, flags)
    }

    /// Takes all free space with one file, removed again when that is dropped (it has no name).
    ///
    /// # Errors
    /// Anything but ENOSPC.
    pub fn fill(&self) -> io::Result<File> {
        let mut filler = self.open("filler", 0)?;
        std::fs::remove_file(self.path().join("filler"))?;
        for block in [64 << 10, 4 << 10, 1] {
            fill_with(&mut filler, &vec![1; block])?;
        }
        Ok(filler)
    }

    /// Freezes it: until the thaw every write blocks, in `io_submit` too; reads pass. tmpfs cannot
    /// (EOPNOTSUPP).
    ///
    /// # Errors
    /// Those of FIFREEZE, ioctl_fs(2).
    pub fn freeze(&self) -> io::Result<Frozen> {
        Frozen::new(
            OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_DIRECTORY)
                .open(self.path())?,
        )
    }
}

fn fill_with(file: &mut File, block: &[u8]) -> io::Result<()> {
    loop {
        match file.write_all(block).and_then(|()| file.sync_data()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Runs `mkfs.KIND`.
fn make(kind: &str, options: &[&str], device: &Path) -> io::Result<()> {
    let program = format!("mkfs.{kind}");
    let run = Command::new(&program).args(options).arg(device).output();
    let output =
        run.map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    )))
}
