//! Streams as the readers and writers of the crate `futures-io`.

use super::how::How;
use super::reader::StreamReader;
use super::writer::StreamWriter;
use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

impl AsyncRead for StreamReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.read_into(buf, &mut How::Poll(context))
    }
}

impl AsyncBufRead for StreamReader {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        self.get_mut().fill(&mut How::Poll(context))
    }

    fn consume(self: Pin<&mut Self>, count: usize) {
        StreamReader::consume(self.get_mut(), count);
    }
}

/// `close` is [`finish`](StreamWriter::finish).
impl AsyncWrite for StreamWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.push(buf, &mut How::Poll(context))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flush_all(&mut How::Poll(context))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish_all(&mut How::Poll(context))
    }
}
