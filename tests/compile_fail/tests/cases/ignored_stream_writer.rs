//! A stream is made, and nothing is written.
#![deny(unused_must_use)]

use kiocb::stream::StreamWriter;
use kiocb::{Aio, DirectFile};

fn main() -> std::io::Result<()> {
    let file = DirectFile::options().write(true).open_or_buffered("file")?;
    StreamWriter::new(&Aio::global()?, file)?;
    Ok(())
}
