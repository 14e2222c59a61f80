//! What was submitted is not the caller's any more.

use kiocb::op::Read;
use kiocb::Iocb;

fn main() {
    let file = std::fs::File::open("/dev/zero").unwrap();
    let buf = vec![0; 512];
    let request = Iocb::alloc().init_rw(file, Read, buf, 0);
    let request = request.init_callback(|_| ());
    request.submit().unwrap();
    request.submit().unwrap();
    println!("{}", buf[0]);
}
