//! A file shared by `Rc` can't follow its request to another thread; `Arc` can.

use kiocb::op::Read;
use kiocb::Iocb;
use std::rc::Rc;

fn main() {
    let file = Rc::new(std::fs::File::open("/dev/zero").unwrap());
    let _ = Iocb::alloc().init_rw(file, Read, vec![0; 512], 0).wait();
}
