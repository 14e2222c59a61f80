//! A handle is waited for, and what it says is not looked at.
#![deny(unused_must_use)]

use kiocb::Iocb;
use kiocb::op::Read;

fn main() -> std::io::Result<()> {
    let file = std::fs::File::open("/dev/zero")?;
    let pending = Iocb::alloc().init_rw(file, Read, [0; 512], 0).start()?;
    pending.wait();
    Ok(())
}
