//! A request over a borrowed file and borrowed memory. The borrow is its maker's affair: here are only the
//! numbers.
#![allow(
    unsafe_code,
    reason = "promises that an iocb points to memory that is borrowed long enough"
)]

use crate::completion::outcome;
use crate::op::{Progress, Rest, Traits, Work, outcome_of_all};
use crate::sys::{self, iocb};
use std::io;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd};

/// What is to be done with the file. Whoever makes one keeps file and memory borrowed until the request is
/// complete.
#[derive(Debug)]
pub(super) struct BorrowedWork {
    opcode: u16,
    descriptor: u32,
    /// Of the bytes, or of the array of pieces.
    address: u64,
    length: u64,
    offset: u64,
    /// For a transfer that goes on until all is transferred.
    rest: Option<Rest>,
}

impl BorrowedWork {
    fn new(opcode: u16, file: BorrowedFd<'_>) -> BorrowedWork {
        BorrowedWork {
            opcode,
            // Never negative: that is what a BorrowedFd is.
            descriptor: file.as_raw_fd().cast_unsigned(),
            address: 0,
            length: 0,
            offset: 0,
            rest: None,
        }
    }

    fn over(self, (address, length): (usize, usize), offset: u64) -> BorrowedWork {
        BorrowedWork {
            address: address as u64,
            length: length as u64,
            offset,
            ..self
        }
    }

    pub(super) fn read(file: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> BorrowedWork {
        let memory = (buf.as_mut_ptr().expose_provenance(), buf.len());
        BorrowedWork::new(sys::IOCB_CMD_PREAD, file).over(memory, offset)
    }

    pub(super) fn write(file: BorrowedFd<'_>, buf: &[u8], offset: u64) -> BorrowedWork {
        let memory = (buf.as_ptr().expose_provenance(), buf.len());
        BorrowedWork::new(sys::IOCB_CMD_PWRITE, file).over(memory, offset)
    }

    /// An `IoSliceMut` is an iovec, by std's promise. The kernel reads the array when it takes the request.
    pub(super) fn read_vectored(
        file: BorrowedFd<'_>,
        bufs: &mut [IoSliceMut<'_>],
        offset: u64,
    ) -> BorrowedWork {
        let array = (bufs.as_mut_ptr().expose_provenance(), bufs.len());
        BorrowedWork::new(sys::IOCB_CMD_PREADV, file).over(array, offset)
    }

    /// An `IoSlice` is an iovec, by std's promise.
    pub(super) fn write_vectored(
        file: BorrowedFd<'_>,
        bufs: &[IoSlice<'_>],
        offset: u64,
    ) -> BorrowedWork {
        let array = (bufs.as_ptr().expose_provenance(), bufs.len());
        BorrowedWork::new(sys::IOCB_CMD_PWRITEV, file).over(array, offset)
    }

    pub(super) fn fsync(file: BorrowedFd<'_>) -> BorrowedWork {
        BorrowedWork::new(sys::IOCB_CMD_FSYNC, file)
    }

    pub(super) fn fdatasync(file: BorrowedFd<'_>) -> BorrowedWork {
        BorrowedWork::new(sys::IOCB_CMD_FDSYNC, file)
    }

    /// The same, going on until all is transferred. For what has one buffer.
    pub(super) fn exact(self) -> BorrowedWork {
        debug_assert!(matches!(
            self.opcode,
            sys::IOCB_CMD_PREAD | sys::IOCB_CMD_PWRITE
        ));
        BorrowedWork {
            rest: Some(Rest::new()),
            ..self
        }
    }
}

// SAFETY: file and memory are borrowed for longer than the request takes: `Scope::add` takes the borrows for
// the scope's lifetime, and `Scope::finish` waits for the request within it; `Aio::run_borrowed` waits itself.
unsafe impl Work for BorrowedWork {
    type Output = io::Result<usize>;

    fn traits(&self) -> Traits {
        Traits {
            may_go_on: self.rest.is_some(),
            ..Traits::default()
        }
    }

    fn describe(&mut self, iocb: &mut iocb) {
        iocb.aio_lio_opcode = self.opcode;
        iocb.aio_fildes = self.descriptor;
        iocb.aio_buf = self.address;
        iocb.aio_nbytes = self.length;
        // The kernel's offset is signed: it refuses what is beyond i64::MAX with EINVAL.
        iocb.aio_offset = self.offset.cast_signed();
        if let Some(rest) = &mut self.rest {
            rest.begin(iocb, &[]);
        }
    }

    fn proceed(&mut self, iocb: &mut iocb, answer: &mut i64) -> Progress {
        match &mut self.rest {
            Some(rest) => rest.proceed(iocb, &mut Vec::new(), answer),
            None => Progress::Done,
        }
    }

    unsafe fn finish(self, answer: i64) -> io::Result<usize> {
        if self.rest.is_some() {
            outcome_of_all(answer)
        } else {
            outcome(answer)
        }
    }
}
