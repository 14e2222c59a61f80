//! Transfers that go on until all is transferred.
//!
//! The kernel may transfer less than it was asked for: at the end of a file, on a full file system, by a file
//! server's whim. Here the engine then submits the rest of the same request, and its owner sees the end only.
#![allow(
    unsafe_code,
    reason = "promises that an iocb points to memory its request owns"
)]

use super::rest::MOST_PIECES;
use super::rw::Rw;
use super::transfer::{Operation, Read, ReadV, Write, WriteV};
use super::work::{Progress, Traits, Work};
use crate::completion::{Completion, report_excess};
use crate::flags::RwFlags;
use crate::sys::iocb;
use crate::sys::statx::{self, Statx};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// A read or write that goes on after a short transfer: made by [`read_exact`](crate::Iocb::read_exact) and
/// [`write_all`](crate::Iocb::write_all), where its errors are listed. Its outcome is a
/// [`Completion`](crate::Completion), as that of the plain read or write is.
pub struct Exact<F, O: Operation<B>, B> {
    rw: Rw<F, O, B>,
    /// How many bytes are done.
    done: u64,
    /// Where the rest may begin.
    align: RestAlign,
    /// Whether the offset moves with the bytes.
    moves: bool,
    /// What the kernel claimed to have transferred where it was asked for less. Boxed, because each byte here
    /// is one less for a callback to be stored without an allocation.
    excess: Option<Box<(u64, u64)>>,
}

/// What the place where the rest of a short transfer begins must be a multiple of: with O_DIRECT not any will
/// do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RestAlign {
    /// Anywhere.
    Byte,
    /// At multiples of this many bytes: the file says so.
    Told(u64),
    /// At multiples of this many bytes, as offset and length of the whole are. The file does not say what it
    /// wants, and it may be less.
    Guessed(u64),
    /// Anywhere: a guess was larger than what the file gives at once.
    GivenUp,
}

impl RestAlign {
    fn bytes(self) -> u64 {
        match self {
            RestAlign::Byte | RestAlign::GivenUp => 1,
            RestAlign::Told(bytes) | RestAlign::Guessed(bytes) => bytes,
        }
    }
}

/// Answers that the kernel never gives: beyond its errnos.
const AT_END: i64 = -10_001;
const NO_PROGRESS: i64 = -10_002;

/// The largest alignment that any device asks for whose file does not name it.
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
            done: 0,
            align: RestAlign::Byte,
            moves: true,
            excess: None,
        }
    }

    pub(crate) fn into_inner(self) -> Rw<F, O, B> {
        self.rw
    }

    /// Points the iocb, whose transfer began `from`, to what is left. With O_DIRECT that must begin at a
    /// multiple of its alignment: what lies before it is transferred once more.
    fn point_at_rest(&mut self, iocb: &mut iocb, from: u64) {
        let begin = self.done - self.done % self.align.bytes();
        debug_assert!(from <= begin);
        let step = begin - from;
        if self.moves {
            iocb.aio_offset = iocb.aio_offset.wrapping_add_unsigned(step);
        }
        self.rw.advance(iocb, step);
    }

    fn go_on(&mut self, iocb: &mut iocb, answer: i64) -> Result<Progress, i64> {
        if answer == -i64::from(libc::EINTR) {
            return Ok(Progress::Again);
        }
        if answer == -i64::from(libc::ESPIPE) && iocb.aio_offset != self.rw.offset() {
            // A socket, which has no offsets: it refuses any but the first.
            self.moves = false;
            iocb.aio_offset = self.rw.offset();
            return Ok(Progress::Again);
        }
        let begun = self.rw.whole() - self.rw.left(iocb);
        let count = u64::try_from(answer).map_err(|_| self.failed(answer))?;
        let end = begun + self.believe(count, self.rw.asked(iocb));
        if end >= self.rw.whole() {
            return Err(self.rw.whole().cast_signed());
        }
        if end <= self.done {
            self.try_finer(begun)?;
        }
        self.done = self.done.max(end);
        self.point_at_rest(iocb, begun);
        Ok(Progress::Again)
    }

    /// What is left of `count` where the kernel was asked for less. It is logged at the end: a logger is user
    /// code, and this is under the reaper's lock.
    fn believe(&mut self, count: u64, asked: u64) -> u64 {
        if count > asked {
            self.excess = Some(Box::new((count, asked)));
        }
        count.min(asked)
    }

    /// From the last aligned byte it came no further than before: it is at its end, unless the alignment was
    /// guessed and is larger than what the file gives at once. Then it goes on from the very byte.
    fn try_finer(&mut self, begun: u64) -> Result<(), i64> {
        match self.align {
            RestAlign::Guessed(_) if begun < self.done => {
                self.align = RestAlign::GivenUp;
                Ok(())
            }
            _ => Err(Self::STUCK),
        }
    }

    /// The answer for an errno. Where a guess was given up, EINVAL says that the guess was right: the file is
    /// at its end.
    fn failed(&self, answer: i64) -> i64 {
        if self.align == RestAlign::GivenUp && answer == -i64::from(libc::EINVAL) {
            Self::STUCK
        } else {
            answer
        }
    }

    /// The kernel transfers nothing more, and gives no reason.
    const STUCK: i64 = if Rw::<F, O, B>::READS {
        AT_END
    } else {
        NO_PROGRESS
    };
}

