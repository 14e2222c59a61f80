//! A FUSE connection: a file system served by a thread of this process, mounted nowhere.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use fuser::{
    BackgroundSession, Config, FileAttr, FileType, Filesystem, INodeNo, InitFlags, KernelConfig,
    Session, SessionACL,
};

use crate::fsapi::Configuring;
use crate::guardian::{Guardian, LastAct};

/// A mounted file system and its server. Dropping it ends the connection: what is unanswered fails with
/// ECONNABORTED, what comes later with ENOTCONN.
#[derive(Debug)]
pub(crate) struct Connection {
    root: OwnedFd,
    abort: File,
    session: Option<BackgroundSession>,
    _guardian: Guardian,
}

impl Connection {
    pub(crate) fn new(server: impl Filesystem) -> io::Result<Connection> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")?;
        let root = mount(&device)?;
        let session =
            Session::from_fd(server, device.into(), SessionACL::All, Config::default())?.spawn()?;
        let abort = abort_file(&root)?;
        let guardian = Guardian::over(abort.as_fd(), LastAct::AbortFuse)?;
        Ok(Connection {
            root,
            abort,
            session: Some(session),
            _guardian: guardian,
        })
    }

    /// The path of its root directory, good in this process and its children while `self` lives.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.root.as_raw_fd()
        ))
    }

    /// Ends the connection as if the server had died. (fusectl's `abort`.)
    pub(crate) fn abort(&self) {
        use std::io::Write as _;
        (&self.abort).write_all(b"1").expect("fusectl abort");
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.abort();
        if let Some(session) = self.session.take() {
            // Ends by itself: its device says ENODEV.
            let _ = session.join();
        }
    }
}

/// Mounts the file system that is served through `device`.
fn mount(device: &File) -> io::Result<OwnedFd> {
    let fs = Configuring::open("fuse")?;
    fs.set("source", "kiocb-faults")?;
    fs.set("fd", &device.as_raw_fd().to_string())?;
    fs.set("rootmode", "40000")?;
    fs.set("user_id", "0")?;
    fs.set("group_id", "0")?;
    fs.flag("allow_other")?;
    fs.mount()
}

/// The connection's `abort` file. A connection is named after its file system's minor device number.
fn abort_file(root: &OwnedFd) -> io::Result<File> {
    let device = std::fs::metadata(format!("/proc/self/fd/{}", root.as_raw_fd()))?.dev();
    let control = Configuring::open("fusectl")?.mount()?;
    let path = format!(
        "/proc/self/fd/{}/{}/abort",
        control.as_raw_fd(),
        nix::libc::minor(device)
    );
    OpenOptions::new().write(true).open(path)
}

/// Lets the kernel send asynchronous direct I/O, and as much of it as there is.
pub(crate) fn allow_asynchronous(config: &mut KernelConfig) -> io::Result<()> {
    let asynchronous = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
    asynchronous
        .map_err(|_| io::Error::other("this kernel's FUSE has no asynchronous direct I/O"))?;
    // Asynchronous requests count as background ones, of which the default lets 12 out to the server.
    let _ = config.set_max_background(u16::MAX);
    let _ = config.set_congestion_threshold(u16::MAX);
    Ok(())
}

pub(crate) fn attributes(ino: INodeNo, kind: FileType, perm: u16, size: u64) -> FileAttr {
    FileAttr {
        ino,
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}
