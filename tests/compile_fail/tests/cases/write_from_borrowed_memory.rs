//! A write of bytes that live on the stack of the caller.

use kiocb::op::Write;
use kiocb::Iocb;

fn main() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let buf = vec![0; 512];
    let _ = Iocb::alloc().init_rw(file, Write, &buf[..], 0).wait();
}
