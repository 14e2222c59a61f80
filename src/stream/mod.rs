//! Files as streams of bytes, past the page cache: a reader that reads ahead, and a writer that writes behind.
//!
//! A [`StreamReader`] keeps a few blocks of its file in flight before the program asks for them. A
//! [`StreamWriter`] returns when it has copied the bytes, and writes whole blocks while the program makes the
//! next ones. Both are over a [`DirectFile`](crate::DirectFile), and take any length at any position: what
//! direct I/O wants of offsets, lengths and addresses is theirs to do.
//!
//! ```
//! use kiocb::stream::{StreamOptions, StreamReader};
//! use kiocb::{Aio, DirectFile};
//! use std::io::{BufRead, Write};
//!
//! # fn main() -> std::io::Result<()> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("lines");
//! let aio = Aio::global()?;
//! let file = DirectFile::options().read(true).write(true).create(true).open_or_buffered(&path)?;
//! let mut writer = StreamOptions::new().depth(4).writer(&aio, file)?;
//! for line in 0..1000 {
//!     writeln!(writer, "line {line}")?;
//! }
//! let file = writer.finish()?; // all is written, the file ends here, and it is on the disk
//!
//! let reader = StreamReader::new(&aio, file)?;
//! assert_eq!(reader.lines().last().unwrap()?, "line 999");
//! # Ok(())
//! # }
//! ```
//!
//! # Blocking and async
//!
//! The same stream serves both. [`std::io::Read`], [`BufRead`](std::io::BufRead) and [`Write`](std::io::Write)
//! block: the calling thread takes its events itself, inside a callback too. The methods whose names end in
//! `_async` need no runtime, and dropping their futures loses nothing. With the feature `futures-io` the
//! streams are `AsyncRead`, `AsyncBufRead` and `AsyncWrite` of that crate, with the feature `tokio` those of
//! that one; there `close` and `shutdown` are [`finish`](StreamWriter::finish). Under
//! [`Dispatch::Manual`](crate::Dispatch::Manual) a task goes on when some thread polls the context.
//!
//! Async or not, these calls block the thread that makes them: submitting, where the file goes through the
//! page cache or has no space reserved ([`submit`](crate::Iocb::submit)); reserving space, every
//! [`preallocate`](StreamOptions::preallocate) bytes; and setting the length, once, in
//! [`finish`](StreamWriter::finish). A runtime that can't have that gives the stream to a thread for blocking
//! work.
//!
//! # File systems without direct I/O
//!
//! A file from [`open_or_buffered`](crate::direct::DirectOptions::open_or_buffered) that is not direct is read
//! and written all the same, inside the submission. Then nothing is ahead or behind: std's `BufReader` and
//! `BufWriter` do as well.
//!
//! # Fork
//!
//! In a forked child every call returns [`AioError::Forked`](crate::AioError::Forked), and no drop does
//! anything: the stream is the parent's.

mod asynchronous;
mod block;
mod blocking;
mod error;
#[cfg(feature = "futures-io")]
mod futures_io;
mod head;
mod how;
mod lane;
mod options;
mod reader;
mod room;
mod syncs;
mod tail;
#[cfg(feature = "tokio")]
mod tokio;
mod writer;

pub use error::StreamError;
pub use options::StreamOptions;
pub use reader::StreamReader;
pub use writer::StreamWriter;
