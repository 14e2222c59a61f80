//! Any operation on one type of file and one type of buffer, as one type.
#![allow(unsafe_code, reason = "passes on the promise of the operation inside")]

use super::exact::Exact;
use super::fsync::Fsync;
use super::poll_ready::{PollReady, Readiness};
use super::request::Request;
use super::rw::Rw;
use super::transfer::{Read, ReadV, Write, WriteV};
use super::work::{Progress, Traits, Work};
use crate::buf::{IoBuf, IoBufMut};
use crate::completion::Completion;
use crate::sys::iocb;
use std::fmt;
use std::os::fd::AsFd;

/// A read, a write, a vectored one, a sync or a wait for readiness: made from any of them by
/// [`mixed`](crate::Iocb::mixed). So requests of several kinds fit into one `Vec`, one
/// [`Queue`](crate::Queue), one function.
///
/// Its outcome is a [`Completion`] with a [`MixedBuf`]. The result of a wait for readiness is the number of
/// its [`PollFlags`](crate::PollFlags) (`PollFlags::from_bits_retain`).
///
/// A read or write of one buffer, a sync and a poll allocate nothing. A vectored one and an exact one are
/// kept in a box, because the others would be larger by what they need.
pub struct Mixed<F, B: IoBuf + IoBufMut>(Kind<F, B>);

enum Kind<F, B: IoBuf + IoBufMut> {
    Read(Rw<F, Read, B>),
    Write(Rw<F, Write, B>),
    ReadV(Box<Rw<F, ReadV, Vec<B>>>),
    WriteV(Box<Rw<F, WriteV, Vec<B>>>),
    ReadExact(Box<Exact<F, Read, B>>),
    WriteAll(Box<Exact<F, Write, B>>),
    Sync(Fsync<F>),
    Poll(PollReady<F>),
}

/// The buffer of a [`Mixed`] request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MixedBuf<B> {
    /// Of a sync, or a wait for readiness.
    None,
    /// Of a read or write.
    One(B),
    /// Of a vectored one.
    Many(Vec<B>),
}

impl<B> MixedBuf<B> {
    /// The one buffer of a read or write; `None` where there is none, or several.
    pub fn one(self) -> Option<B> {
        match self {
            MixedBuf::One(buf) => Some(buf),
            MixedBuf::None | MixedBuf::Many(_) => None,
        }
    }

    /// All buffers: none, one or several.
    pub fn all(self) -> Vec<B> {
        match self {
            MixedBuf::None => Vec::new(),
            MixedBuf::One(buf) => vec![buf],
            MixedBuf::Many(bufs) => bufs,
        }
    }
}

/// What [`mixed`](crate::Iocb::mixed) turns into a [`Mixed`]: reads and writes of a `B` or of a `Vec<B>`,
/// exact ones of a `B`, syncs and waits for readiness, on an `F`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't become a `kiocb::op::Mixed` of `{F}` and `{B}`",
    label = "reads and writes of `{B}` or `Vec<{B}>`, syncs and polls can",
    note = "all requests of one queue have one type of file and one type of buffer, which reads can fill"
)]
pub trait IntoMixed<F, B: IoBuf + IoBufMut>: Request {
    /// The same request.
    fn into_mixed(self) -> Mixed<F, B>;
}

macro_rules! into_mixed {
    ($($operation:ty => $kind:ident $boxed:expr;)*) => {$(
        impl<F, B> IntoMixed<F, B> for $operation
        where
            F: AsFd + Send + 'static,
            B: IoBuf + IoBufMut + Send + 'static,
        {
            fn into_mixed(self) -> Mixed<F, B> {
                Mixed(Kind::$kind($boxed(self)))
            }
        }
    )*};
}

into_mixed! {
    Rw<F, Read, B> => Read std::convert::identity;
    Rw<F, Write, B> => Write std::convert::identity;
    Rw<F, ReadV, Vec<B>> => ReadV Box::new;
    Rw<F, WriteV, Vec<B>> => WriteV Box::new;
    Exact<F, Read, B> => ReadExact Box::new;
    Exact<F, Write, B> => WriteAll Box::new;
    Fsync<F> => Sync std::convert::identity;
    PollReady<F> => Poll std::convert::identity;
}

impl<F, B> Request for Mixed<F, B>
where
    F: AsFd + Send + 'static,
    B: IoBuf + IoBufMut + Send + 'static,
{
}

