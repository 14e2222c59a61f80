//! The buffer comes back on another thread.

use kiocb::op::WriteV;
use kiocb::Iocb;
use std::rc::Rc;

fn main() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let _ = Iocb::alloc().init_rw(file, WriteV, Rc::new([0; 512]), 0).wait();
}
