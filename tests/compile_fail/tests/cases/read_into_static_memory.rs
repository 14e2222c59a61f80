//! A read into memory that may not be written.

use kiocb::op::Read;
use kiocb::Iocb;

fn main() {
    let file = std::fs::File::open("/dev/zero").unwrap();
    let words: &'static [u8] = b"constant";
    let _ = Iocb::alloc().init_rw(file, Read, words, 0).wait();
}
