//! A future of a pool's buffer is made, and never polled.
#![deny(unused_must_use)]

fn main() -> std::io::Result<()> {
    let pool = kiocb::BufPool::new(1, 4096)?;
    pool.take_async();
    Ok(())
}
