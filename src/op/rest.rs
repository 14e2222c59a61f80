//! What is left of a transfer that came back short, and how an iocb is pointed to it.

use crate::buf::IoVec;
use crate::sys::iocb;
use std::ops::Deref;

/// How many pieces the kernel takes at once: `UIO_MAXIOV`.
pub(super) const MOST_PIECES: usize = 1024;

/// The pieces of a vectored transfer that are left: the kernel's view, shortened from the front.
#[derive(Debug)]
pub struct Rest(Vec<IoVec>);

impl Rest {
    /// All of them.
    pub(super) fn of(pieces: &[IoVec]) -> Rest {
        let mut rest = Rest(pieces.to_vec());
        if pieces.len() > MOST_PIECES {
            // As many empty pieces as the kernel takes would look like the end of the file.
            rest.skip_empty();
        }
        rest
    }

    /// How many bytes.
    pub(super) fn len(&self) -> u64 {
        total(&self.0)
    }

    /// How many of them the kernel is asked for at once.
    pub(super) fn asked(&self) -> u64 {
        total(self.window())
    }

    /// As many pieces as the kernel takes at once.
    fn window(&self) -> &[IoVec] {
        &self.0[..self.0.len().min(MOST_PIECES)]
    }

    /// Points the iocb to the pieces that are left. They stay where they are until this value is shortened,
    /// or dropped.
    pub(super) fn point(&self, iocb: &mut iocb) {
        let window = self.window();
        iocb.aio_buf = window.as_ptr().expose_provenance() as u64;
        iocb.aio_nbytes = window.len() as u64;
    }

    /// Takes `count` bytes off the front, and the empty pieces that are then in front.
    fn skip(&mut self, count: u64) {
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        let whole = self.0.iter().take_while(|piece| {
            let gone = piece.len() <= left;
            left -= if gone { piece.len() } else { 0 };
            gone
        });
        let whole = whole.count();
        self.0.drain(..whole);
        if let Some(first) = self.0.first_mut() {
            first.advance(left);
        }
    }

    fn skip_empty(&mut self) {
        self.skip(0);
    }
}

/// The iovec array of a vectored operation, and what is left of it once a part is transferred.
#[derive(Debug)]
pub struct Pieces<V> {
    whole: Option<V>,
    rest: Option<Box<Rest>>,
}

impl<V> Default for Pieces<V> {
    fn default() -> Self {
        Pieces {
            whole: None,
            rest: None,
        }
    }
}

impl<V: Deref<Target = [IoVec]>> Pieces<V> {
    pub(super) fn insert(&mut self, whole: V) -> &V {
        self.rest = None;
        self.whole.insert(whole)
    }
}

/// What an operation keeps beside its buffer, and what that says of the transfer: `()` where the iocb says it
/// all, [`Pieces`] where there is an iovec array.
pub trait View: Default + Send + 'static {
    /// The iovec array, where there is one.
    fn whole(&self) -> &[IoVec] {
        &[]
    }

    /// How many bytes are left of the transfer that `iocb` describes.
    fn left(&self, iocb: &iocb) -> u64 {
        iocb.aio_nbytes
    }

    /// How many of them the kernel is asked for at once.
    fn asked(&self, iocb: &iocb) -> u64 {
        self.left(iocb)
    }

    /// The pieces that are left, to be shortened, where there is an iovec array.
    fn rest(&mut self) -> Option<&mut Rest> {
        None
    }
}

impl View for () {}

impl<V: Deref<Target = [IoVec]> + Send + 'static> View for Pieces<V> {
    fn whole(&self) -> &[IoVec] {
        self.whole.as_deref().unwrap_or_default()
    }

    fn left(&self, _: &iocb) -> u64 {
        let rest = self.rest.as_deref();
        rest.map_or_else(|| total(self.whole()), Rest::len)
    }

    fn asked(&self, _: &iocb) -> u64 {
        let rest = self.rest.as_deref();
        rest.map_or_else(|| total(self.whole()), Rest::asked)
    }

    fn rest(&mut self) -> Option<&mut Rest> {
        if self.rest.is_none() {
            self.rest = Some(Box::new(Rest::of(self.whole())));
        }
        self.rest.as_deref_mut()
    }
}

/// How many bytes these pieces have.
pub(super) fn total(pieces: &[IoVec]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

/// Points the iocb to what lies `step` bytes further on in memory: in its one buffer, or in the pieces that
/// are left.
pub(super) fn advance(iocb: &mut iocb, rest: Option<&mut Rest>, step: u64) {
    match rest {
        Some(rest) => {
            rest.skip(step);
            rest.point(iocb);
        }
        None => {
            debug_assert!(step <= iocb.aio_nbytes);
            iocb.aio_buf += step;
            iocb.aio_nbytes -= step;
        }
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
        let mut rest = Rest::of(&[IoVec::new(memory.as_ptr(), 10); 3]);
        rest.skip(0);
        assert_eq!(lengths(&rest.0), [10, 10, 10]);
        rest.skip(13);
        assert_eq!(lengths(&rest.0), [7, 10]);
        assert_eq!(rest.0[0].as_ptr(), memory[3..].as_ptr());
        rest.skip(17);
        assert!(rest.0.is_empty());
    }

    #[test]
    fn the_kernel_gets_no_more_pieces_than_it_takes() {
        let memory = [0u8; 4];
        let (empty, full) = (
            IoVec::new(memory.as_ptr(), 0),
            IoVec::new(memory.as_ptr(), 4),
        );
        let mut pieces = vec![empty; 1500];
        pieces.extend(vec![full; 1500]);
        let mut rest = Rest::of(&pieces);
        let mut iocb = iocb::default();
        rest.point(&mut iocb);
        assert_eq!((iocb.aio_nbytes, rest.len()), (1024, 6000));
        assert_eq!(rest.asked(), 4096, "the empty ones are not sent");
        advance(&mut iocb, Some(&mut rest), 4097);
        assert_eq!((iocb.aio_nbytes, rest.len()), (476, 1903));
        assert_eq!(rest.asked(), 1903);
        assert_eq!(iocb.aio_buf, rest.0.as_ptr() as u64);
    }
}
