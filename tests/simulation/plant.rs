//! `plant SRC FAULTS`: plants the faults of the list into the sources below SRC, each behind a condition that is true
//! where the environment names it (`KIOCB_FAULT`), and prints their names, each with the seed that finds it, or
//! `missed`. A fault whose lines are not found, or found twice, is an error: then the code has changed, and the list
//! has to. So is one of which the list does not say whether it is found.

use std::collections::BTreeMap;
use std::{env, fs, process};

#[derive(Default)]
struct Fault {
    name: String,
    file: String,
    /// The seed that finds it, or `missed`.
    found: String,
    old: Vec<String>,
    new: Vec<String>,
}

fn main() {
    let mut args = env::args().skip(1);
    let (src, list) = (args.next().expect("SRC"), args.next().expect("FAULTS"));
    let faults = parse(&fs::read_to_string(list).expect("the list"));
    let mut by_file: BTreeMap<String, Vec<&Fault>> = BTreeMap::new();
    for fault in &faults {
        by_file.entry(fault.file.clone()).or_default().push(fault);
    }
    for (file, faults) in by_file {
        let path = format!("{src}/{file}");
        let text = fs::read_to_string(&path).expect("a source");
        fs::write(&path, plant(&text, &faults)).expect("a copy");
    }
    for fault in &faults {
        let known = fault.found == "missed" || fault.found.parse::<u64>().is_ok();
        assert!(known, "{}: neither found nor missed", fault.name);
        println!("{} {}", fault.name, fault.found);
    }
}

fn parse(text: &str) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("fault ") {
            let (name, file) = head.split_once(" in ").expect("NAME in FILE");
            faults.push(Fault {
                name: name.to_owned(),
                file: file.to_owned(),
                ..Fault::default()
            });
        } else if let Some(fault) = faults.last_mut() {
            if let Some(seed) = line.strip_prefix("found by seed ") {
                fault.found = seed.to_owned();
            } else if line.starts_with("missed: ") {
                fault.found = "missed".to_owned();
            }
            fault.old.extend(line.strip_prefix("- ").map(str::to_owned));
            fault.new.extend(line.strip_prefix("+ ").map(str::to_owned));
        }
    }
    faults
}

/// Several faults may change the same lines: each place is the code as it is, and one choice more.
fn plant(text: &str, faults: &[&Fault]) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut places: BTreeMap<usize, (usize, Vec<&Fault>)> = BTreeMap::new();
    for fault in faults {
        let at = find(&lines, fault);
        let place = places.entry(at).or_insert((fault.old.len(), Vec::new()));
        place.1.push(fault);
    }
    let (mut planted, mut at) = (String::new(), 0);
    while at < lines.len() {
        match places.get(&at) {
            Some((len, faults)) => {
                planted += &merged(faults);
                at += len;
            }
            None => {
                planted += lines[at];
                at += 1;
            }
        }
        planted += "\n";
    }
    planted
}

fn find(lines: &[&str], fault: &Fault) -> usize {
    let is_it = |window: &[&str]| window.iter().map(|line| line.trim()).eq(fault.old.iter().map(String::as_str));
    let windows = lines.windows(fault.old.len());
    let found: Vec<_> = windows.enumerate().filter(|(_, window)| is_it(window)).collect();
    if found.len() != 1 {
        eprintln!("{}: its lines are {} times in {}", fault.name, found.len(), fault.file);
        process::exit(1);
    }
    found[0].0
}

/// Faults that change the same lines are statements: one after the other would be carried out twice.
fn merged(faults: &[&Fault]) -> String {
    let (last, before) = faults.split_last().expect("at least one");
    let mut text = String::new();
    for fault in before {
        text += &format!("if {} {{ {} }} else ", condition(&fault.name), with_condition(fault));
    }
    match before.is_empty() {
        true => with_condition(last),
        false => text + &format!("{{ {} }}", with_condition(last)),
    }
}

fn condition(name: &str) -> String {
    format!("crate::sys::seeded::is_planted({name:?})")
}

/// `P` as a word of its own.
fn with_condition(fault: &Fault) -> String {
    let text = fault.new.join("\n");
    let mut planted = String::new();
    for (at, c) in text.char_indices() {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let before = text[..at].chars().next_back().is_some_and(is_part);
        let after = text[at + c.len_utf8()..].chars().next().is_some_and(is_part);
        match c == 'P' && !before && !after {
            true => planted += &condition(&fault.name),
            false => planted.push(c),
        }
    }
    planted
}