/// The largest power of two up to `MAX_BLOCK_ALIGN` that divides all of them.
fn common_alignment(numbers: impl IntoIterator<Item = u64>) -> u64 {
    let all = numbers
        .into_iter()
        .fold(MAX_BLOCK_ALIGN, |all, number| all | number);
    1 << all.trailing_zeros()
}

/// The least common multiple of two numbers above 0, one of which is a power of two.
fn least_common_multiple(number: u64, power: u64) -> u64 {
    debug_assert!(power.is_power_of_two());
    let shared = number.trailing_zeros().min(power.trailing_zeros());
    number.saturating_mul(power >> shared)
}

/// Where the rest of a transfer of `whole` bytes may begin: anywhere, unless it is direct I/O on a file or a
/// block device.
fn rest_align(iocb: &iocb, reads: bool, whole: u64) -> RestAlign {
    // SAFETY: the request owns the file, so the descriptor is open.
    let fd = unsafe { BorrowedFd::borrow_raw(iocb.aio_fildes.cast_signed()) };
    let status = fcntl(fd, FcntlArg::F_GETFL).map_or(OFlag::empty(), OFlag::from_bits_retain);
    if !status.contains(OFlag::O_DIRECT) {
        return RestAlign::Byte;
    }
    let stat = statx::statx(fd).ok();
    let kind = stat
        .as_ref()
        .map(Statx::kind)
        .or_else(|| statx::kind(fd).ok());
    let repeatable = match kind {
        Some(libc::S_IFBLK) => true,
        Some(libc::S_IFREG) => reads || !appends(iocb, status),
        _ => false, // a pipe: what it gave is gone
    };
    if !repeatable {
        return RestAlign::Byte;
    }
    match stat.and_then(|stat| told(&stat, reads)) {
        Some(bytes) => RestAlign::Told(bytes),
        None => RestAlign::Guessed(common_alignment([iocb.aio_offset.unsigned_abs(), whole])),
    }
}

/// Whether a write goes to the end of the file, wherever that is then: it may not be written twice.
fn appends(iocb: &iocb, status: OFlag) -> bool {
    let flags = RwFlags::from_bits_retain(iocb.aio_rw_flags);
    flags.contains(RwFlags::APPEND)
        || (status.contains(OFlag::O_APPEND) && !flags.contains(RwFlags::NOAPPEND))
}

/// What the file says: the rest must begin at a multiple of what it wants for offsets, and, as it lies just
/// so far in memory, also of what it wants for memory.
fn told(stat: &Statx, reads: bool) -> Option<u64> {
    let offset = if reads {
        stat.read_offset_align()
    } else {
        stat.dio_offset_align
    };
    let known = stat.mask & statx::STATX_DIOALIGN != 0 && stat.dio_mem_align != 0 && offset != 0;
    known.then(|| {
        let memory = u64::from(stat.dio_mem_align).next_power_of_two();
        least_common_multiple(offset.into(), memory)
    })
}

