//! The callback runs on another thread, so what it captures has to be able to go there.

use kiocb::op::Read;
use kiocb::Iocb;
use std::rc::Rc;

fn main() {
    let file = std::fs::File::open("/dev/zero").unwrap();
    let here = Rc::new(5);
    let request = Iocb::alloc().init_rw(file, Read, vec![0; 512], 0);
    let _ = request.init_callback(move |_| println!("{here}")).submit();
}
