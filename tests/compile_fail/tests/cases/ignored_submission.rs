//! A future that is not awaited: nothing is submitted.
#![deny(unused_must_use)]

use kiocb::Iocb;
use kiocb::op::Read;

fn main() -> std::io::Result<()> {
    let file = std::fs::File::open("/dev/zero")?;
    Iocb::alloc().init_rw(file, Read, [0; 512], 0).into_future();
    Ok(())
}
