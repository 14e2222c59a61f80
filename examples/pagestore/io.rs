//! The seam between the engine and its drivers: what the engine wants done to the files, and what came of it.
//!
//! The engine does no I/O and knows no thread. A driver takes each [`Io`] from it, has it carried out in its own
//! way, and hands back the [`Done`] of the same name.

use crate::page::PageId;
use kiocb::AlignedBuf;
use kiocb::buf::PoolBuf;
use std::io;
use std::sync::Arc;

pub(crate) enum Io {
    /// Fill the buffer with the page.
    Read(PageId, PoolBuf),
    /// Write all of the page; it need not be durable.
    Page(PageId, Arc<PoolBuf>),
    /// Write all of this at that offset of the log, and make it durable.
    Log(u64, AlignedBuf),
    /// Make durable what was written to the data file.
    Sync,
    /// Reserve the first so many bytes of the data file.
    Reserve(u64),
}

pub(crate) enum Done {
    Read(PageId, io::Result<PoolBuf>),
    Page(PageId, io::Result<Arc<PoolBuf>>),
    Log(io::Result<AlignedBuf>),
    Sync(io::Result<()>),
    Reserve(io::Result<()>),
}
