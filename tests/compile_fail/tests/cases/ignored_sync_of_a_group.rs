//! A barrier is made with a handle, and its result never asked for.
#![deny(unused_must_use)]

use kiocb::{Aio, SyncGroup, SyncKind};

fn main() -> std::io::Result<()> {
    let log = SyncGroup::new(&Aio::global()?, std::fs::File::create("log")?);
    log.sync(SyncKind::Data);
    Ok(())
}
