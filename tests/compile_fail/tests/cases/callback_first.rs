//! The order is operation, then callback.

use kiocb::Iocb;

fn main() {
    let _ = Iocb::alloc().init_callback(|_| ());
}
