//! The rules that keep the code's shape, read from the sources: imports point one way, and `unsafe` has an
//! address. The tables below are where a change to either is decided, in the open. And names of tests are
//! short enough to be read.

#[path = "kit/sources.rs"]
mod sources;

use sources::rust_files;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom: a module from the rows before its own, and from its own row if that does not
/// make a circle. A folder counts as one module. Not every module need exist.
#[rustfmt::skip]
const ROWS: &[&[&str]] = &[
    &["cache_padded"],
    &["origin"],
    // What everything stands on: threads' tools (loom's in a model), the calls of user code, the random
    // numbers of tests (a file of tests/kit), and the kernel.
    &["sync", "user_code", "random"],
    &["sys", "thread_bound"],
    // The nouns: plain values, each of which can be read alone.
    &["buf", "completion", "direct", "dispatch", "error", "flags", "observe", "stats", "sync_scheduler"],
    &["op"],
    // The machine.
    &["engine"],
    // What a user holds in his hands.
    &["aio", "batch", "cancel_handle", "iocb", "local_aio", "pending", "queue", "scope", "submission", "sync_group"],
    // Whole files, by all of these.
    &["stream"],
    &["lib"],
    // Programs of what stands above, on a simulated kernel.
    &["simulation"],
];

/// The files with `unsafe` in them, and what it is needed for. Each begins with
/// `#![allow(unsafe_code, reason = "…")]`; no other file has the word.
#[rustfmt::skip]
const UNSAFE: &[(&str, &str)] = &[
    ("sys/syscall", "the system calls"),
    ("sys/ring", "reads memory that the kernel writes"),
    ("sys/kernel", "passes addresses to the system calls"),
    ("sys/conformance", "asks kernels directly"),
    ("sys/simulated", "a kernel for tests, which reads iocbs as the true one does"),
    ("sys/seeded/kernel", "a kernel for the simulation, which reads iocbs as the true one does"),
    ("sys/seeded/asked", "reads what an iocb points to, as a kernel does"),
    ("sys/seeded/memory", "uses memory, as a kernel does"),
    ("simulation/things", "a buffer type of the simulation's own"),
    ("origin", "a page that a fork wipes"),
    ("sys/statx", "a system call that nix lacks"),
    ("thread_bound", "carries a value that is not Send past threads that do not touch it"),
    ("queue", "knows that its tags are on their thread"),
    ("sys/process_once", "publishes a value by its address"),
    ("engine/request/cell", "memory shared with the kernel, behind a type-erased pointer"),
    ("engine/request/vtable", "what depends on the type behind that pointer"),
    ("engine/request/owned", "owns a cell, and is a number while the kernel has it"),
    ("engine/request/outgoing", "passes the address of an iocb to the kernel"),
    ("engine/request/watch", "shares a cell with its owner by turns"),
    ("engine/request/arrivals", "takes bodies out of cells of one type"),
    ("engine/request/list", "its tail pointer aliases its last node, and each node its neighbour"),
    ("engine/request/pool", "memory of cells"),
    ("engine/testing", "requests of tests, which promise to lend nothing"),
    ("engine/backlog", "takes a cancelled request out of the middle"),
    ("engine/polls", "keeps a second reference to the cells of what can be cancelled"),
    ("engine/reap", "an event's number is a cell's address"),
    ("engine/end", "destroys the context whose ring other threads read"),
    ("engine/plug", "a thread remembers the engines whose callbacks are on its stack"),
    ("op/work", "the contract between a request and the memory that its iocb names"),
    ("op/transfer", "where a buffer is, for that contract"),
    ("op/rw", "keeps that contract for a read or write"),
    ("op/exact", "keeps that contract while an iocb moves on to the rest of a short transfer"),
    ("op/fsync", "keeps that contract for a sync"),
    ("op/poll_ready", "keeps that contract for a wait for readiness"),
    ("op/job", "passes that contract on"),
    ("op/mixed", "passes that contract on"),
    ("op/tagged", "passes that contract on"),
    ("op/callback", "passes that contract on"),
    ("scope/memory", "memory and files that are borrowed, without their lifetimes"),
    ("scope/work", "keeps that contract for what is borrowed"),
    ("buf", "which memory the kernel may use: unsafe traits and their implementations"),
    ("buf/slice", "a part of such a buffer"),
    ("buf/vectored", "several of them"),
    ("buf/bytes", "the same for types of the crate `bytes`"),
    ("buf/aligned", "aligned memory"),
    ("buf/pool/mapping", "maps memory"),
    ("stream/block", "a buffer that knows how much of it the kernel has filled"),
    ("buf/pool/buf", "a piece of that memory"),
];

