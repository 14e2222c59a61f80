//! A queue that is made and dropped.
#![deny(unused_must_use)]

use kiocb::Aio;
use kiocb::op::Fsync;
use std::fs::File;

fn main() -> std::io::Result<()> {
    let aio = Aio::global()?;
    aio.queue::<u64, Fsync<File>>();
    Ok(())
}
