//! Streams as std's readers and writers, which block.

use super::how::{How, ready};
use super::reader::StreamReader;
use super::writer::StreamWriter;
use std::io;

impl io::Read for StreamReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        ready(self.read_into(buf, &mut How::Block))
    }
}

impl io::BufRead for StreamReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        ready(self.fill(&mut How::Block))
    }

    fn consume(&mut self, count: usize) {
        StreamReader::consume(self, count);
    }
}

impl io::Write for StreamWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        ready(self.push(buf, &mut How::Block))
    }

    fn flush(&mut self) -> io::Result<()> {
        ready(self.flush_all(&mut How::Block))
    }
}
