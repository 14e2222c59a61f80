//! A file that is only borrowed could be closed before the kernel has the request.

use kiocb::op::Read;
use kiocb::Iocb;

fn main() {
    let file = std::fs::File::open("/dev/zero").unwrap();
    let _ = Iocb::alloc().init_rw(&file, Read, vec![0; 512], 0).wait();
}
