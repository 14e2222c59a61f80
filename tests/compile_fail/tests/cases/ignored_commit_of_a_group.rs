//! A record is committed, and whether it is durable never asked.
#![deny(unused_must_use)]

use kiocb::{Aio, SyncGroup};

fn main() -> std::io::Result<()> {
    let log = SyncGroup::new(&Aio::global()?, std::fs::File::create("log")?);
    log.commit("record", 0);
    Ok(())
}
