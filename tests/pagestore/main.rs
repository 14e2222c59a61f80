//! What the example `pagestore` promises: an acknowledged transaction survives a power cut, none is half there, damage
//! is an error.
//!
//! The example's modules are compiled into this test, so that its engine can run on a disk of the test's own
//! ([`disk`]), which loses, tears and reorders what was not synced.
#![allow(
    dead_code,
    reason = "of the program the tests need all but its commands"
)]

#[path = "../../examples/pagestore/actor.rs"]
mod actor;
#[path = "../../examples/pagestore/bytes.rs"]
mod bytes;
#[path = "../../examples/pagestore/check.rs"]
mod check;
#[path = "../../examples/pagestore/checkpoint.rs"]
mod checkpoint;
#[path = "../common/mod.rs"]
mod common;
mod damage;
#[path = "../../examples/pagestore/deed.rs"]
mod deed;
mod disk;
#[path = "../../examples/pagestore/driver/mod.rs"]
mod driver;
#[path = "../../examples/pagestore/engine/mod.rs"]
mod engine;
#[path = "../../examples/pagestore/files.rs"]
mod files;
#[path = "../../examples/pagestore/io.rs"]
mod io;
#[path = "../../examples/pagestore/log.rs"]
mod log;
#[path = "../../examples/pagestore/meta.rs"]
mod meta;
#[path = "../../examples/pagestore/page.rs"]
mod page;
#[path = "../../examples/pagestore/pool.rs"]
mod pool;
mod power;
#[path = "../../examples/pagestore/record.rs"]
mod record;
#[path = "../../examples/pagestore/recover.rs"]
mod recover;
#[path = "../../examples/iobench/rng.rs"]
mod rng;
#[path = "../../examples/pagestore/store.rs"]
mod store;
#[path = "../../examples/pagestore/tree.rs"]
mod tree;
#[path = "../../examples/pagestore/tx.rs"]
mod tx;
mod world;

use std::error::Error;

/// As the example has it.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;
