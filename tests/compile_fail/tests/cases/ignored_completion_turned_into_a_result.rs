//! The short way to look, and then not looked.
#![deny(unused_must_use)]

use kiocb::Iocb;

fn main() -> std::io::Result<()> {
    let file = std::fs::File::open("/dev/zero")?;
    Iocb::alloc().init_fdsync(file).wait()?.ok();
    Ok(())
}
