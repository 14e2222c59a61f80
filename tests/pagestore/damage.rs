//! A damaged file is an error that says where, and stays as it is.

use crate::check;
use crate::common::watchdog;
use crate::driver::{Clients, DRIVERS};
use crate::files::{Files, Shape};
use crate::store::Store;
use crate::tx::{self, Answer, Body, Reply};
use crate::world::{config, directory, rows};
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};

/// Carries out transactions, one after the other.
struct Script {
    left: Vec<Body>,
    replies: Sender<Reply>,
}

impl crate::driver::Client for Script {
    fn next(&mut self, answer: Option<Reply>) -> Option<Body> {
        if let Some(answer) = answer {
            self.replies.send(answer).unwrap();
        }
        self.left.pop()
    }
}

/// A store with some rows, closed.
fn store() -> (tempfile::TempDir, PathBuf) {
    let (temporary, shape) = (
        directory(),
        Shape {
            page_size: 4096,
            segments: 6,
        },
    );
    let dir = temporary.path().join("store");
    Files::create(&dir, shape).unwrap();
    let put = |key: u32| tx::put(key.to_be_bytes().to_vec(), vec![7; 200]);
    for reply in run(&dir, 0, (0..200).map(put).collect()) {
        assert_eq!(reply, Ok(Answer::Done));
    }
    (temporary, dir)
}

fn run(dir: &std::path::Path, driver: usize, mut bodies: Vec<Body>) -> Vec<Reply> {
    bodies.reverse();
    let (replies, answers) = channel();
    let script = Script {
        left: bodies,
        replies,
    };
    let clients: Clients = vec![Box::new(script)];
    let store = Store::open(dir, config()).unwrap();
    DRIVERS[driver].1.run(store, clients).unwrap();
    answers.iter().collect()
}

fn check_again(dir: &std::path::Path) -> crate::Result<check::Checked> {
    let store = Store::open(dir, config())?;
    check::check(&store.files, &store.meta)
}

#[test]
fn each_driver_sees_what_the_others_have_committed() {
    let _watchdog = watchdog();
    let (_temporary, dir) = store();
    for driver in 0..DRIVERS.len() {
        let key = b"key".to_vec();
        let script = vec![
            tx::put(key.clone(), vec![u8::try_from(driver).unwrap(); 100]),
            tx::get(key.clone()),
            tx::delete(b"nothing".to_vec()),
            tx::scan(key.clone(), 5),
        ];
        let value = vec![u8::try_from(driver).unwrap(); 100];
        let expected = [
            Answer::Done,
            Answer::Value(Some(value.clone())),
            Answer::Done,
            Answer::Rows(vec![(key, value)]),
        ];
        let replies: Result<Vec<_>, _> = run(&dir, driver, script).into_iter().collect();
        assert_eq!(replies.unwrap(), expected);
    }
    assert_eq!(check_again(&dir).unwrap().keys, 201);
}

#[test]
fn a_flipped_bit_is_an_error_that_says_where_and_stays() {
    let _watchdog = watchdog();
    let (_temporary, dir) = store();
    let data = dir.join("data");
    let mut bytes = fs::read(&data).unwrap();
    bytes[4096 * 5 + 1000] ^= 4;
    fs::write(&data, &bytes).unwrap();
    let said = check_again(&dir).unwrap_err().to_string();
    assert!(
        said.contains("page 5 of the data file (at byte 20480) is damaged"),
        "{said}"
    );
    let all = (0..200_u32).map(|key| tx::get(key.to_be_bytes().to_vec()));
    let replies = run(&dir, 0, all.collect());
    let refused = replies.iter().filter(|reply| reply.is_err()).count();
    assert!(
        (1..100).contains(&refused),
        "{refused} of 200 keys are in that page"
    );
    assert!(rows(&dir).is_err());
    assert_eq!(
        fs::read(&data).unwrap()[4096 * 5..4096 * 6],
        bytes[4096 * 5..4096 * 6]
    );
}

#[test]
fn a_page_at_the_place_of_another_is_an_error() {
    let _watchdog = watchdog();
    let (_temporary, dir) = store();
    let mut bytes = fs::read(dir.join("data")).unwrap();
    bytes.copy_within(4096 * 5..4096 * 6, 4096 * 6);
    fs::write(dir.join("data"), &bytes).unwrap();
    let said = check_again(&dir).unwrap_err().to_string();
    assert!(
        said.contains("page 6 of the data file (at byte 24576) says that it is page 5"),
        "{said}"
    );
}

#[test]
fn a_store_without_a_whole_meta_page_is_not_opened() {
    let _watchdog = watchdog();
    let (_temporary, dir) = store();
    let mut bytes = fs::read(dir.join("data")).unwrap();
    bytes[20] ^= 1;
    fs::write(dir.join("data"), &bytes).unwrap();
    assert!(
        check_again(&dir).is_ok(),
        "the other copy may be used: it is a checkpoint, too"
    );
    bytes[4096 + 20] ^= 1;
    fs::write(dir.join("data"), &bytes).unwrap();
    let said = check_again(&dir).unwrap_err().to_string();
    assert!(
        said.contains("both of its first pages are damaged"),
        "{said}"
    );
}

#[test]
fn a_store_is_open_in_one_place_and_made_once() {
    let _watchdog = watchdog();
    let (_temporary, dir) = store();
    let first = Store::open(&dir, config()).unwrap();
    let said = Store::open(&dir, config()).err().unwrap().to_string();
    assert!(said.contains("is open in another process"), "{said}");
    drop(first);
    let shape = Shape {
        page_size: 4096,
        segments: 6,
    };
    let said = Files::create(&dir, shape).unwrap_err().to_string();
    assert!(said.contains("there is a store"), "{said}");
}
