//! Another thread may reap the request, and drop its tag: it has to be able to go there.

use kiocb::Aio;
use kiocb::op::Read;
use std::rc::Rc;

fn main() {
    let aio = Aio::global().unwrap();
    let file = std::fs::File::open("/dev/zero").unwrap();
    let queue = aio.queue();
    let read = aio.alloc().init_rw(file, Read, vec![0; 512], 0);
    let _ = queue.push(read, Rc::new(5));
}
