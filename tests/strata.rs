//! Three rules that are read from the sources: the engine's methods stand in strata, user code is called in
//! few files, and each invariant is cited where it is kept.

#[path = "kit/sources.rs"]
mod sources;

use sources::rust_files;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The files with methods of `Engine`. Each calls only methods of files above it, and its own.
const STRATA: &[&str] = &[
    "mod",
    "wake",
    "account",
    "deliver",
    "submission",
    "submit",
    "unplug",
    "reap",
    "end",
    "wait",
    "cancel",
    "verbs",
    "run",
    "lifecycle",
];

/// What only some files may say, mostly because it calls user code or deals with its panics.
#[rustfmt::skip]
const CALLERS: &[(&str, &[&str])] = &[
    // In the simulation these are the program's, not the crate's.
    ("log::", &["simulation/call_out", "simulation/run", "user_code"]),
    ("catch_unwind", &["simulation/call_out", "simulation/run", "user_code"]),
    ("resume_unwind", &["simulation/call_out", "user_code"]),
    // `deliver` and the door itself call wakers; the others wake a thread of the crate, or the kernel.
    (".wake()", &["engine/deliver", "engine/wake", "sys/kernel", "sys/conformance", "engine/model/state", "user_code"]),
    (".wake_by_ref()", &[]),
    // No user code: a clock beside that of `sync` stands still for neither the models nor the simulation.
    ("Instant::now", &["simulation/run", "sync", "sync/lock", "sync/modelled", "sync/simulated"]),
    // `op/work` asks the user's file for its descriptor, in the one place that a panic may leave; `scope` on
    // the caller's stack, before anything is begun; `direct` asks its own file.
    ("as_fd()", &["op/work", "scope/alone", "scope/with", "direct", "direct/limits", "direct/options", "simulation/things"]),
    // A request's body is dropped, or its callback called, by these.
    (".finish())", &["engine/deliver"]),
    (".discard())", &["engine/deliver"]),
];

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All sources by their module (`engine/request/cell`), without comments and tests.
fn sources() -> BTreeMap<String, String> {
    let read = |file: PathBuf| {
        let module = file.strip_prefix(src()).unwrap().with_extension("");
        let module = module.to_str().unwrap().to_owned();
        let module = module.strip_suffix("/mod").unwrap_or(&module).to_owned();
        (module, code_of(&fs::read_to_string(&file).unwrap()))
    };
    rust_files(&src()).into_iter().map(read).collect()
}

fn code_of(text: &str) -> String {
    let text = text.split("\nmod tests {").next().unwrap();
    let lines = text
        .lines()
        .map(|line| match line.trim_start().starts_with("//") {
            true => "",
            false => line.split(" // ").next().unwrap(),
        });
    lines.collect::<Vec<_>>().join("\n")
}

/// The text from `begin` to the brace that closes the first one opened after it.
fn block(text: &str, begin: usize) -> &str {
    let mut depth = 0;
    for (at, c) in text[begin..].char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == '}' && depth == 0 {
            return &text[begin..=begin + at];
        }
    }
    &text[begin..]
}

/// The functions inside `impl Engine` blocks: name and text.
fn methods(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("\nimpl Engine {") {
        let body = block(text, at + 1);
        for (at, _) in body.match_indices("fn ") {
            let name = identifier(&body[at + "fn ".len()..]);
            let is_nested = !body[..at].ends_with("    ") && !body[..at].ends_with(") ");
            if !name.is_empty() && (!is_nested || body[..at].ends_with("pub ")) {
                found.push((name, block(body, at).to_owned()));
            }
        }
    }
    found
}

fn identifier(text: &str) -> String {
    let is_part = |c: &char| c.is_alphanumeric() || *c == '_';
    text.chars().take_while(is_part).collect()
}

/// The methods that a text calls on an engine.
fn calls(text: &str) -> BTreeSet<String> {
    let flat: String = text.split_whitespace().collect();
    let mut found = BTreeSet::new();
    for receiver in ["self.", "engine.", "Engine::"] {
        for (at, _) in flat.match_indices(receiver) {
            let before = flat[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.') {
                continue;
            }
            let rest = &flat[at + receiver.len()..];
            let name = identifier(rest);
            if rest[name.len()..].starts_with(['(', ':']) || receiver == "Engine::" {
                found.insert(name);
            }
        }
    }
    found
}

/// Each method of `Engine`, its stratum, and the methods that it calls.
type Calls = BTreeMap<String, (usize, BTreeSet<String>)>;

