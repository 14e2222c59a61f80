//! What is left of a transfer that came back short, and where an iocb has to point to for it.
#![allow(unsafe_code, reason = "asks the open file that an iocb names")]

use super::work::Progress;
use crate::buf::IoVec;
use crate::completion::outcome;
use crate::sys::{IOCB_CMD_PREAD, IOCB_CMD_PREADV, RWF_APPEND, iocb};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};
use std::io;
use std::os::fd::BorrowedFd;

/// Answers that the kernel never gives: beyond its errnos.
const AT_END: i64 = -10_001;
const NO_PROGRESS: i64 = -10_002;

/// The largest alignment that any device asks for.
const MAX_BLOCK_ALIGN: u64 = 4096;

/// How far a transfer has come that goes on until all is transferred.
///
/// Vectored operations have an array of pieces besides: the kernel's view, shortened from the front. Others
/// have none, and pass an empty one.
#[derive(Debug)]
pub(crate) struct Rest {
    /// Bytes of the whole, and of what is done.
    whole: u64,
    done: u64,
    /// Where it began, and whether the offset moves with the bytes.
    offset: i64,
    moves: bool,
    /// What offset, address and length are multiples of, up to 4096: with O_DIRECT the rest must be, too.
    block_align: u16,
}

impl Rest {
    /// Nothing is known yet: `begin` follows.
    pub(crate) const fn new() -> Rest {
        Rest {
            whole: 0,
            done: 0,
            offset: 0,
            moves: true,
            block_align: 1,
        }
    }

    /// The iocb describes the whole transfer now. It is looked at here and not by the reaper, who would need
    /// it, because the reaper may not wait for a file server.
    pub(crate) fn begin(&mut self, iocb: &iocb, pieces: &[IoVec]) {
        self.offset = iocb.aio_offset;
        self.block_align = block_align(iocb, pieces);
        self.whole = left(iocb, pieces);
    }

    /// How many bytes from the beginning were transferred by all answers but the last.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// Looks at the kernel's answer: points the iocb at what is left of the transfer, or makes the answer into
    /// the one for the whole.
    pub(crate) fn proceed(
        &mut self,
        iocb: &mut iocb,
        pieces: &mut Vec<IoVec>,
        answer: &mut i64,
    ) -> Progress {
        match self.go_on(iocb, pieces, *answer) {
            Ok(()) => Progress::Again,
            Err(last) => {
                *answer = last;
                Progress::Done
            }
        }
    }

    /// `Err` has the answer for the whole.
    fn go_on(&mut self, iocb: &mut iocb, pieces: &mut Vec<IoVec>, answer: i64) -> Result<(), i64> {
        if answer == -i64::from(libc::EINTR) {
            return Ok(());
        }
        if answer == -i64::from(libc::ESPIPE) && iocb.aio_offset != self.offset {
            // A socket, which has no offsets: it refuses any but the first.
            self.moves = false;
            iocb.aio_offset = self.offset;
            return Ok(());
        }
        let count = u64::try_from(answer).map_err(|_| answer)?;
        // Where the transfer that just ended had begun.
        let begun = self.whole - left(iocb, pieces);
        if begun + count >= self.whole {
            return Err(self.whole.cast_signed());
        }
        if begun + count <= self.done {
            return Err(if reads(iocb) { AT_END } else { NO_PROGRESS });
        }
        self.done = begun + count;
        self.point_at_rest(iocb, pieces, begun);
        Ok(())
    }

    /// Points the iocb to what is left. With O_DIRECT that must begin at a multiple of the block alignment:
    /// what lies before it is transferred once more.
    fn point_at_rest(&self, iocb: &mut iocb, pieces: &mut Vec<IoVec>, from: u64) {
        let begin = self.done - self.done % u64::from(self.block_align);
        debug_assert!(from <= begin);
        let step = begin - from;
        if self.moves {
            iocb.aio_offset = iocb.aio_offset.wrapping_add_unsigned(step);
        }
        if pieces.is_empty() {
            iocb.aio_buf += step;
            iocb.aio_nbytes -= step;
        } else {
            skip(pieces, step);
            iocb.aio_buf = pieces.as_ptr().expose_provenance() as u64;
            iocb.aio_nbytes = pieces.len() as u64;
        }
    }
}

fn reads(iocb: &iocb) -> bool {
    matches!(iocb.aio_lio_opcode, IOCB_CMD_PREAD | IOCB_CMD_PREADV)
}

/// Bytes that the iocb asks for.
fn left(iocb: &iocb, pieces: &[IoVec]) -> u64 {
    if pieces.is_empty() {
        iocb.aio_nbytes
    } else {
        pieces.iter().map(length).sum()
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
fn common_alignment(numbers: impl IntoIterator<Item = u64>) -> u16 {
    let all = numbers
        .into_iter()
        .fold(MAX_BLOCK_ALIGN, |all, number| all | number);
    1 << all.trailing_zeros()
}

/// What the rest of a short transfer must be aligned to: 1, unless it is direct I/O on a file or a block
/// device.
fn block_align(iocb: &iocb, pieces: &[IoVec]) -> u16 {
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
    // SAFETY: the request owns or borrows the file, so the descriptor is open.
    let fd = unsafe { BorrowedFd::borrow_raw(iocb.aio_fildes.cast_signed()) };
    let flags = fcntl(fd, FcntlArg::F_GETFL).map_or(OFlag::empty(), OFlag::from_bits_retain);
    if !flags.contains(OFlag::O_DIRECT) {
        return false;
    }
    let kind = fstat(fd).map_or(SFlag::empty(), |stat| {
        SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
    });
    let appends = flags.contains(OFlag::O_APPEND) || iocb.aio_rw_flags & RWF_APPEND != 0;
    !appends && (kind == SFlag::S_IFREG || kind == SFlag::S_IFBLK)
}

/// The outcome of a transfer that goes on, from what [`Rest::proceed`] made of the answers.
pub(crate) fn outcome_of_all(answer: i64) -> io::Result<usize> {
    failure(answer).map_or_else(|| outcome(answer), Err)
}

/// What the kernel has no errno for.
pub(super) fn failure(answer: i64) -> Option<io::Error> {
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
