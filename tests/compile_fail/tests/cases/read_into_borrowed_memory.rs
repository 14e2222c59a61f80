//! A read into a borrowed buffer, as with `pread`.

use kiocb::op::Read;
use kiocb::Iocb;

fn main() {
    let file = std::fs::File::open("/dev/zero").unwrap();
    let mut buf = vec![0; 512];
    let _ = Iocb::alloc().init_rw(file, Read, &mut buf[..], 0).wait();
}
