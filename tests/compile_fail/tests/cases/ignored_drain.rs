//! A future that drains is made, and never polled.
#![deny(unused_must_use)]

fn main() -> std::io::Result<()> {
    let aio = kiocb::Aio::global()?;
    aio.drain_async();
    Ok(())
}
