//! Options are given to a context, and no call is made with them.
#![deny(unused_must_use)]

use kiocb::{Aio, RwFlags};

fn main() -> std::io::Result<()> {
    let aio = Aio::global()?;
    aio.with(RwFlags::DSYNC);
    Ok(())
}
