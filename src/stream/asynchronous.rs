//! Streams in async code, without a runtime.

use super::how::How;
use super::reader::StreamReader;
use super::writer::StreamWriter;
use crate::direct::DirectFile;
use crate::sync_scheduler::SyncKind;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Poll, ready};

/// In async code. A future that is dropped has taken no bytes off the stream.
impl StreamReader {
    /// Returns bytes as soon as there are any; none at the end. [`consume`](Self::consume) passes over them.
    ///
    /// # Errors
    /// See [the type](Self#errors).
    pub async fn fill_buf_async(&mut self) -> io::Result<&[u8]> {
        poll_fn(|context| self.fill(&mut How::Poll(context)).map_ok(|_| ())).await?;
        Ok(self.unread())
    }

    /// Reads as many bytes as there are, up to the buffer's length; 0 at the end.
    ///
    /// # Errors
    /// See [the type](Self#errors).
    pub async fn read_async(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| self.read_into(buf, &mut How::Poll(context))).await
    }

    /// Fills the buffer. If the future is dropped, what was read by then is in the buffer, and
    /// [`position`](Self::position) says how much.
    ///
    /// # Errors
    /// See [the type](Self#errors). [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the stream ends before.
    pub async fn read_exact_async(&mut self, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let count = self.read_async(buf).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buf = &mut buf[count..];
        }
        Ok(())
    }
}

/// In async code. A future that is dropped has taken all of its bytes or none, but for
/// [`write_all_async`](StreamWriter::write_all_async) and [`finish_async`](StreamWriter::finish_async).
impl StreamWriter {
    /// Takes bytes, at least one of those that there are, and returns how many.
    ///
    /// ```
    /// use kiocb::stream::{StreamReader, StreamWriter};
    /// use kiocb::{Aio, DirectFile};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("file");
    /// # tokio::runtime::Builder::new_multi_thread().build()?.block_on(async {
    /// let aio = Aio::global()?;
    /// let file = DirectFile::options().read(true).write(true).create(true).open_or_buffered(&path)?;
    /// let mut writer = StreamWriter::new(&aio, file)?;
    /// writer.write_all_async(b"hello, ").await?;
    /// writer.sync_async().await?; // that is durable
    /// writer.write_all_async(b"world").await?;
    /// let file = writer.finish_async().await?;
    ///
    /// let mut reader = StreamReader::new(&aio, file)?;
    /// assert_eq!(reader.fill_buf_async().await?, b"hello, world");
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [the type](Self#errors-stay).
    pub async fn write_async(&mut self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|context| self.push(bytes, &mut How::Poll(context))).await
    }

    /// Takes all bytes. If the future is dropped, [`position`](Self::position) says how many it has taken.
    ///
    /// # Errors
    /// See [the type](Self#errors-stay).
    pub async fn write_all_async(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.write_async(bytes).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// As [`flush`](std::io::Write::flush): returns when all bytes are in the file.
    ///
    /// # Errors
    /// See [the type](Self#errors-stay).
    pub async fn flush_async(&mut self) -> io::Result<()> {
        poll_fn(|context| self.flush_all(&mut How::Poll(context))).await
    }

    /// As [`sync`](Self::sync): returns when they are durable.
    ///
    /// # Errors
    /// See [the type](Self#errors-stay).
    pub async fn sync_async(&mut self) -> io::Result<()> {
        poll_fn(|context| self.sync_all(SyncKind::Data, &mut How::Poll(context))).await
    }

    /// As [`skip`](Self::skip).
    ///
    /// # Errors
    /// As there.
    pub async fn skip_async(&mut self, bytes: u64) -> io::Result<()> {
        poll_fn(|context| self.skip_by(bytes, &mut How::Poll(context))).await
    }

    /// As [`finish`](Self::finish). If the future is dropped, the stream is, [without
    /// finish](Self#dropping-without-finish). Setting the length blocks.
    ///
    /// # Errors
    /// See [the type](Self#errors-stay).
    pub async fn finish_async(mut self) -> io::Result<Arc<DirectFile>> {
        poll_fn(|context| {
            ready!(self.finish_all(&mut How::Poll(context)))?;
            Poll::Ready(Ok(Arc::clone(self.file())))
        })
        .await
    }
}
