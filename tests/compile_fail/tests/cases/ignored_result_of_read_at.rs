//! A read may have failed.
#![deny(unused_must_use)]

use kiocb::Aio;

fn main() -> std::io::Result<()> {
    let file = std::fs::File::open("/dev/zero")?;
    let mut page = [0; 512];
    Aio::global()?.read_at(&file, &mut page, 0);
    Ok(())
}
