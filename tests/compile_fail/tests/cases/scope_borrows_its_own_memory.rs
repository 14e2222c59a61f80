//! A buffer made inside the scope's closure: it is gone when the scope still waits.

use kiocb::Aio;

fn main() {
    let file = std::fs::File::open("/dev/zero").unwrap();
    let aio = Aio::global().unwrap();
    aio.scope(|s| {
        let mut buf = [0; 512];
        s.read_at(&file, &mut buf, 0).wait().unwrap();
    });
}
