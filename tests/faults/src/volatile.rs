//! A file system on a disk that forgets: what was not synced is lost, torn or reordered when the power is cut.
//!
//! It is a real one, served over FUSE, in the memory of the test process. Its files are opened with
//! `FOPEN_DIRECT_IO`, as those of [`SlowFs`](crate::SlowFs).
//!
//! | what | after a power cut |
//! | --- | --- |
//! | a write that was complete before a sync of its file was asked for, and that sync is complete | there |
//! | a write with O_DSYNC or RWF_DSYNC that is complete, and the length that it needs | there |
//! | any other write, also one in flight | of each sector of 512 bytes, by itself, what was or what was written |
//! | lengths, reserved space | those of some moment since the file's last sync |
//! | names | those of some moment since the directory's last sync |
//!
//! Writes and syncs are completed in an order of the disk's own, and a sync covers no write that was in flight when
//! it was asked for.

mod disk;
mod file;
mod luck;
mod queue;
mod server;
mod sparse;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::fuse::Connection;
use crate::random::Random;
use disk::Disk;
use queue::Shared;

/// 1 is the directory.
const FIRST_INODE: u64 = 2;

/// The file system and its server.
#[derive(Debug)]
pub struct VolatileFs {
    shared: Arc<Shared>,
    random: Random,
    connection: Option<Connection>,
    completing: Option<JoinHandle<()>>,
}

impl VolatileFs {
    /// An empty one. The seed decides what is lost, and in which order requests are completed.
    ///
    /// # Errors
    /// No FUSE in the kernel, no right to mount.
    pub fn new(seed: u64) -> io::Result<VolatileFs> {
        let mut random = Random(seed);
        let shared = Arc::new(Shared::new(Disk::new(FIRST_INODE), random.next()));
        let connection = Connection::new(server::Server(Arc::clone(&shared)))?;
        let queue = Arc::clone(&shared);
        let completing = std::thread::Builder::new().name("volatile".into());
        Ok(VolatileFs {
            shared,
            random,
            connection: Some(connection),
            completing: Some(completing.spawn(move || queue.complete_all())?),
        })
    }

    /// The path of its root directory, good in this process and its children while `self` lives.
    ///
    /// # Panics
    /// Does not.
    pub fn path(&self) -> PathBuf {
        let connection = self.connection.as_ref();
        connection.expect("it lives until the drop").path()
    }

    /// Cuts the power: the disk becomes what the cut left of it, and each request fails with EIO, those in flight
    /// too, until [`restore`](VolatileFs::restore).
    pub fn cut(&mut self) {
        self.shared.cut(&mut self.random);
    }

    /// The power is back.
    pub fn restore(&self) {
        self.shared.lock().has_power = true;
    }
}

impl Drop for VolatileFs {
    fn drop(&mut self) {
        self.shared.end();
        if let Some(thread) = self.completing.take() {
            let _ = thread.join();
        }
        self.connection.take(); // requests that wait fail by the abort
    }
}
