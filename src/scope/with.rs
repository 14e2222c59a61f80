//! The requests that can be made in a scope.

use super::options::IoOptions;
use super::work::BorrowedWork;
use super::{Scope, ScopedIo};
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsFd;

/// A [`Scope`] with options for the requests made by it: from [`Scope::with`].
#[derive(Clone, Copy)]
#[must_use = "it does nothing before a request is made by it"]
pub struct ScopeWith<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    options: IoOptions,
}

impl<'scope, 'env> Scope<'scope, 'env> {
    /// Options for the requests that are made by what is returned: [`RwFlags`](crate::RwFlags), an
    /// [`IoPriority`](crate::IoPriority), or [`IoOptions`] with both.
    ///
    /// ```
    /// use kiocb::{Aio, RwFlags};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let file = tempfile::tempfile()?;
    /// let pages = [[1; 512], [2; 512]];
    /// Aio::global()?.scope(|s| {
    ///     let durably = s.with(RwFlags::DSYNC);
    ///     let first = durably.write_all_at(&file, &pages[0], 0);
    ///     let second = durably.write_all_at(&file, &pages[1], 512);
    ///     first.wait().and(second.wait())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with(&'scope self, options: impl Into<IoOptions>) -> ScopeWith<'scope, 'env> {
        ScopeWith {
            scope: self,
            options: options.into(),
        }
    }

    /// A read into borrowed memory. Nothing is submitted yet: see [`Aio::scope`](crate::Aio::scope).
    pub fn read_at<F: AsFd>(
        &'scope self,
        file: &'scope F,
        buf: &'scope mut [u8],
        offset: u64,
    ) -> ScopedIo<'scope> {
        self.with(IoOptions::new()).read_at(file, buf, offset)
    }

    /// A write of borrowed memory. Nothing is submitted yet: see [`Aio::scope`](crate::Aio::scope).
    pub fn write_at<F: AsFd>(
        &'scope self,
        file: &'scope F,
        buf: &'scope [u8],
        offset: u64,
    ) -> ScopedIo<'scope> {
        self.with(IoOptions::new()).write_at(file, buf, offset)
    }

    /// A read that goes on until the borrowed memory is full, with the errors of
    /// [`Aio::read_exact_at`](crate::Aio::read_exact_at). Its result is the whole length.
    pub fn read_exact_at<F: AsFd>(
        &'scope self,
        file: &'scope F,
        buf: &'scope mut [u8],
        offset: u64,
    ) -> ScopedIo<'scope> {
        self.with(IoOptions::new()).read_exact_at(file, buf, offset)
    }

    /// A write that goes on until the borrowed memory is written, with the errors of
    /// [`Aio::write_all_at`](crate::Aio::write_all_at). Its result is the whole length.
    pub fn write_all_at<F: AsFd>(
        &'scope self,
        file: &'scope F,
        buf: &'scope [u8],
        offset: u64,
    ) -> ScopedIo<'scope> {
        self.with(IoOptions::new()).write_all_at(file, buf, offset)
    }

    /// A read into several buffers, one after the other: `preadv(2)`.
    pub fn read_vectored_at<F: AsFd>(
        &'scope self,
        file: &'scope F,
        bufs: &'scope mut [IoSliceMut<'_>],
        offset: u64,
    ) -> ScopedIo<'scope> {
        self.with(IoOptions::new())
            .read_vectored_at(file, bufs, offset)
    }

    /// A write of several buffers, one after the other: `pwritev(2)`.
    pub fn write_vectored_at<F: AsFd>(
        &'scope self,
        file: &'scope F,
        bufs: &'scope [IoSlice<'_>],
        offset: u64,
    ) -> ScopedIo<'scope> {
        self.with(IoOptions::new())
            .write_vectored_at(file, bufs, offset)
    }

    /// A sync of data and metadata: `fsync(2)`. Its result is 0. It is **not ordered** after the writes of
    /// the scope: make it when their results have come, or in the next scope.
    ///
    /// ```
    /// use kiocb::Aio;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let (data, index) = (tempfile::tempfile()?, tempfile::tempfile()?);
    /// Aio::global()?.scope(|s| {
    ///     let writes = [s.write_all_at(&data, b"row", 0), s.write_all_at(&index, b"key", 0)];
    ///     writes.into_iter().try_for_each(|write| write.wait().map(drop))?;
    ///     let syncs = [s.fdatasync(&data), s.fdatasync(&index)]; // both at once
    ///     syncs.into_iter().try_for_each(|sync| sync.wait().map(drop))
    /// })
    /// # }
    /// ```
    pub fn fsync<F: AsFd>(&'scope self, file: &'scope F) -> ScopedIo<'scope> {
        self.with(IoOptions::new()).fsync(file)
    }

    /// A sync of data, and of what is needed to read them back: `fdatasync(2)`. Otherwise as
    /// [`fsync`](Scope::fsync).
    pub fn fdatasync<F: AsFd>(&'scope self, file: &'scope F) -> ScopedIo<'scope> {
        self.with(IoOptions::new()).fdatasync(file)
    }
}

