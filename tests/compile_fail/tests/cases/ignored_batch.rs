//! A batch that is made and not submitted.
#![deny(unused_must_use)]

use kiocb::Aio;

fn main() -> std::io::Result<()> {
    let aio = Aio::global()?;
    aio.batch();
    Ok(())
}
