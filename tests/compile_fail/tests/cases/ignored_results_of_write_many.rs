//! Some of many writes may have failed.
#![deny(unused_must_use)]

use kiocb::Aio;

fn main() -> std::io::Result<()> {
    let file = std::fs::File::create("/dev/null")?;
    Aio::global()?.write_many(&file, [(&b"page"[..], 0)]);
    Ok(())
}
