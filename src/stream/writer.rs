//! A file as a stream of bytes to be written.

use super::error::{Doing, StreamError};
use super::head;
use super::how::{How, ready as done};
use super::lane::Lane;
use super::options::{Plan, StreamOptions};
use super::room::Room;
use super::syncs::Syncs;
use super::tail::Tail;
use crate::aio::Aio;
use crate::direct::DirectFile;
use crate::error::AioError;
use crate::op::Write;
use crate::sync_scheduler::SyncKind;
use crate::user_code;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Poll, ready};

/// Writes a file from one place on, a few blocks behind the program.
///
/// It is a [`std::io::Write`], which blocks, and has async methods; see the [module](crate::stream) for what
/// blocks there.
///
/// # What is where
/// - **`write` has returned**: the bytes are copied. A block is submitted when it is full; the call waits only
///   where all blocks are in flight, or where a `flush` has left a part of this one in flight.
/// - **`flush` has returned**: all bytes are in the file, for any reader. With direct I/O the last block of
///   the file is filled up with zeroes for that, and written again with what follows. A crash of the machine
///   may lose them.
/// - **[`sync`](Self::sync) has returned**: they are on stable storage (`fdatasync(2)`).
/// - **[`finish`](Self::finish) has returned**: so they are, and the file ends where the stream does. A new
///   file's *name* needs a sync of its directory.
///
/// Until `finish` the file may be longer than what was written: by the rest of its last block, and by the
/// space that was [reserved](StreamOptions::preallocate). What is too long reads as zeroes. `finish` cuts the
/// file off also where it was longer before. A block device has the length it has: there the rest of the last
/// block is overwritten with zeroes.
///
/// # Errors stay
/// A write or sync that fails may be reported by a later call than the one that passed the bytes, and what
/// followed may have been written. So the first error stays, by its place in the file: every later write,
/// flush, sync and finish returns it, with the kind of its cause and a [`StreamError`] inside, which has the position. The stream
/// does not recover. What to trust is what a `sync` before has confirmed. Causes are:
///
/// - those of [`Completion::result`](crate::Completion::result): ENOSPC, EDQUOT, EIO, and EFBIG, with which
///   comes a signal;
/// - what [`submit`](crate::Iocb::submit) refuses: EBADF where the file is not open for writing, and an
///   [`AioError`](crate::AioError) after a shutdown;
/// - those of [`init_fdsync`](crate::Iocb::init_fdsync), and of `ftruncate(2)`.
///
/// [`OutOfMemory`](io::ErrorKind::OutOfMemory), where there is none for another block, does not stay. In a
/// forked child every call returns [`AioError::Forked`](crate::AioError::Forked). After `finish` (by
/// `poll_close` or `poll_shutdown` of the adapters) a write is [`InvalidInput`](io::ErrorKind::InvalidInput).
///
/// # Dropping without finish
/// does not block, unless it drops the last [`Aio`]. What is in flight completes in the background, and what
/// goes wrong with it is not reported. Bytes that fill no block are not written, nor is in async code a full
/// block that still waits for an earlier flush; the length is not set, and nothing is synced. A warning is logged, unless an error was returned before or nothing was written.
#[must_use = "nothing says that all is written before `finish` does"]
pub struct StreamWriter {
    lane: Lane<Write>,
    tail: Tail,
    room: Room,
    syncs: Syncs,
    /// A block that was not taken. It is the failure, unless one before it fails that is in flight.
    refused: Option<StreamError>,
    failure: Option<StreamError>,
    /// `failure` was returned.
    is_told: bool,
    has_length: bool,
    /// The length that was set. The stream is there as long as nothing more is written.
    cut_at: Option<u64>,
    is_finished: bool,
}

impl StreamWriter {
    /// Writes `file` (which may be an `Arc<DirectFile>`) from its beginning, with the defaults of
    /// [`StreamOptions`].
    ///
    /// # Errors
    /// As [`StreamOptions::writer`].
    pub fn new(aio: &Aio, file: impl Into<Arc<DirectFile>>) -> io::Result<StreamWriter> {
        StreamOptions::new().writer(aio, file)
    }

