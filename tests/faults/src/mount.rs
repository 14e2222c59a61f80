//! File systems of our own: a tmpfs or ramfs; ext4, XFS, btrfs or squashfs in an unnamed image behind a loop
//! device; an overlay of two of them.
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

    /// A ramfs: files in memory, and no direct I/O.
    ///
    /// # Errors
    /// No right to mount, or Linux before 5.2.
    pub fn ramfs() -> io::Result<Mount> {
        let root = Configuring::open("ramfs")?.mount()?;
        Ok(Mount { root, device: None })
    }

    /// A squashfs, which has no direct I/O, with one file of these bytes.
    ///
    /// # Errors
    /// As [`Mount::ext4`], and no `mksquashfs`.
    pub fn squashfs(name: &str, bytes: &[u8]) -> io::Result<Mount> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("tree"))?;
        std::fs::write(dir.path().join("tree").join(name), bytes)?;
        let image = dir.path().join("image");
        let mut program = Command::new("mksquashfs");
        run(program
            .arg(dir.path().join("tree"))
            .arg(&image)
            .args(["-quiet", "-no-progress"]))?;
        let image = OpenOptions::new().read(true).write(true).open(image)?;
        Mount::device("squashfs", LoopDevice::new(&image)?)
    }

    /// An overlay: `lower` below, and above it the directories `upper` and `work` of another file system,
    /// which are made.
    ///
    /// # Errors
    /// No right to mount, no overlayfs, a kernel that takes only directories of its own tree (before 6.15).
    pub fn overlay(lower: &Mount, above: &Mount) -> io::Result<Mount> {
        let place = |name: &str| {
            let path = above.path().join(name);
            std::fs::create_dir(&path)?;
            Ok::<_, io::Error>(path.to_string_lossy().into_owned())
        };
        let fs = Configuring::open("overlay")?;
        fs.set("lowerdir", &lower.path().to_string_lossy())?;
        fs.set("upperdir", &place("upper")?)?;
        fs.set("workdir", &place("work")?)?;
        let root = fs.mount()?;
        Ok(Mount { root, device: None })
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
        Mount::made_on(kind, options, LoopDevice::new(&image)?)
    }

    /// An ext4 on a loop device with logical blocks of so many bytes.
    ///
    /// # Errors
    /// As [`Mount::ext4`].
    pub fn ext4_of_blocks(bytes: u64, block_size: u32) -> io::Result<Mount> {
        let image = tempfile::tempfile()?;
        image.set_len(bytes)?;
        Mount::ext4_on(LoopDevice::with_block_size(&image, block_size)?)
    }

    /// An ext4 made on a loop device, such as one over a file of a [`SlowFs`](crate::SlowFs).
    ///
    /// # Errors
    /// As [`Mount::ext4`].
    pub fn ext4_on(device: LoopDevice) -> io::Result<Mount> {
        Mount::made_on("ext4", &["-q", "-F"], device)
    }

    fn made_on(kind: &str, options: &[&str], device: LoopDevice) -> io::Result<Mount> {
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
    run(Command::new(format!("mkfs.{kind}"))
        .args(options)
        .arg(device))
}

/// Runs a program to its end.
fn run(program: &mut Command) -> io::Result<()> {
    let name = program.get_program().to_string_lossy().into_owned();
    let output = program
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    )))
}
