//! A file as a stream of bytes to be read.

use super::block::Block;
use super::error::{Doing, StreamError};
use super::how::How;
use super::lane::{Landed, Lane};
use super::options::{Plan, StreamOptions};
use crate::aio::Aio;
use crate::direct::DirectFile;
use crate::op::Read;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Poll, ready};

/// Reads a file from one place on, with a few blocks in flight before they are asked for.
///
/// It is a [`std::io::Read`] and [`BufRead`](std::io::BufRead), which block, and has async methods; see the
/// [module](crate::stream) for what blocks there. Nothing is read before the first call. Up to the length that
/// the file had when the stream was made, blocks are read ahead; beyond, and where the file has grown
/// meanwhile, one at a time.
///
/// # Errors
/// An error is returned where its bytes would have been, after all bytes before it. It has the kind of its
/// cause and a [`StreamError`] inside, with the position. It is not skipped: the next call reads that block
/// again. Causes are:
///
/// - those of [`Completion::result`](crate::Completion::result): EIO;
/// - what [`submit`](crate::Iocb::submit) refuses: EBADF where the file is not open for reading, and an
///   [`AioError`](crate::AioError) after a shutdown (blocks that were read ahead before are still returned);
/// - [`OutOfMemory`](io::ErrorKind::OutOfMemory) where there is none for the first block. Where there is none
///   for further ones, the stream goes on with those it has.
///
/// In a forked child [`AioError::Forked`](crate::AioError::Forked).
///
/// # The end of the file
/// is 0 bytes, as for any reader. A call after that asks the file again, which may have grown. A file that
/// becomes shorter ends there; what was read ahead is returned as it was when it was read.
///
/// # Dropping
/// does not block, unless it drops the last [`Aio`]: what is in flight completes in the background.
pub struct StreamReader {
    lane: Lane<Read>,
    /// What the program reads from.
    current: Option<Current>,
    /// Of the next byte that the program gets.
    position: u64,
    /// Where the stream ends, if the file does not before.
    end: u64,
    /// Where the next block begins that is asked for.
    next: u64,
    /// The length that the file had.
    known_len: u64,
    /// The file ended behind what is in `current`.
    at_end: bool,
}

struct Current {
    offset: u64,
    block: Block,
}

impl Current {
    /// What it has of these places.
    fn part(&self, range: Range<u64>) -> &[u8] {
        let filled = self.block.filled();
        let index = |place: u64| {
            let index = usize::try_from(place.saturating_sub(self.offset));
            index.map_or(filled.len(), |index| index.min(filled.len()))
        };
        &filled[index(range.start)..index(range.end)]
    }
}

impl StreamReader {
    /// Reads all of `file` (which may be an `Arc<DirectFile>`), with the defaults of
    /// [`StreamOptions`].
    ///
    /// # Errors
    /// As [`StreamOptions::reader`].
    pub fn new(aio: &Aio, file: impl Into<Arc<DirectFile>>) -> io::Result<StreamReader> {
        StreamOptions::new().reader(aio, file)
    }

    pub(super) fn with(aio: &Aio, plan: Plan, file: Arc<DirectFile>) -> io::Result<StreamReader> {
        let known_len = file.len()?;
        Ok(StreamReader {
            lane: Lane::new(aio, file, plan, Read)?,
            current: None,
            position: plan.start,
            end: u64::MAX,
            next: plan.round_down(plan.start),
            known_len,
            at_end: false,
        })
    }

    /// Goes on at `range.start`, and ends at `range.end` if the file does not end before. What was read ahead
    /// is given up. Does not block, and asks the file for its length again.
    ///
    /// # Errors
    /// Those of `fstat(2)`; [`AioError::Forked`](crate::AioError::Forked) in a forked child.
    pub fn set_range(&mut self, range: Range<u64>) -> io::Result<()> {
        self.lane.aio.engine().check_origin()?;
        self.known_len = self.file().len()?;
        self.release();
        (self.position, self.end, self.at_end) = (range.start, range.end, false);
        self.restart_at(range.start);
        Ok(())
    }

