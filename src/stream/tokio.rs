//! Streams as the readers and writers of the crate `tokio`.

use super::how::How;
use super::reader::StreamReader;
use super::writer::StreamWriter;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

impl AsyncRead for StreamReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() > 0 {
            let bytes = ready!(self.fill(&mut How::Poll(context)))?;
            let count = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..count]);
            self.consume(count);
        }
        Poll::Ready(Ok(()))
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

/// `shutdown` is [`finish`](StreamWriter::finish).
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

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish_all(&mut How::Poll(context))
    }
}