/// A source file: its path, its module below `src` (`engine/request`; `engine` for its `mod.rs`), its
/// lines, and the same without comments.
struct Source {
    path: PathBuf,
    module: String,
    lines: Vec<String>,
    code: Vec<String>,
}

impl Source {
    fn read(src: &Path, file: &Path) -> Source {
        let module = file
            .strip_prefix(src)
            .expect("below src")
            .with_extension("");
        let module = module.to_str().expect("UTF-8").trim_end_matches("/mod");
        let text = fs::read_to_string(file).expect("readable");
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let code = lines.iter().map(|line| code_of(line).to_owned()).collect();
        Source {
            path: file.to_owned(),
            module: module.to_owned(),
            lines,
            code,
        }
    }

    /// The module that the table of rows has: a folder's files all belong to it.
    fn top(&self) -> &str {
        self.module.split('/').next().unwrap_or_default()
    }

    /// The modules of this crate that are named after `crate::`.
    fn imports(&self) -> BTreeSet<String> {
        let text = self.code.join(" ");
        let mut found = BTreeSet::new();
        for (at, _) in text.match_indices("crate::") {
            let rest = text[at + "crate::".len()..].trim_start();
            match rest.strip_prefix('{') {
                Some(group) => found.extend(group_members(group)),
                None => found.extend(identifier(rest)),
            }
        }
        // An item of the root (`crate::Aio`) is an import of lib.rs.
        let module = |name: String| {
            if is_module(&name) {
                name
            } else {
                "lib".to_owned()
            }
        };
        found
            .into_iter()
            .map(module)
            .filter(|name| name != self.top())
            .collect()
    }

    /// Whether the file allows unsafe code with a reason, and how often its code says `unsafe_code`.
    fn allowances(&self) -> (bool, usize) {
        let words: Vec<_> = self
            .code
            .iter()
            .flat_map(|line| line.split_whitespace())
            .collect();
        let text = words.join(" ").replace("( ", "(");
        let with_reason = text.contains("#![allow(unsafe_code, reason = \"");
        (with_reason, text.matches("unsafe_code").count())
    }

    fn has_unsafe(&self) -> bool {
        self.code.iter().any(|line| has_word(line, "unsafe"))
    }

    /// `SAFETY:` in the line, in the one after it, or in the comment above its statement.
    fn is_justified(&self, at: usize) -> bool {
        let near = [at, at + 1];
        let near = near.iter().filter_map(|&i| self.lines.get(i));
        let above = self.lines[..at].iter().rev();
        let statement = above.take_while(|line| {
            is_comment(line) || line.trim().starts_with("#[") || continues(line)
        });
        near.chain(statement).any(|line| line.contains("SAFETY:"))
    }
}

fn code_of(line: &str) -> &str {
    if is_comment(line) {
        ""
    } else {
        line.split(" // ").next().unwrap_or(line)
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// Whether the statement that this line is part of goes on in the next one.
fn continues(line: &str) -> bool {
    let line = code_of(line).trim_end();
    !line.is_empty() && !line.ends_with([';', '}'])
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part)
    })
}

fn identifier(text: &str) -> Option<String> {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// The first names in `a::b, c::{d, e}}…`, which follows `crate::{`.
fn group_members(text: &str) -> Vec<String> {
    let mut depth = 1;
    let mut members = vec![String::new()];
    for c in text.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        match c {
            _ if depth == 0 => break,
            ',' if depth == 1 => members.push(String::new()),
            _ => members.last_mut().expect("never empty").push(c),
        }
    }
    members
        .iter()
        .filter_map(|member| identifier(member.trim_start()))
        .collect()
}

fn is_module(name: &str) -> bool {
    row_of(name).is_some() && name != "lib"
}

