//! Some of a batch may not have been submitted.
#![deny(unused_must_use)]

use kiocb::Aio;

fn main() -> std::io::Result<()> {
    let aio = Aio::global()?;
    aio.batch().submit();
    Ok(())
}
