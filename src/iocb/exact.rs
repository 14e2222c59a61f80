//! Requests that go on until all is transferred.

use super::Iocb;
use crate::op::{Exact, Operation, ReadOp, Rw, WriteOp};
use std::os::fd::AsFd;

impl<F: AsFd + Send + 'static, O: Operation<B>, B: Send + 'static> Iocb<Rw<F, O, B>> {
    /// Goes on after a short read, in the same request, until the buffer is full; a read that EINTR
    /// interrupted is repeated. The result is then the whole length; at the end of the file it is an error of
    /// kind [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof), and the buffer holds what there was.
    ///
    /// The thread that takes the event submits the rest: the completion thread, a thread that waits, a thread
    /// in `poll`. More than 2 GiB works, and more than 1024 pieces. Under O_DIRECT the rest begins at the
    /// last byte that is aligned as the file wants it (offsets as well as memory), so some is read twice. Any
    /// other error is the file's own and as at [`Completion::result`](crate::Completion::result), after a
    /// part was read.
    ///
    /// ```
    /// use kiocb::Iocb;
    /// use kiocb::op::Read;
    /// use std::io::ErrorKind;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("five");
    /// std::fs::write(&path, "hello")?;
    /// let file = std::fs::File::open(&path)?;
    /// let done = Iocb::alloc().init_rw(file, Read, [0; 8], 0).read_exact().wait()?;
    /// assert_eq!(done.result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    /// assert_eq!(&done.buf[..5], b"hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_exact(self) -> Iocb<Exact<F, O, B>>
    where
        O: ReadOp,
    {
        self.exact()
    }

    /// Goes on after a short write, in the same request, until all is written; a write that EINTR interrupted
    /// is repeated. The result is then the whole length; an error may come after a part was written: ENOSPC
    /// where a plain write would have said how far it came. If the file takes nothing and gives no reason, it
    /// is of kind [`WriteZero`](std::io::ErrorKind::WriteZero).
    ///
    /// The thread that takes the event submits the rest, as in [`read_exact`](Iocb::read_exact). Under
    /// O_DIRECT it begins at the last aligned byte, so some is written twice, with the same contents. With
    /// [`APPEND`](crate::RwFlags::APPEND) or O_APPEND each byte is written once, and the rest goes to the end
    /// of the file as that is then: another writer's data may come to lie between; under O_DIRECT it is
    /// EINVAL where the file refuses what is not aligned, after a part was written.
    pub fn write_all(self) -> Iocb<Exact<F, O, B>>
    where
        O: WriteOp,
    {
        self.exact()
    }

    /// For an operation that may be of either kind.
    pub(crate) fn exact(self) -> Iocb<Exact<F, O, B>> {
        self.map(Exact::new)
    }
}
