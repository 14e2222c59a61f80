//! Two reads into one buffer, although the first has been waited for: it stays borrowed until the scope ends.

use kiocb::Aio;

fn main() {
    let file = std::fs::File::open("/dev/zero").unwrap();
    let mut buf = [0; 512];
    Aio::global().unwrap().scope(|s| {
        s.read_at(&file, &mut buf, 0).wait().unwrap();
        s.read_at(&file, &mut buf, 512).wait().unwrap();
    });
}
