//! A request that the queue may not have taken.
#![deny(unused_must_use)]

use kiocb::Aio;
use kiocb::op::Read;

fn main() {
    let aio = Aio::global().unwrap();
    let file = std::fs::File::open("/dev/zero").unwrap();
    let queue = aio.queue();
    queue.push(aio.alloc().init_rw(file, Read, vec![0; 512], 0), 5);
}
