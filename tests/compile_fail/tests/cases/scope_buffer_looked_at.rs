//! The kernel may be writing there.

use kiocb::Aio;

fn main() {
    let file = std::fs::File::open("/dev/zero").unwrap();
    let mut buf = [0; 512];
    Aio::global().unwrap().scope(|s| {
        let read = s.read_at(&file, &mut buf, 0);
        println!("{}", buf[0]);
        read.wait().unwrap();
    });
}
