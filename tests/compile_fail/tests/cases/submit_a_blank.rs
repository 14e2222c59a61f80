//! Nothing was said about what to do.

use kiocb::Iocb;

fn main() {
    let _ = Iocb::alloc().submit();
}
