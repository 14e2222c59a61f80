//! Transfers that go on until all is transferred.
//!
//! The kernel may transfer less than it was asked for: at the end of a file, on a full file system, by a file
//! server's whim. Here the engine then submits the rest of the same request, and its owner sees the end only.
#![allow(
    unsafe_code,
    reason = "promises that an iocb points to memory its request owns"
)]

use super::rw::Rw;
use super::transfer::{Operation, Read, ReadV, Write, WriteV};
use super::work::{Progress, Traits, Work};
use crate::buf::IoVec;
use crate::completion::Completion;
use crate::sys::{IOCB_CMD_PREAD, IOCB_CMD_PREADV, RWF_APPEND, iocb};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// A read or write that goes on after a short transfer: made by [`read_exact`](crate::Iocb::read_exact) and
/// [`write_all`](crate::Iocb::write_all), where its errors are listed. Its outcome is a
/// [`Completion`](crate::Completion), as that of the plain read or write is.
pub struct Exact<F, O: Operation<B>, B> {
    rw: Rw<F, O, B>,
    /// The pieces that are left, for vectored operations: the kernel's view, shortened from the front.
    pieces: Vec<IoVec>,
    /// Bytes of the whole, and of what is done.
    whole: u64,
    done: u64,
    /// What offset, address and length are multiples of, up to 4096: with O_DIRECT the rest must be, too.
    block_align: u64,
    /// Where it began, and whether the offset moves with the bytes.
    offset: i64,
    moves: bool,
}

/// Answers that the kernel never gives: beyond its errnos.
const AT_END: i64 = -10_001;
const NO_PROGRESS: i64 = -10_002;

/// The largest alignment that any device asks for.
const MAX_BLOCK_ALIGN: u64 = 4096;

/// Operations that move bytes out of the file, and so can be exact: [`Read`] and [`ReadV`]. What
/// [`read_exact`](crate::Iocb::read_exact) asks for.
pub trait ReadOp {}

impl ReadOp for Read {}
impl ReadOp for ReadV {}

/// Operations that move bytes into the file, and so can write all: [`Write`] and [`WriteV`]. What
/// [`write_all`](crate::Iocb::write_all) asks for.
pub trait WriteOp {}

impl WriteOp for Write {}
impl WriteOp for WriteV {}

impl<F, O: Operation<B>, B> Exact<F, O, B> {
    pub(crate) fn new(rw: Rw<F, O, B>) -> Self {
        Exact {
            rw,
            pieces: Vec::new(),
            whole: 0,
            done: 0,
            block_align: 1,
            offset: 0,
            moves: true,
        }
    }

    fn reads() -> bool {
        matches!(O::OPCODE, IOCB_CMD_PREAD | IOCB_CMD_PREADV)
    }

    pub(crate) fn into_inner(self) -> Rw<F, O, B> {
        self.rw
    }

    /// Points the iocb to what is left. With O_DIRECT that must begin at a multiple of the block alignment:
    /// what lies before it is transferred once more.
    fn point_at_rest(&mut self, iocb: &mut iocb, from: u64) {
        let begin = self.done - self.done % self.block_align;
        debug_assert!(from <= begin);
        let step = begin - from;
        if self.moves {
            iocb.aio_offset = iocb.aio_offset.wrapping_add_unsigned(step);
        }
        if self.pieces.is_empty() {
            iocb.aio_buf += step;
            iocb.aio_nbytes -= step;
        } else {
            skip(&mut self.pieces, step);
            iocb.aio_buf = self.pieces.as_ptr().expose_provenance() as u64;
            iocb.aio_nbytes = self.pieces.len() as u64;
        }
    }

    /// Where the transfer that just ended had begun.
    fn begun(&self, iocb: &iocb) -> u64 {
        let left = if self.pieces.is_empty() {
            iocb.aio_nbytes
        } else {
            self.pieces.iter().map(length).sum()
        };
        self.whole - left
    }

    fn go_on(&mut self, iocb: &mut iocb, answer: i64) -> Result<Progress, i64> {
        if answer == -i64::from(libc::EINTR) {
            return Ok(Progress::Again);
        }
        if answer == -i64::from(libc::ESPIPE) && iocb.aio_offset != self.offset {
            // A socket, which has no offsets: it refuses any but the first.
            self.moves = false;
            iocb.aio_offset = self.offset;
            return Ok(Progress::Again);
        }
        let count = u64::try_from(answer).map_err(|_| answer)?;
        let begun = self.begun(iocb);
        if begun + count >= self.whole {
            return Err(self.whole.cast_signed());
        }
        if begun + count <= self.done {
            return Err(if Self::reads() { AT_END } else { NO_PROGRESS });
        }
        self.done = begun + count;
        self.point_at_rest(iocb, begun);
        Ok(Progress::Again)
    }
}

fn length(piece: &IoVec) -> u64 {
    piece.len() as u64
}

/// Takes `count` bytes off the front.
fn skip(pieces: &mut Vec<IoVec>, count: u64) {
    let mut left = usize::try_from(count).unwrap_or(usize::MAX);
    let whole = pieces.iter().take_while(|piece| {
        let gone = piece.len() <= left;
        left -= if gone { piece.len() } else { 0 };
        gone
    });
    let whole = whole.count();
    pieces.drain(..whole);
    if let Some(first) = pieces.first_mut() {
        first.advance(left);
    }
}