// SAFETY: `Rw`'s promise. The iocb is pointed to a part of what it named at first, or to our array of such
// parts, which stays where it is while the value does: a Vec that is only shortened.
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
        // Asked now: the reaper, who would need it, may not wait for a file server.
        self.align = rest_align(iocb, Rw::<F, O, B>::READS, self.rw.whole());
        if self.rw.pieces().len() > MOST_PIECES {
            self.rw.advance(iocb, 0); // to as many as the kernel takes
        }
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
        if let Some((count, asked)) = self.excess.map(|excess| *excess) {
            report_excess(count, asked);
        }
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::buf::AlignedBuf;
    use crate::op::{Job, Options};
    use std::fs::File;
    use std::os::unix::fs::OpenOptionsExt;

    /// A direct file for writing; `None` where the temporary directory has none.
    fn direct_file(flags: i32) -> Option<File> {
        let place = tempfile::NamedTempFile::new().unwrap();
        let mut options = File::options();
        options.write(true).custom_flags(libc::O_DIRECT | flags);
        let file = options.open(place.path());
        file.inspect_err(|error| eprintln!("skipped: no direct I/O: {error}"))
            .ok()
    }

    /// Where in its memory and in its file a write of 8192 bytes goes on after 5000.
    fn begins_again(file: File, flags: RwFlags) -> (u64, i64) {
        let buf = AlignedBuf::zeroed(8192);
        let mut job = Job {
            state: Exact::new(Rw::new(file, Write, buf, 0)),
            options: Options::with_flags(flags),
        };
        let mut iocb = iocb::default();
        job.describe(&mut iocb);
        let start = iocb.aio_buf;
        assert_eq!(job.proceed(&mut iocb, &mut 5000), Progress::Again);
        assert_eq!(iocb.aio_buf - start + iocb.aio_nbytes, 8192);
        (iocb.aio_buf - start, iocb.aio_offset)
    }

    /// Its end has moved by 5000 bytes.
    #[test]
    fn a_direct_append_never_writes_a_byte_twice() {
        for (status, flags) in [
            (0, RwFlags::APPEND),
            (0, RwFlags::APPEND | RwFlags::DSYNC),
            (libc::O_APPEND, RwFlags::empty()),
        ] {
            let Some(file) = direct_file(status) else {
                return;
            };
            assert_eq!(begins_again(file, flags), (5000, 5000));
        }
    }

    #[test]
    fn a_direct_write_goes_on_at_the_last_block() {
        for (status, flags) in [(0, RwFlags::empty()), (libc::O_APPEND, RwFlags::NOAPPEND)] {
            let Some(file) = direct_file(status) else {
                return;
            };
            let (place, offset) = begins_again(file, flags);
            // The file says 512 or 4096, or nothing, which is 4096 here.
            assert!(matches!(place, 4096 | 4608), "{place}");
            assert_eq!(place.cast_signed(), offset);
        }
    }

    /// 1500 pieces of 4 bytes, of which the kernel gets 1024 at once.
    #[test]
    fn a_count_beyond_what_was_asked_for_is_not_believed() {
        let pieces = vec![[0u8; 4]; 1500];
        let mut read = Exact::new(Rw::new(std::io::stdin(), ReadV, pieces, 0));
        let mut iocb = iocb::default();
        read.describe(&mut iocb);
        assert_eq!(iocb.aio_nbytes, 1024);
        assert_eq!(read.proceed(&mut iocb, &mut 5000), Progress::Again);
        assert_eq!((read.done, iocb.aio_nbytes), (4096, 476));
        let mut answer = i64::MAX;
        assert_eq!(read.proceed(&mut iocb, &mut answer), Progress::Done);
        assert_eq!(answer, 6000);
        assert_eq!(
            read.excess.as_deref(),
            Some(&(i64::MAX.cast_unsigned(), 1904))
        );
        // SAFETY: the pieces are initialised, whatever the kernel did.
        let done = unsafe { read.finish(answer) };
        assert_eq!(done.result.unwrap(), 6000);
    }

    #[test]
    fn the_common_alignment_is_the_smallest_of_all_and_at_most_4096() {
        assert_eq!(common_alignment([8192, 512, 4096]), 512);
        assert_eq!(common_alignment([0, 1 << 20]), 4096);
        assert_eq!(common_alignment([4096, 3]), 1);
    }

    #[test]
    fn a_rest_fits_offsets_and_memory_both() {
        assert_eq!(least_common_multiple(4096, 512), 4096);
        assert_eq!(least_common_multiple(512, 4096), 4096);
        assert_eq!(least_common_multiple(4096, 4), 4096);
        assert_eq!(least_common_multiple(1, 1), 1);
        assert_eq!(least_common_multiple(28 << 10, 512), 28 << 10);
        assert_eq!(least_common_multiple(3, 4), 12);
    }
}
