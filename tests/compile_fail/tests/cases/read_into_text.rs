//! A read into a `String`, which must stay UTF-8.

use kiocb::op::Read;
use kiocb::Iocb;

fn main() {
    let file = std::fs::File::open("/dev/zero").unwrap();
    let _ = Iocb::alloc().init_rw(file, Read, String::with_capacity(512), 0).wait();
}