    pub(super) fn with(aio: &Aio, plan: Plan, file: Arc<DirectFile>) -> io::Result<StreamWriter> {
        refuse_appending(&file)?;
        let has_length = file.file().metadata()?.is_file();
        let step = if has_length { plan.preallocate } else { 0 };
        let room = Room::new(step, file.len()?);
        let head = head::read(aio, &plan, &file)?;
        Ok(StreamWriter {
            lane: Lane::new(aio, file, plan, Write)?,
            tail: Tail::new(&plan, head),
            room,
            syncs: Syncs::default(),
            refused: None,
            failure: None,
            is_told: false,
            has_length,
            cut_at: None,
            is_finished: false,
        })
    }

    /// Where in the file the next byte goes.
    pub fn position(&self) -> u64 {
        self.tail.position()
    }

    /// The file.
    pub fn file(&self) -> &Arc<DirectFile> {
        &self.lane.file
    }

    /// Flushes, and makes what was written durable (`fdatasync(2)`). Blocks. Where nothing was written since
    /// the last one, it does nothing.
    ///
    /// # Errors
    /// See [the type](Self#errors-stay).
    pub fn sync(&mut self) -> io::Result<()> {
        done(self.sync_all(SyncKind::Data, &mut How::Block))
    }

    /// Goes on `bytes` later: a hole, where the file had none of it, which reads as zeroes. The blocks in
    /// which it begins and ends are written as a whole, zeroes included. Blocks as `write` does.
    ///
    /// # Errors
    /// See [the type](Self#errors-stay). [`InvalidInput`](io::ErrorKind::InvalidInput) if that is beyond any
    /// file; it does not stay.
    pub fn skip(&mut self, bytes: u64) -> io::Result<()> {
        done(self.skip_by(bytes, &mut How::Block))
    }

    /// Writes what is left, sets the file's length to where the stream has come, syncs it (`fsync(2)`), and
    /// gives it back. Blocks.
    ///
    /// # Errors
    /// See [the type](Self#errors-stay). The file is as far written as the error's position says, and may be
    /// too long.
    pub fn finish(mut self) -> io::Result<Arc<DirectFile>> {
        done(self.finish_all(&mut How::Block))?;
        Ok(Arc::clone(self.file()))
    }

    /// Takes bytes, as many as fit into a block.
    pub(super) fn push(&mut self, bytes: &[u8], how: &mut How<'_, '_>) -> Poll<io::Result<usize>> {
        ready!(self.check_open(how))?;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.tail.is_full(&self.lane.plan) {
            ready!(self.send(how))?;
        }
        ready!(self.get_block(how))?;
        let count = self.tail.push(bytes);
        if self.tail.is_full(&self.lane.plan) {
            // What fails stays, and the next call returns it; what has to wait is sent by that one.
            let _ = self.send(how);
            self.is_told = false;
        }
        Poll::Ready(Ok(count))
    }

    pub(super) fn flush_all(&mut self, how: &mut How<'_, '_>) -> Poll<io::Result<()>> {
        ready!(self.check(how))?;
        if self.tail.is_dirty() {
            ready!(self.send(how))?;
        }
        self.drain(how)
    }

