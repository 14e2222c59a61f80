//! What a request can be taken apart into: to use it again, or what a refused one carried.

use super::Iocb;
use crate::buf::{IoBuf, IoBufMut};
use crate::op::{Callback, Exact, Fsync, Mixed, MixedBuf, Operation, PollReady, Request, Rw};
use std::os::fd::AsFd;

impl<S: Request, C> Iocb<Callback<S, C>> {
    /// Takes the callback off again: what a refused request carried.
    pub fn into_parts(self) -> (Iocb<S>, C) {
        let (state, callback) = self.state.into_parts();
        (
            Iocb {
                target: self.target,
                options: self.options,
                state,
            },
            callback,
        )
    }
}

impl<F: AsFd + Send + 'static, O: Operation<B>, B: Send + 'static> Iocb<Rw<F, O, B>> {
    /// Takes the request apart: the file and the buffer that it would have used.
    pub fn into_parts(self) -> (F, B) {
        self.state.into_parts()
    }
}

impl<F: AsFd + Send + 'static, O: Operation<B>, B: Send + 'static> Iocb<Exact<F, O, B>> {
    /// Takes the request apart: the file and the buffer that it would have used.
    pub fn into_parts(self) -> (F, B) {
        self.state.into_inner().into_parts()
    }
}

impl<F: AsFd + Send + 'static> Iocb<PollReady<F>> {
    /// Takes the request apart: the file that it would have waited for.
    pub fn into_file(self) -> F {
        self.state.into_file()
    }
}

impl<F: AsFd + Send + 'static> Iocb<Fsync<F>> {
    /// Takes the request apart: the file that it would have synced.
    pub fn into_file(self) -> F {
        self.state.into_file()
    }
}

impl<F: AsFd + Send + 'static, B: IoBuf + IoBufMut + Send + 'static> Iocb<Mixed<F, B>> {
    /// Takes the request apart: the file and the buffer that it would have used.
    pub fn into_parts(self) -> (F, MixedBuf<B>) {
        self.state.into_parts()
    }
}