    /// Where in the file the next byte comes from.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The file.
    pub fn file(&self) -> &Arc<DirectFile> {
        &self.lane.file
    }

    /// What is there without waiting.
    pub(super) fn unread(&self) -> &[u8] {
        let current = self.current.as_ref();
        current.map_or(&[], |current| current.part(self.position..self.end))
    }

    /// Passes over bytes that [`fill_buf_async`](Self::fill_buf_async) or
    /// [`fill_buf`](std::io::BufRead::fill_buf) has returned; no more than those.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.unread().len());
        self.position += count as u64;
    }

    /// Reads as many bytes as there are, and waits for the first.
    pub(super) fn read_into(
        &mut self,
        buf: &mut [u8],
        how: &mut How<'_, '_>,
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let bytes = ready!(self.fill(how))?;
        let count = bytes.len().min(buf.len());
        buf[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Poll::Ready(Ok(count))
    }

    /// Waits until bytes are there, and returns them. None are at the end.
    pub(super) fn fill(&mut self, how: &mut How<'_, '_>) -> Poll<io::Result<&[u8]>> {
        self.lane.aio.engine().check_origin()?;
        while self.unread().is_empty() && self.position < self.end {
            if std::mem::take(&mut self.at_end) {
                break;
            }
            self.release();
            self.read_ahead()?;
            if let Some(landed) = ready!(self.lane.oldest(how)) {
                self.land(landed)?;
            }
        }
        Poll::Ready(Ok(self.unread()))
    }

    fn release(&mut self) {
        if let Some(current) = self.current.take() {
            self.lane.give_back(current.block);
        }
    }

    fn restart_at(&mut self, position: u64) {
        self.lane.discard();
        self.next = self.lane.plan.round_down(position);
    }

    /// Submits as many reads as there are blocks. What fails is not an error while others are on their way: it
    /// is tried again.
    fn read_ahead(&mut self) -> io::Result<()> {
        while self.wants_more() {
            match self.ask() {
                Ok(true) => {}
                Err(cause) if self.lane.is_empty() => {
                    let (position, len) = (self.position, self.lane.plan.block);
                    return Err(StreamError::new(Doing::Read, position, len, cause).into());
                }
                Ok(false) | Err(_) => break,
            }
        }
        Ok(())
    }

    fn wants_more(&self) -> bool {
        self.next < self.end && (self.next < self.known_len || self.lane.live() == 0)
    }

    /// Submits one read; `false`: no block is at hand.
    fn ask(&mut self) -> io::Result<bool> {
        let Some(mut block) = self.lane.take()? else {
            return Ok(false);
        };
        let want = self.lane.plan.round_up(self.end - self.next);
        block.ask(want);
        self.lane.submit(block, self.next, want)?;
        self.next = self.next.saturating_add(want as u64);
        Ok(true)
    }

    fn land(&mut self, landed: Landed) -> io::Result<()> {
        let Landed { offset, block, .. } = landed;
        let came_to = offset + block.filled().len() as u64;
        let failure = landed
            .result
            .err()
            .filter(|cause| cause.kind() != io::ErrorKind::UnexpectedEof);
        match failure {
            Some(cause) if came_to <= self.position => {
                self.lane.give_back(block);
                self.restart_at(self.position);
                let (position, len) = (self.position, landed.len);
                return Err(StreamError::new(Doing::Read, position, len, cause).into());
            }
            // What came before it failed is the program's. Then it is read again, for its error.
            Some(_) => self.restart_at(came_to),
            None if block.filled().len() < landed.len => {
                self.at_end = true;
                self.restart_at(came_to);
            }
            None => {}
        }
        self.current = Some(Current { offset, block });
        Ok(())
    }
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader")
            .field("file", self.file())
            .field("position", &self.position)
            .field("in_flight", &self.lane.live())
            .finish_non_exhaustive()
    }
}