    pub(super) fn sync_all(
        &mut self,
        kind: SyncKind,
        how: &mut How<'_, '_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.flush_all(how))?;
        let (aio, file) = (&self.lane.aio, &self.lane.file);
        let synced = ready!(self.syncs.all(aio, file, kind, how));
        Poll::Ready(synced.map_err(|cause| self.keep(Doing::Sync, self.position(), 0, cause)))
    }

    pub(super) fn skip_by(&mut self, bytes: u64, how: &mut How<'_, '_>) -> Poll<io::Result<()>> {
        ready!(self.check_open(how))?;
        let to = self.position().checked_add(bytes);
        let Some(to) = to.filter(|&to| i64::try_from(to).is_ok()) else {
            let text = "a stream can't skip to a place beyond any file";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidInput, text)));
        };
        if self.tail.is_dirty() {
            ready!(self.send(how))?;
        }
        self.tail.skip_to(to, &self.lane.plan);
        Poll::Ready(Ok(()))
    }

    pub(super) fn finish_all(&mut self, how: &mut How<'_, '_>) -> Poll<io::Result<()>> {
        ready!(self.check(how))?;
        if !self.is_finished {
            self.room.stop();
            ready!(self.flush_all(how))?;
            self.cut()?;
            ready!(self.sync_all(SyncKind::All, how))?;
            self.is_finished = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Sets the length.
    fn cut(&mut self) -> io::Result<()> {
        let end = self.position();
        if !self.has_length || self.cut_at == Some(end) {
            return Ok(());
        }
        if let Err(cause) = self.file().file().set_len(end) {
            return Err(self.keep(Doing::SetLength, end, 0, cause));
        }
        self.cut_at = Some(end);
        self.syncs.changed();
        Ok(())
    }

    /// A block for the tail.
    fn get_block(&mut self, how: &mut How<'_, '_>) -> Poll<io::Result<()>> {
        while !self.tail.has_block() {
            match self.lane.take() {
                Ok(Some(block)) => self.tail.put_into(block),
                Err(none) if self.lane.is_empty() => return Poll::Ready(Err(none)),
                Ok(None) | Err(_) => ready!(self.reap(how))?,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Submits what the tail has.
    fn send(&mut self, how: &mut How<'_, '_>) -> Poll<io::Result<()>> {
        // What is in flight of the tail's first block may be written again only when that is over.
        if self.lane.reaches() > self.tail.start() {
            ready!(self.drain(how))?;
        }
        let Some((block, start, len)) = self.tail.take(&self.lane.plan) else {
            return Poll::Ready(Ok(()));
        };
        self.room
            .reserve(&self.lane.file, start, start + len as u64);
        self.syncs.changed();
        if let Err(cause) = self.lane.submit(block, start, len) {
            self.refused = Some(StreamError::new(Doing::Write, start, len, cause));
        }
        self.settle(how)
    }

    /// If a block was refused, waits for those before it, and keeps the first error.
    fn settle(&mut self, how: &mut How<'_, '_>) -> Poll<io::Result<()>> {
        let Some(refused) = &self.refused else {
            return Poll::Ready(Ok(()));
        };
        // Of a context that was lost nothing in flight comes back.
        if refused.aio_error() != Some(AioError::ContextGone) {
            ready!(self.drain(how))?;
        }
        let refused = self.refused.take();
        Poll::Ready(refused.map_or(Ok(()), |error| Err(self.keep_error(error))))
    }

    /// Waits until nothing is in flight.
    fn drain(&mut self, how: &mut How<'_, '_>) -> Poll<io::Result<()>> {
        while !self.lane.is_empty() {
            ready!(self.reap(how))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the oldest block.
    fn reap(&mut self, how: &mut How<'_, '_>) -> Poll<io::Result<()>> {
        let Some(landed) = ready!(self.lane.oldest(how)) else {
            return Poll::Ready(Ok(()));
        };
        self.lane.give_back(landed.block);
        let (offset, len) = (landed.offset, landed.len);
        let result = landed.result.map(drop);
        Poll::Ready(result.map_err(|cause| self.keep(Doing::Write, offset, len, cause)))
    }

    fn check_open(&mut self, how: &mut How<'_, '_>) -> Poll<io::Result<()>> {
        ready!(self.check(how))?;
        if self.is_finished {
            let text = "the stream is finished";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidInput, text)));
        }
        Poll::Ready(Ok(()))
    }

    fn check(&mut self, how: &mut How<'_, '_>) -> Poll<io::Result<()>> {
        self.lane.aio.engine().check_origin()?;
        if let Some(error) = self.failure.clone() {
            self.is_told = true;
            return Poll::Ready(Err(error.into()));
        }
        self.settle(how)
    }

    /// Keeps the first error, and returns it.
    fn keep(&mut self, doing: Doing, position: u64, len: usize, cause: io::Error) -> io::Error {
        self.keep_error(StreamError::new(doing, position, len, cause))
    }

    fn keep_error(&mut self, error: StreamError) -> io::Error {
        self.is_told = true;
        self.failure.get_or_insert(error).clone().into()
    }

    /// Whether something would be lost that no call has said.
    fn is_left(&self) -> bool {
        let is_touched = self.position() != self.lane.plan.start || self.failure.is_some();
        is_touched && !self.is_finished && !self.is_told
    }
}

/// With `O_APPEND` each write goes to the end of the file, whatever its offset.
fn refuse_appending(file: &DirectFile) -> io::Result<()> {
    let status = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    if status.contains(OFlag::O_APPEND) {
        let text = "a stream can't write a file that is open with O_APPEND";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        if self.is_left() && self.lane.aio.engine().is_here() {
            let position = self.position();
            user_code::warn(format_args!(
                "a StreamWriter was dropped at byte {position} without `finish`: the end of what was written \
                 may be missing, the file's length is not set, and nothing is synced"
            ));
        }
    }
}

impl fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamWriter")
            .field("file", self.file())
            .field("position", &self.position())
            .field("in_flight", &self.lane.live())
            .field("error", &self.failure)
            .finish_non_exhaustive()
    }
}
