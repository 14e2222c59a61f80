//! A future that shuts down is made, and never polled.
#![deny(unused_must_use)]

fn main() -> std::io::Result<()> {
    let aio = kiocb::Aio::builder().build()?;
    aio.shutdown_async();
    Ok(())
}
