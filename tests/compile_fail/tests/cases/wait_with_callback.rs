//! One request has one receiver: its callback, or who waits.

use kiocb::op::Read;
use kiocb::Iocb;

fn main() {
    let file = std::fs::File::open("/dev/zero").unwrap();
    let request = Iocb::alloc().init_rw(file, Read, vec![0; 512], 0);
    let _ = request.init_callback(|_| ()).wait();
}