fn engine_calls(sources: &BTreeMap<String, String>) -> Calls {
    let mut found = Calls::new();
    for (stratum, file) in STRATA.iter().enumerate() {
        let module = match *file {
            "mod" => "engine".to_owned(),
            file => format!("engine/{file}"),
        };
        for (name, text) in methods(&sources[&module]) {
            let entry = found.entry(name).or_insert((stratum, BTreeSet::new()));
            entry.1.extend(calls(&text));
        }
    }
    found
}

fn upward_calls(calls: &Calls) -> Vec<String> {
    let mut faults = Vec::new();
    for (caller, (stratum, callees)) in calls {
        for callee in callees {
            if let Some((other, _)) = calls.get(callee)
                && other > stratum
            {
                let (from, to) = (STRATA[*stratum], STRATA[*other]);
                faults.push(format!(
                    "{from}::{caller} calls {to}::{callee}, which stands below it"
                ));
            }
        }
    }
    faults
}

/// Whether the text has the words, and not as the end of a longer one.
fn says(text: &str, words: &str) -> bool {
    text.match_indices(words).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        words.starts_with('.') || before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
    })
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n  {}\n", faults.join("\n  "));
}

#[test]
fn each_method_of_the_engine_calls_only_strata_above_it() {
    let calls = engine_calls(&sources());
    assert!(calls.len() > 60, "only {} methods were found", calls.len());
    let edges: usize = calls.values().map(|(_, callees)| callees.len()).sum();
    assert!(edges > 150, "only {edges} calls were found");
    assert_none(&upward_calls(&calls));
}

#[test]
fn a_method_that_is_moved_up_is_found() {
    let mut sources = sources();
    let planted = "\nimpl Engine {\n    fn planted(&self) {\n        self.reap(Role::BYSTANDER, 1);\n    }\n}\n";
    sources.get_mut("engine/wake").unwrap().push_str(planted);
    let faults = upward_calls(&engine_calls(&sources));
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn every_method_of_the_engine_stands_in_a_stratum() {
    let strata: BTreeSet<String> = STRATA.iter().map(|file| format!("engine/{file}")).collect();
    let faults = sources().into_iter().filter_map(|(module, text)| {
        let stands_elsewhere = module.starts_with("engine/")
            && !strata.contains(&module)
            && !methods(&text).is_empty();
        stands_elsewhere.then(|| format!("{module} has methods of Engine, and is no stratum"))
    });
    assert_none(&faults.collect::<Vec<_>>());
}

#[test]
fn the_parts_of_the_engine_do_not_import_its_strata() {
    let mut faults = Vec::new();
    for (module, text) in sources() {
        let Some(file) = module.strip_prefix("engine/") else {
            continue;
        };
        let is_part = !STRATA.contains(&file) && !file.starts_with("model");
        let is_for_tests = ["testing", "schedules"].contains(&file);
        for stratum in STRATA.iter().skip(1).filter(|_| is_part && !is_for_tests) {
            if text.contains(&format!("super::{stratum}::")) {
                faults.push(format!("{module} imports {stratum}"));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn user_code_is_called_only_where_the_table_says() {
    let sources = sources();
    let mut faults = Vec::new();
    for (words, allowed) in CALLERS {
        for (module, text) in &sources {
            if says(text, words) && !allowed.contains(&module.as_str()) {
                faults.push(format!("{module} says {words}: that is for {allowed:?}"));
            }
        }
        for module in *allowed {
            if !sources.get(*module).is_some_and(|text| says(text, words)) {
                faults.push(format!("{module} need not be allowed to say {words}"));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn every_invariant_is_cited_where_it_is_kept() {
    let design = fs::read_to_string(src().with_file_name("DESIGN.md")).unwrap();
    let numbers: BTreeSet<String> = design
        .lines()
        .filter_map(|line| line.strip_prefix("| I"))
        .map(identifier)
        .filter(|number| number.parse::<u32>().is_ok())
        .collect();
    assert!(numbers.len() >= 14, "DESIGN.md numbers {numbers:?}");
    let texts: Vec<_> = rust_files(&src())
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let is_cited = |number: &String| {
        texts.iter().any(|text| {
            text.split(|c: char| !c.is_alphanumeric())
                .any(|word| word.strip_prefix('I') == Some(number))
        })
    };
    let uncited = numbers.iter().filter(|number| !is_cited(number));
    assert_none(
        &uncited
            .map(|number| format!("I{number} is cited nowhere in src"))
            .collect::<Vec<_>>(),
    );
}