/// The same expression for each kind.
macro_rules! each {
    ($kind:expr, $operation:ident => $result:expr) => {
        match $kind {
            Kind::Read($operation) => $result,
            Kind::Write($operation) => $result,
            Kind::ReadV($operation) => $result,
            Kind::WriteV($operation) => $result,
            Kind::ReadExact($operation) => $result,
            Kind::WriteAll($operation) => $result,
            Kind::Sync($operation) => $result,
            Kind::Poll($operation) => $result,
        }
    };
}

// SAFETY: the promise of the operation inside, which is a field, or lies in a box of its own that stays where
// it is.
unsafe impl<F, B> Work for Mixed<F, B>
where
    F: AsFd + Send + 'static,
    B: IoBuf + IoBufMut + Send + 'static,
{
    type Output = Completion<F, MixedBuf<B>>;

    fn traits(&self) -> Traits {
        each!(&self.0, operation => operation.traits())
    }

    #[inline]
    fn describe(&mut self, iocb: &mut iocb) {
        each!(&mut self.0, operation => operation.describe(iocb));
    }

    fn proceed(&mut self, iocb: &mut iocb, result: &mut i64) -> Progress {
        each!(&mut self.0, operation => operation.proceed(iocb, result))
    }

    #[inline]
    unsafe fn finish(self, result: i64) -> Self::Output {
        macro_rules! done {
            ($operation:expr) => {
                // SAFETY: passed on.
                unsafe { $operation.finish(result) }
            };
        }
        match self.0 {
            Kind::Read(rw) => with_buf(done!(rw), MixedBuf::One),
            Kind::Write(rw) => with_buf(done!(rw), MixedBuf::One),
            Kind::ReadV(rw) => with_buf(done!(rw), MixedBuf::Many),
            Kind::WriteV(rw) => with_buf(done!(rw), MixedBuf::Many),
            Kind::ReadExact(exact) => with_buf(done!(exact), MixedBuf::One),
            Kind::WriteAll(exact) => with_buf(done!(exact), MixedBuf::One),
            Kind::Sync(sync) => with_buf(done!(sync), |()| MixedBuf::None),
            Kind::Poll(poll) => ready(done!(poll)),
        }
    }
}

/// The events are the result.
fn ready<F, B>(done: Readiness<F>) -> Completion<F, MixedBuf<B>> {
    Completion {
        result: done.result.map(|events| events.bits().into()),
        buf: MixedBuf::None,
        file: done.file,
    }
}

#[inline]
fn with_buf<F, A, B>(
    done: Completion<F, A>,
    buf: impl FnOnce(A) -> MixedBuf<B>,
) -> Completion<F, MixedBuf<B>> {
    Completion {
        result: done.result,
        buf: buf(done.buf),
        file: done.file,
    }
}

impl<F, B: IoBuf + IoBufMut> Mixed<F, B> {
    pub(crate) fn into_parts(self) -> (F, MixedBuf<B>) {
        match self.0 {
            Kind::Read(rw) => one(rw.into_parts()),
            Kind::Write(rw) => one(rw.into_parts()),
            Kind::ReadV(rw) => many(rw.into_parts()),
            Kind::WriteV(rw) => many(rw.into_parts()),
            Kind::ReadExact(exact) => one(exact.into_inner().into_parts()),
            Kind::WriteAll(exact) => one(exact.into_inner().into_parts()),
            Kind::Sync(sync) => (sync.into_file(), MixedBuf::None),
            Kind::Poll(poll) => (poll.into_file(), MixedBuf::None),
        }
    }
}

fn one<F, B>((file, buf): (F, B)) -> (F, MixedBuf<B>) {
    (file, MixedBuf::One(buf))
}

fn many<F, B>((file, bufs): (F, Vec<B>)) -> (F, MixedBuf<B>) {
    (file, MixedBuf::Many(bufs))
}

impl<F, B: IoBuf + IoBufMut> fmt::Debug for Mixed<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Read(_) => "Mixed(Read)",
            Kind::Write(_) => "Mixed(Write)",
            Kind::ReadV(_) => "Mixed(ReadV)",
            Kind::WriteV(_) => "Mixed(WriteV)",
            Kind::ReadExact(_) => "Mixed(ReadExact)",
            Kind::WriteAll(_) => "Mixed(WriteAll)",
            Kind::Sync(_) => "Mixed(Sync)",
            Kind::Poll(_) => "Mixed(Poll)",
        })
    }
}
