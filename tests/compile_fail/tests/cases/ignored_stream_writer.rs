//! A stream is made, and nothing is written.
#![deny(unused_must_use)]

use kiocb::stream::StreamWriter;

fn make() -> StreamWriter {
    unimplemented!()
}

fn main() {
    make();
}
