//! A wait for readiness may have failed.
#![deny(unused_must_use)]

use kiocb::{Iocb, PollFlags};

fn main() -> std::io::Result<()> {
    let (reader, _writer) = std::io::pipe()?;
    Iocb::alloc().init_poll(reader, PollFlags::IN).wait()?;
    Ok(())
}
