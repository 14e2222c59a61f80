//! Power cuts under the example `pagestore`: nothing that it acknowledged is lost, and a sync that it leaves out is
//! found out. A short share of what `.ci/power-cuts` does by hand.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kiocb_faults::{Torture, need, need_root};

/// For so long rounds are begun.
const SHARE: Duration = Duration::from_secs(10);

/// The store, which cargo builds where it has not yet.
fn pagestore() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut build = Command::new(env!("CARGO"));
    build.args([
        "build",
        "--quiet",
        "--package",
        "kiocb",
        "--example",
        "pagestore",
    ]);
    if !cfg!(debug_assertions) {
        build.arg("--release"); // as this program
    }
    let built = build.current_dir(root).status().expect("cargo is there");
    assert!(built.success(), "it does not compile");
    let program = std::env::current_exe().expect("this program");
    let deps = program.parent().expect("it is in a folder");
    deps.with_file_name("examples").join("pagestore")
}

fn torture(words: &[&str]) -> Torture {
    Torture {
        program: pagestore(),
        arguments: words.iter().map(ToString::to_string).collect(),
        seed: 3,
        most_lines: 200,
        disk_every: 20,
    }
}

#[test]
fn a_store_loses_nothing_that_it_has_acknowledged() {
    need_root!();
    let mut rounds = need!(torture(&[]).start());
    let start = Instant::now();
    while start.elapsed() < SHARE {
        let result = rounds.next_round();
        assert!(result.is_ok(), "round {}: {result:?}", rounds.begun());
    }
}

#[test]
fn a_store_that_leaves_a_sync_out_is_found_out() {
    need_root!();
    let mut rounds = need!(torture(&["--break", "no-log-sync"]).start());
    let found = (0..100).find_map(|_| rounds.next_round().err());
    let found = found.expect("within a hundred power cuts");
    assert!(
        found.to_string().starts_with("torture-verify: exit status"),
        "{found}"
    );
}