/// The largest power of two up to `MAX_BLOCK_ALIGN` that divides all of them.
fn common_alignment(numbers: impl IntoIterator<Item = u64>) -> u64 {
    let all = numbers
        .into_iter()
        .fold(MAX_BLOCK_ALIGN, |all, number| all | number);
    1 << all.trailing_zeros()
}

/// What the rest of a short transfer must be aligned to: 1, unless it is direct I/O on a file or a block
/// device.
fn block_align(iocb: &iocb, pieces: &[IoVec]) -> u64 {
    if !is_direct(iocb) {
        return 1;
    }
    let offset = iocb.aio_offset.unsigned_abs();
    if pieces.is_empty() {
        return common_alignment([offset, iocb.aio_buf, iocb.aio_nbytes]);
    }
    let places = pieces
        .iter()
        .flat_map(|piece| [piece.as_ptr().addr() as u64, length(piece)]);
    common_alignment(places.chain([offset]))
}

/// Whether the file is opened for direct I/O, and is one where a byte may be transferred twice: not a pipe,
/// and not at an end that moves.
fn is_direct(iocb: &iocb) -> bool {
    // SAFETY: the request owns the file, so the descriptor is open.
    let fd = unsafe { BorrowedFd::borrow_raw(iocb.aio_fildes.cast_signed()) };
    let flags = fcntl(fd, FcntlArg::F_GETFL).map_or(OFlag::empty(), OFlag::from_bits_retain);
    let kind = fstat(fd).map_or(SFlag::empty(), |stat| {
        SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
    });
    let appends = flags.contains(OFlag::O_APPEND) || iocb.aio_rw_flags & RWF_APPEND != 0;
    flags.contains(OFlag::O_DIRECT)
        && !appends
        && (kind == SFlag::S_IFREG || kind == SFlag::S_IFBLK)
}

// SAFETY: `Rw`'s promise. The iocb is pointed to a part of what it named at first, or to our array of such parts,
// which stays where it is while the value does: a Vec that is only shortened.
unsafe impl<F: AsFd + Send, O: Operation<B>, B: Send> Work for Exact<F, O, B> {
    type Output = Completion<F, B>;

    fn traits(&self) -> Traits {
        Traits {
            may_go_on: true,
            ..Traits::default()
        }
    }

    fn describe(&mut self, iocb: &mut iocb) {
        self.rw.describe(iocb);
        self.pieces = self.rw.pieces().to_vec();
        self.offset = iocb.aio_offset;
        // Asked now: the reaper, who would need it, may not wait for a file server.
        self.block_align = block_align(iocb, &self.pieces);
        self.whole = if self.pieces.is_empty() {
            iocb.aio_nbytes
        } else {
            self.pieces.iter().map(length).sum()
        };
    }

    fn proceed(&mut self, iocb: &mut iocb, answer: &mut i64) -> Progress {
        match self.go_on(iocb, *answer) {
            Ok(progress) => progress,
            Err(last) => {
                *answer = last;
                Progress::Done
            }
        }
    }

    unsafe fn finish(self, answer: i64) -> Self::Output {
        let done = usize::try_from(self.done).unwrap_or(usize::MAX);
        let errno = if failure(answer).is_some() {
            -i64::from(libc::EIO)
        } else {
            answer
        };
        // SAFETY: an errno, or the sum of what the kernel transferred, piece after piece from the beginning.
        let mut completion = unsafe { self.rw.finish(errno) };
        if completion.result.is_err() {
            // SAFETY: so many bytes from the beginning were transferred before it failed.
            unsafe { O::transferred(&mut completion.buf, done) }
        }
        if let Some(failed) = failure(answer) {
            completion.result = Err(failed);
        }
        completion
    }
}

/// What the kernel has no errno for.
fn failure(answer: i64) -> Option<io::Error> {
    match answer {
        AT_END => Some(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the file ends before the buffer is full",
        )),
        NO_PROGRESS => Some(io::Error::new(
            io::ErrorKind::WriteZero,
            "the file takes no more bytes, and gives no reason",
        )),
        _ => None,
    }
}

impl<F, O: Operation<B>, B> fmt::Debug for Exact<F, O, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exact")
            .field("rw", &self.rw)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(pieces: &[IoVec]) -> Vec<usize> {
        pieces.iter().map(IoVec::len).collect()
    }

    #[test]
    fn bytes_are_taken_off_the_front_across_pieces() {
        let memory = [0u8; 30];
        let mut pieces = vec![IoVec::new(memory.as_ptr(), 10); 3];
        skip(&mut pieces, 0);
        assert_eq!(lengths(&pieces), [10, 10, 10]);
        skip(&mut pieces, 13);
        assert_eq!(lengths(&pieces), [7, 10]);
        assert_eq!(pieces[0].as_ptr(), memory[3..].as_ptr());
        skip(&mut pieces, 17);
        assert!(pieces.is_empty());
    }

    #[test]
    fn the_common_alignment_is_the_smallest_of_all_and_at_most_4096() {
        assert_eq!(common_alignment([8192, 512, 4096]), 512);
        assert_eq!(common_alignment([0, 1 << 20]), 4096);
        assert_eq!(common_alignment([4096, 3]), 1);
    }
}
