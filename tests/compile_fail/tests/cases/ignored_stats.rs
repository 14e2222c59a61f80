//! Figures that are asked for and not looked at.
#![deny(unused_must_use)]

use kiocb::Aio;

fn main() -> std::io::Result<()> {
    Aio::global()?.stats();
    Ok(())
}
