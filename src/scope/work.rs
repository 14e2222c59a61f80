//! A request over a borrowed file and borrowed memory, of any kind: what a scope carries.
//!
//! It is the request that owns its file and memory, over values that stand for a borrow. So there is one rule
//! for both of what is described to the kernel, how a transfer goes on, and what is believed of an answer.
#![allow(
    unsafe_code,
    reason = "lends memory and files to the kernel for longer than a call's arguments show"
)]

use super::memory::{BorrowedBytes, BorrowedFile, BorrowedPieces};
use crate::op::{Exact, Fsync, Job, Progress, Read, ReadV, Rw, Traits, Work, Write, WriteV};
use crate::sys::iocb;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::BorrowedFd;

/// What is to be done with the file.
#[derive(Debug)]
pub(super) enum BorrowedWork {
    Read(Rw<BorrowedFile, Read, BorrowedBytes>),
    Write(Rw<BorrowedFile, Write, BorrowedBytes>),
    ReadExact(Exact<BorrowedFile, Read, BorrowedBytes>),
    WriteAll(Exact<BorrowedFile, Write, BorrowedBytes>),
    ReadVectored(Rw<BorrowedFile, ReadV, BorrowedPieces>),
    WriteVectored(Rw<BorrowedFile, WriteV, BorrowedPieces>),
    Sync(Fsync<BorrowedFile>),
}

// So much has room in a cell: no request over borrowed memory is allocated.
const _: () = assert!(size_of::<Job<BorrowedWork>>() <= 112);

/// The same of each kind.
macro_rules! of_each {
    ($work:expr, $inside:ident => $what:expr) => {
        match $work {
            BorrowedWork::Read($inside) => $what,
            BorrowedWork::Write($inside) => $what,
            BorrowedWork::ReadExact($inside) => $what,
            BorrowedWork::WriteAll($inside) => $what,
            BorrowedWork::ReadVectored($inside) => $what,
            BorrowedWork::WriteVectored($inside) => $what,
            BorrowedWork::Sync($inside) => $what,
        }
    };
}

/// Whoever makes one keeps file and memory borrowed until the request is complete, or was refused:
/// `Scope::add` takes the borrows for the scope's lifetime, and `Scope::finish` waits for the request within
/// it; `AioWith::run` waits itself.
impl BorrowedWork {
    pub(super) fn read(file: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> BorrowedWork {
        // SAFETY: its maker keeps it borrowed: see above.
        let file = unsafe { BorrowedFile::of(file) };
        // SAFETY: as above.
        let bytes = unsafe { BorrowedBytes::exclusive(buf) };
        BorrowedWork::Read(Rw::new(file, Read, bytes, offset))
    }

    pub(super) fn write(file: BorrowedFd<'_>, buf: &[u8], offset: u64) -> BorrowedWork {
        // SAFETY: its maker keeps it borrowed: see above.
        let file = unsafe { BorrowedFile::of(file) };
        // SAFETY: as above, and a write reads them.
        let bytes = unsafe { BorrowedBytes::shared(buf) };
        BorrowedWork::Write(Rw::new(file, Write, bytes, offset))
    }

    pub(super) fn read_vectored(
        file: BorrowedFd<'_>,
        bufs: &mut [IoSliceMut<'_>],
        offset: u64,
    ) -> BorrowedWork {
        // SAFETY: its maker keeps it borrowed: see above.
        let file = unsafe { BorrowedFile::of(file) };
        // SAFETY: as above.
        let pieces = unsafe { BorrowedPieces::exclusive(bufs) };
        BorrowedWork::ReadVectored(Rw::new(file, ReadV, pieces, offset))
    }

    pub(super) fn write_vectored(
        file: BorrowedFd<'_>,
        bufs: &[IoSlice<'_>],
        offset: u64,
    ) -> BorrowedWork {
        // SAFETY: its maker keeps it borrowed: see above.
        let file = unsafe { BorrowedFile::of(file) };
        // SAFETY: as above, and a write reads them.
        let pieces = unsafe { BorrowedPieces::shared(bufs) };
        BorrowedWork::WriteVectored(Rw::new(file, WriteV, pieces, offset))
    }

    pub(super) fn fsync(file: BorrowedFd<'_>) -> BorrowedWork {
        // SAFETY: its maker keeps it borrowed: see above.
        BorrowedWork::Sync(Fsync::whole(unsafe { BorrowedFile::of(file) }))
    }

    pub(super) fn fdatasync(file: BorrowedFd<'_>) -> BorrowedWork {
        // SAFETY: its maker keeps it borrowed: see above.
        BorrowedWork::Sync(Fsync::data(unsafe { BorrowedFile::of(file) }))
    }

    /// The same, going on until all is transferred. What has no single buffer stays as it is.
    pub(super) fn exact(self) -> BorrowedWork {
        match self {
            BorrowedWork::Read(read) => BorrowedWork::ReadExact(Exact::new(read)),
            BorrowedWork::Write(write) => BorrowedWork::WriteAll(Exact::new(write)),
            other => other,
        }
    }
}

// SAFETY: the promise of what is inside.
unsafe impl Work for BorrowedWork {
    type Output = io::Result<usize>;

    fn traits(&self) -> Traits {
        of_each!(self, work => work.traits())
    }

    fn describe(&mut self, iocb: &mut iocb) {
        of_each!(self, work => work.describe(iocb));
    }

    fn proceed(&mut self, iocb: &mut iocb, answer: &mut i64) -> Progress {
        of_each!(self, work => work.proceed(iocb, answer))
    }

    unsafe fn finish(self, answer: i64) -> io::Result<usize> {
        // SAFETY: passed on.
        of_each!(self, work => unsafe { work.finish(answer) }.result)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_count_beyond_the_borrowed_memory_is_cut_down_to_it() {
        let (file, mut memory) = (std::io::stdin(), [0u8; 16]);
        for answer in [17, i64::MAX] {
            let mut read = BorrowedWork::read(file.as_fd(), &mut memory, 0);
            read.describe(&mut iocb::default());
            // SAFETY: the memory is initialised, whatever the kernel did.
            assert_eq!(unsafe { read.finish(answer) }.unwrap(), 16);
        }
    }
}