impl<'scope> ScopeWith<'scope, '_> {
    /// As [`Scope::read_at`], with the options.
    pub fn read_at<F: AsFd>(
        &self,
        file: &'scope F,
        buf: &'scope mut [u8],
        offset: u64,
    ) -> ScopedIo<'scope> {
        self.add(BorrowedWork::read(file.as_fd(), buf, offset))
    }

    /// As [`Scope::write_at`], with the options.
    pub fn write_at<F: AsFd>(
        &self,
        file: &'scope F,
        buf: &'scope [u8],
        offset: u64,
    ) -> ScopedIo<'scope> {
        self.add(BorrowedWork::write(file.as_fd(), buf, offset))
    }

    /// As [`Scope::read_exact_at`], with the options.
    pub fn read_exact_at<F: AsFd>(
        &self,
        file: &'scope F,
        buf: &'scope mut [u8],
        offset: u64,
    ) -> ScopedIo<'scope> {
        self.add(BorrowedWork::read(file.as_fd(), buf, offset).exact())
    }

    /// As [`Scope::write_all_at`], with the options.
    pub fn write_all_at<F: AsFd>(
        &self,
        file: &'scope F,
        buf: &'scope [u8],
        offset: u64,
    ) -> ScopedIo<'scope> {
        self.add(BorrowedWork::write(file.as_fd(), buf, offset).exact())
    }

    /// As [`Scope::read_vectored_at`], with the options.
    pub fn read_vectored_at<F: AsFd>(
        &self,
        file: &'scope F,
        bufs: &'scope mut [IoSliceMut<'_>],
        offset: u64,
    ) -> ScopedIo<'scope> {
        self.add(BorrowedWork::read_vectored(file.as_fd(), bufs, offset))
    }

    /// As [`Scope::write_vectored_at`], with the options.
    pub fn write_vectored_at<F: AsFd>(
        &self,
        file: &'scope F,
        bufs: &'scope [IoSlice<'_>],
        offset: u64,
    ) -> ScopedIo<'scope> {
        self.add(BorrowedWork::write_vectored(file.as_fd(), bufs, offset))
    }

    /// As [`Scope::fsync`], with the options. The result is EINVAL for any [flags](IoOptions::rw_flags).
    pub fn fsync<F: AsFd>(&self, file: &'scope F) -> ScopedIo<'scope> {
        self.add(BorrowedWork::fsync(file.as_fd()))
    }

    /// As [`Scope::fdatasync`], with the options. The result is EINVAL for any
    /// [flags](IoOptions::rw_flags).
    pub fn fdatasync<F: AsFd>(&self, file: &'scope F) -> ScopedIo<'scope> {
        self.add(BorrowedWork::fdatasync(file.as_fd()))
    }

    /// What the work names is borrowed for the scope's lifetime, by the callers above.
    fn add(&self, work: BorrowedWork) -> ScopedIo<'scope> {
        self.scope.add(work, self.options)
    }
}

impl fmt::Debug for ScopeWith<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeWith")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
