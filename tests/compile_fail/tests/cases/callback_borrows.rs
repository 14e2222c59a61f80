//! The callback may run after this function has returned.

use kiocb::op::Read;
use kiocb::Iocb;

fn main() {
    let file = std::fs::File::open("/dev/zero").unwrap();
    let mut count = 0;
    let request = Iocb::alloc().init_rw(file, Read, vec![0; 512], 0);
    let _ = request.init_callback(|_| count += 1).submit();
    println!("{count}");
}
