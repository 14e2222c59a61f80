//! A queue whose tags are not `Send` stays on the thread that they belong to.

use kiocb::Aio;
use kiocb::op::Read;
use std::rc::Rc;

fn main() {
    let aio = Aio::builder().build_local().unwrap();
    let file = std::fs::File::open("/dev/zero").unwrap();
    let queue = aio.queue();
    let read = aio.alloc().init_rw(file, Read, vec![0; 512], 0);
    queue.push(read, Rc::new(5)).unwrap();
    std::thread::spawn(move || queue.drain().count());
}
