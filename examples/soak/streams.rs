//! Streams: a whole file is written behind and read ahead.

use crate::store::{fill, holds, open};
use crate::worker::Worker;
use kiocb::stream::StreamOptions;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

impl Worker<'_> {
    pub(crate) fn stream(&mut self) {
        let path = &self.round.stores.streams[self.thread];
        let mut bytes = vec![0; 8 * (1 + self.below(8192)) as usize];
        let version = self.dice.next();
        fill(&mut bytes, self.thread, version);
        match self.write_and_read(path, &bytes) {
            Ok(read) if read.len() == bytes.len() && holds(&read, self.thread, version) => {}
            Ok(read) => {
                let (read, written) = (read.len(), bytes.len());
                self.round.ledger.fault(format!(
                    "{written} bytes were streamed, and {read} came back, or others"
                ));
            }
            Err(error) => self.round.ledger.error(&error, self.round.faults),
        }
    }

    fn write_and_read(&mut self, path: &Path, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let file = open(path)?;
        file.file().set_len(0)?;
        let options = StreamOptions::new()
            .depth(1 + self.below(6) as usize)
            .block(16 << 10);
        let mut writer = options.writer(&self.round.aio, file)?;
        for piece in bytes.chunks(1 + self.below(20_000) as usize) {
            writer.write_all(piece)?;
        }
        if self.below(4) == 0 {
            writer.sync()?;
        }
        let file = writer.finish()?;
        let mut read = Vec::new();
        options
            .reader(&self.round.aio, file)?
            .read_to_end(&mut read)?;
        Ok(read)
    }
}