fn row_of(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// All sources but the generated ones.
fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = rust_files(&src);
    files.retain(|file| !file.starts_with(src.join("sys/bindings")));
    assert!(!files.is_empty(), "no sources in {}", src.display());
    files.iter().map(|file| Source::read(&src, file)).collect()
}

/// All sources of tests: the crate's own, the programs below `tests`, and the workspace members there.
fn test_sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "tests", "examples"];
    let files = folders.map(|folder| rust_files(&root.join(folder)));
    files.concat()
}

/// The names of the tests in a file: what follows `fn` after `#[test]`.
fn test_names(text: &str) -> Vec<String> {
    let is_attribute = |line: &&str| line.trim() == "#[test]";
    let mut lines = text.lines();
    let mut names = Vec::new();
    while lines.find(is_attribute).is_some() {
        let function = lines.find_map(|line| line.trim_start().strip_prefix("fn "));
        names.extend(function.and_then(identifier));
    }
    names
}

/// One line for each fault, so that a run shows all of them.
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n  {}\n", faults.join("\n  "));
}

#[test]
fn every_module_has_a_row() {
    let unknown = |source: &Source| row_of(source.top()).is_none();
    let sources = sources();
    let faults = sources.iter().filter(|source| unknown(source));
    let faults: Vec<_> = faults
        .map(|source| format!("{} is in no row", source.module))
        .collect();
    assert_none(&faults);
}

#[test]
fn imports_point_one_way() {
    let mut faults = Vec::new();
    for source in sources() {
        let row = row_of(source.top());
        for import in source.imports() {
            if row_of(&import) > row {
                faults.push(format!(
                    "{} imports {import}, which has a later row",
                    source.module
                ));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn no_imports_go_in_a_circle() {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        graph
            .entry(source.top().to_owned())
            .or_default()
            .extend(source.imports());
    }
    // Takes away what imports, or is imported by, nothing that is left, until nothing changes.
    loop {
        let left: BTreeSet<String> = graph.keys().cloned().collect();
        let imported: BTreeSet<String> = graph.values().flatten().cloned().collect();
        graph.retain(|module, imports| {
            imports.retain(|import| left.contains(import));
            !imports.is_empty() && imported.contains(module)
        });
        if graph.len() == left.len() {
            break;
        }
    }
    let faults = graph
        .iter()
        .map(|(module, imports)| format!("{module} imports {imports:?}"));
    assert_none(&faults.collect::<Vec<_>>());
}

#[test]
fn unsafe_code_is_where_the_table_says() {
    let sources = sources();
    let fault = |source: &Source| Some(format!("{} {}", source.module, unsafe_fault(source)?));
    assert_none(&sources.iter().filter_map(fault).collect::<Vec<_>>());
}

fn unsafe_fault(source: &Source) -> Option<&'static str> {
    let listed = UNSAFE.iter().any(|(module, _)| *module == source.module);
    match (listed, source.has_unsafe(), source.allowances()) {
        (false, true, _) => Some("has unsafe code and is not listed"),
        (true, false, _) => Some("is listed and has no unsafe code"),
        (false, false, (_, 1..)) => Some("allows unsafe code and has none"),
        (true, true, (false, _) | (_, 2..)) => {
            Some("must allow it once, for the file, with a reason")
        }
        _ => None,
    }
}

#[test]
fn every_unsafe_block_and_impl_says_why() {
    let mut faults = Vec::new();
    for source in sources() {
        for (at, line) in source.code.iter().enumerate() {
            let is_site = line.contains("unsafe {") || line.contains("unsafe impl");
            if is_site && !source.is_justified(at) {
                let path = source.path.display();
                faults.push(format!("{path}:{}: no SAFETY comment", at + 1));
            }
        }
    }
    assert_none(&faults);
}

/// A longer one is a riddle, and is cut off where it is printed.
const LONGEST_TEST_NAME: usize = 70;

#[test]
fn test_names_are_statements_of_at_most_70_characters() {
    let mut faults = Vec::new();
    let mut count = 0;
    for file in test_sources() {
        let names = test_names(&fs::read_to_string(&file).expect("readable"));
        count += names.len();
        let long = names.iter().filter(|name| name.len() > LONGEST_TEST_NAME);
        faults.extend(long.map(|name| format!("{}: {name}", file.display())));
    }
    assert!(count > 400, "only {count} tests were found");
    assert_none(&faults);
}
