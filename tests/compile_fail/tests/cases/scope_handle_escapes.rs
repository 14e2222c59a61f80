//! The handle of a request, used when its scope is over.

use kiocb::Aio;

fn main() {
    let file = std::fs::File::open("/dev/zero").unwrap();
    let mut buf = [0; 512];
    let aio = Aio::global().unwrap();
    let read = aio.scope(|s| s.read_at(&file, &mut buf, 0));
    read.wait().unwrap();
}
