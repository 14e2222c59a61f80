//! Requests over borrowed memory one at a time: each call returns when its request is complete.

use super::AbortOnUnwind;
use super::options::IoOptions;
use super::work::BorrowedWork;
use crate::aio::Aio;
use crate::op::Job;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsFd;

/// An [`Aio`] with options for the calls made on it: from [`Aio::with`].
#[derive(Clone, Copy)]
#[must_use = "it does nothing before a call is made on it"]
pub struct AioWith<'a> {
    aio: &'a Aio,
    options: IoOptions,
}

impl Aio {
    /// Options for the calls that are made on what is returned: [`RwFlags`](crate::RwFlags), an
    /// [`IoPriority`](crate::IoPriority), or [`IoOptions`] with both.
    ///
    /// ```
    /// use kiocb::{Aio, RwFlags};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let file = tempfile::tempfile()?;
    /// Aio::global()?.with(RwFlags::DSYNC).write_all_at(&file, b"durable when it returns", 0)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with(&self, options: impl Into<IoOptions>) -> AioWith<'_> {
        AioWith {
            aio: self,
            options: options.into(),
        }
    }

    /// Reads into borrowed memory at `offset`: `pread(2)`. Blocks; the thread takes the completion itself.
    /// May return fewer bytes than asked for.
    ///
    /// # Errors
    /// As [`Iocb::submit`](crate::Iocb::submit) and [`Completion::result`](crate::Completion::result).
    pub fn read_at(&self, file: &impl AsFd, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(IoOptions::new()).read_at(file, buf, offset)
    }

    /// Writes borrowed memory at `offset`: `pwrite(2)`. Otherwise as [`read_at`](Aio::read_at).
    ///
    /// # Errors
    /// As `read_at`.
    pub fn write_at(&self, file: &impl AsFd, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.with(IoOptions::new()).write_at(file, buf, offset)
    }

    /// Fills borrowed memory from `offset` on: goes on after a short read, as
    /// [`Iocb::read_exact`](crate::Iocb::read_exact). Blocks; allocates nothing.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let file = tempfile::tempfile()?;
    /// let aio = kiocb::Aio::global()?;
    /// aio.write_all_at(&file, b"begin; commit", 0)?;
    /// aio.fdatasync(&file)?; // it is durable
    ///
    /// let mut record = [0; 6];
    /// aio.read_exact_at(&file, &mut record, 7)?;
    /// assert_eq!(&record, b"commit");
    /// let beyond = aio.read_exact_at(&file, &mut record, 8).unwrap_err();
    /// assert_eq!(beyond.kind(), std::io::ErrorKind::UnexpectedEof);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) where the file ends before the buffer is full; else as
    /// [`read_at`](Aio::read_at). After an error the buffer holds what was read before, and perhaps more.
    pub fn read_exact_at(&self, file: &impl AsFd, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(IoOptions::new()).read_exact_at(file, buf, offset)
    }

    /// Writes all of the borrowed memory at `offset`: goes on after a short write, as
    /// [`Iocb::write_all`](crate::Iocb::write_all). Blocks; allocates nothing.
    ///
    /// # Errors
    /// [`WriteZero`](io::ErrorKind::WriteZero) where the file takes no more and gives no reason; else as
    /// [`read_at`](Aio::read_at). After an error a part may have been written.
    pub fn write_all_at(&self, file: &impl AsFd, buf: &[u8], offset: u64) -> io::Result<()> {
        self.with(IoOptions::new()).write_all_at(file, buf, offset)
    }

    /// Reads into several buffers, one after the other: `preadv(2)`. Otherwise as [`read_at`](Aio::read_at).
    ///
    /// ```
    /// use std::io::{IoSlice, IoSliceMut};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let file = tempfile::tempfile()?;
    /// let aio = kiocb::Aio::global()?;
    /// assert_eq!(aio.write_vectored_at(&file, &[IoSlice::new(b"head"), IoSlice::new(b"body")], 0)?, 8);
    /// let (mut head, mut body) = ([0; 4], [0; 8]);
    /// let mut bufs = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut body)];
    /// assert_eq!(aio.read_vectored_at(&file, &mut bufs, 0)?, 8);
    /// assert_eq!((&head, &body[..4]), (b"head", &b"body"[..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// EINVAL for more than 1024 buffers (`IOV_MAX`); else as `read_at`.
    pub fn read_vectored_at(
        &self,
        file: &impl AsFd,
        bufs: &mut [IoSliceMut<'_>],
        offset: u64,
    ) -> io::Result<usize> {
        self.with(IoOptions::new())
            .read_vectored_at(file, bufs, offset)
    }

    /// Writes several buffers, one after the other: `pwritev(2)`. Otherwise as
    /// [`read_vectored_at`](Aio::read_vectored_at).
    ///
    /// # Errors
    /// As `read_vectored_at`.
    pub fn write_vectored_at(
        &self,
        file: &impl AsFd,
        bufs: &[IoSlice<'_>],
        offset: u64,
    ) -> io::Result<usize> {
        self.with(IoOptions::new())
            .write_vectored_at(file, bufs, offset)
    }

    /// Flushes data and metadata of `file` to its device: `fsync(2)`, on a kernel thread, while this thread
    /// waits for it. What [`init_fsync`](crate::Iocb::init_fsync) says holds: it is **not ordered** after
    /// writes in flight.
    ///
    /// # Errors
    /// As [`init_fsync`](crate::Iocb::init_fsync), and an [`AioError`](crate::AioError) inside. Linux 4.18.
    pub fn fsync(&self, file: &impl AsFd) -> io::Result<()> {
        self.with(IoOptions::new()).fsync(file)
    }

    /// As [`fsync`](Aio::fsync), but without metadata that reading the data back does not need:
    /// `fdatasync(2)`.
    ///
    /// # Errors
    /// As `fsync`.
    pub fn fdatasync(&self, file: &impl AsFd) -> io::Result<()> {
        self.with(IoOptions::new()).fdatasync(file)
    }
}

impl AioWith<'_> {
    /// As [`Aio::read_at`], with the options.
    ///
    /// # Errors
    /// As [`Aio::read_at`].
    pub fn read_at(&self, file: &impl AsFd, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.run(BorrowedWork::read(file.as_fd(), buf, offset))
    }

    /// As [`Aio::write_at`], with the options.
    ///
    /// # Errors
    /// As [`Aio::write_at`].
    pub fn write_at(&self, file: &impl AsFd, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.run(BorrowedWork::write(file.as_fd(), buf, offset))
    }

    /// As [`Aio::read_exact_at`], with the options.
    ///
    /// # Errors
    /// As [`Aio::read_exact_at`].
    pub fn read_exact_at(&self, file: &impl AsFd, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let read = BorrowedWork::read(file.as_fd(), buf, offset);
        self.run(read.exact()).map(drop)
    }

    /// As [`Aio::write_all_at`], with the options.
    ///
    /// # Errors
    /// As [`Aio::write_all_at`].
    pub fn write_all_at(&self, file: &impl AsFd, buf: &[u8], offset: u64) -> io::Result<()> {
        let write = BorrowedWork::write(file.as_fd(), buf, offset);
        self.run(write.exact()).map(drop)
    }

    /// As [`Aio::read_vectored_at`], with the options.
    ///
    /// # Errors
    /// As [`Aio::read_vectored_at`].
    pub fn read_vectored_at(
        &self,
        file: &impl AsFd,
        bufs: &mut [IoSliceMut<'_>],
        offset: u64,
    ) -> io::Result<usize> {
        self.run(BorrowedWork::read_vectored(file.as_fd(), bufs, offset))
    }

    /// As [`Aio::write_vectored_at`], with the options.
    ///
    /// # Errors
    /// As [`Aio::write_vectored_at`].
    pub fn write_vectored_at(
        &self,
        file: &impl AsFd,
        bufs: &[IoSlice<'_>],
        offset: u64,
    ) -> io::Result<usize> {
        self.run(BorrowedWork::write_vectored(file.as_fd(), bufs, offset))
    }

    /// As [`Aio::fsync`], with the options.
    ///
    /// # Errors
    /// EINVAL for any [flags](IoOptions::rw_flags); else as [`Aio::fsync`].
    pub fn fsync(&self, file: &impl AsFd) -> io::Result<()> {
        self.run(BorrowedWork::fsync(file.as_fd())).map(drop)
    }

    /// As [`Aio::fdatasync`], with the options.
    ///
    /// # Errors
    /// EINVAL for any [flags](IoOptions::rw_flags); else as [`Aio::fdatasync`].
    pub fn fdatasync(&self, file: &impl AsFd) -> io::Result<()> {
        self.run(BorrowedWork::fdatasync(file.as_fd())).map(drop)
    }

    /// Submits what the caller's arguments lend for the time of this call, and waits for it.
    fn run(&self, state: BorrowedWork) -> io::Result<usize> {
        let job = Job {
            state,
            options: self.options.into_options(),
        };
        let never_left_early = AbortOnUnwind;
        let result = self.aio.submit_and_wait(job);
        std::mem::forget(never_left_early);
        result.unwrap_or_else(|(refused, _)| Err(refused))
    }
}

impl fmt::Debug for AioWith<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AioWith")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
