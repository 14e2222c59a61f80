//! A completion of a queue that is not looked at.
#![deny(unused_must_use)]

use kiocb::Queue;
use kiocb::op::Fsync;
use std::convert::identity;
use std::fs::File;

fn drop_all(queue: &Queue<u64, Fsync<File>>) {
    for (_tag, done) in queue.drain() {
        identity(done);
    }
}

fn main() {
    let _ = drop_all;
}
