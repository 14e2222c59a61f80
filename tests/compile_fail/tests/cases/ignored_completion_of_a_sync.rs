//! `?` says whether the sync was submitted: whether the data are safe was not looked at.
#![deny(unused_must_use)]

use kiocb::Iocb;

fn main() -> std::io::Result<()> {
    let file = std::fs::File::open("/dev/zero")?;
    Iocb::alloc().init_fdsync(file).wait()?;
    Ok(())
}
