//! A file system whose every read, write and sync the test decides about.
//!
//! It is a real one, served over FUSE by a thread of the test process. Its files are opened with
//! `FOPEN_DIRECT_IO` and the connection has `FUSE_ASYNC_DIO`, so kernel AIO on an `O_DIRECT` descriptor is
//! truly asynchronous: `io_submit` returns as soon as the request is sent, and the request is in flight until
//! the test lets the server answer. Two exceptions are the kernel's: a write that extends the file, and fsync
//! of one file at a time (`inode_lock`).

mod gate;
mod rules;
mod server;
mod state;

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

pub use gate::Gate;
pub use rules::When;
pub use state::{Op, Seen};

use crate::fuse::Connection;
use state::Shared;

/// The file system and its server. Dropping it ends the connection: what is still held fails with
/// ECONNABORTED, what comes later with ENOTCONN.
#[derive(Debug)]
pub struct SlowFs {
    shared: Arc<Shared>,
    connection: Connection,
}

impl SlowFs {
    /// An empty one.
    ///
    /// # Errors
    /// No FUSE in the kernel, no right to mount.
    pub fn new() -> io::Result<SlowFs> {
        let shared = Arc::new(Shared::default());
        let connection = Connection::new(server::Server(Arc::clone(&shared)))?;
        Ok(SlowFs { shared, connection })
    }

    /// Adds a file with these contents and opens it with `O_DIRECT`, for reading and writing.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn file(&self, name: &str, contents: Vec<u8>) -> File {
        self.shared.add(name, contents);
        self.open(name, libc::O_DIRECT)
            .expect("opening a file of ours")
    }

    /// Opens a file for reading and writing with further open(2) flags. AIO on it is asynchronous without
    /// `O_DIRECT` too on the kernels we know (6.18), because of `FOPEN_DIRECT_IO`.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(&self, name: &str, flags: i32) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(self.path().join(name))
    }

    /// The path of its root directory, good in this process and its children while `self` lives.
    pub fn path(&self) -> PathBuf {
        self.connection.path()
    }

    /// Begins a rule for requests of one kind: `fs.on(Op::Read).at(0..4096).fail(libc::EIO)`. Of all rules
    /// that fit a request, the one made last decides.
    pub fn on(&self, op: Op) -> When<'_> {
        When::new(&self.shared, Some(op))
    }

    /// Begins a rule for reads, writes and syncs.
    pub fn on_any(&self) -> When<'_> {
        When::new(&self.shared, None)
    }

    /// Holds the reads in a range of offsets until the test lets them go.
    pub fn hold_reads(&self, range: Range<u64>) -> Gate {
        self.on(Op::Read).at(range).hold()
    }

    /// Holds the writes in a range of offsets until the test lets them go.
    pub fn hold_writes(&self, range: Range<u64>) -> Gate {
        self.on(Op::Write).at(range).hold()
    }

    /// Forgets all rules but those of gates that still hold something or still exist.
    pub fn forget_rules(&self) {
        self.shared.lock().forget_rules();
    }

    /// All requests seen so far, in the order in which the kernel sent them.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// Forgets the requests seen so far: they take memory.
    pub fn forget_seen(&self) {
        self.shared.lock().seen.clear();
    }

    /// The offsets of the requests of one kind, in the order in which the kernel sent them.
    pub fn offsets(&self, op: Op) -> Vec<u64> {
        self.shared
            .lock()
            .seen
            .iter()
            .filter(|seen| seen.op == op)
            .map(|seen| seen.offset)
            .collect()
    }

    /// Waits until so many requests have been seen.
    ///
    /// # Panics
    /// When they do not come within the lab's patience.
    pub fn wait_for_seen(&self, count: usize) {
        self.shared
            .wait(&format!("{count} requests to come"), |state| {
                state.seen.len() >= count
            });
    }

    /// What is in a file now.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn contents(&self, name: &str) -> Vec<u8> {
        self.shared.lock().contents(name)
    }

    /// Ends the connection as if the server had died: requests in flight fail with ECONNABORTED, later ones
    /// with ENOTCONN. (fusectl's `abort`.)
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn abort(&self) {
        self.connection.abort();
    }
}
