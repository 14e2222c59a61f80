//! The result of a request of a scope is asked for, and not looked at.
#![deny(unused_must_use)]

use kiocb::Aio;

fn main() -> std::io::Result<()> {
    let file = std::fs::File::open("/dev/zero")?;
    let mut page = [0; 512];
    Aio::global()?.scope(|s| {
        s.read_at(&file, &mut page, 0).wait();
    });
    Ok(())
}
