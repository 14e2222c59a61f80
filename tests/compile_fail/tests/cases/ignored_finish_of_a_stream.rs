//! A stream is finished, and whether all is written is not looked at.
#![deny(unused_must_use)]

use kiocb::stream::StreamWriter;

fn end(writer: StreamWriter) {
    writer.finish();
}

fn main() {
    let _ = end;
}
