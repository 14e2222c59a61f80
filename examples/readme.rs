//! Reads eight blocks of a file at once, past the page cache, each with a callback.

use kiocb::op::Read;
use kiocb::{Aio, DirectFile, Iocb};
use std::sync::Arc;

fn main() -> std::io::Result<()> {
    let path = std::env::current_exe()?;
    let file = Arc::new(DirectFile::options().read(true).open_or_buffered(path)?);
    for offset in (0..8).map(|block| block * 4096) {
        Iocb::alloc()
            .init_rw(file.clone(), Read, file.buffer(4096), offset)
            .init_callback(move |done| match done.result {
                Ok(bytes) => println!("{bytes} bytes at {offset}: {:02x?} …", &done.buf[..4]),
                Err(error) => println!("nothing at {offset}: {error}"),
            })
            .submit()?;
    }
    Aio::global()?.drain() // returns when every callback has
}
